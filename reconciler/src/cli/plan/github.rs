//! A plan in the log of a GitHub workflow: a notice that sums up, and one for each of the first moves.
//!
//! In: [`Plan`]. Out: workflow commands. Not here: what it means (`forecast`).

use super::forecast::Plan;
use super::name_or_nobody;

/// GitHub shows ten notices of a step.
const NOTICES: usize = 9;

/// The plan as workflow commands.
pub fn github(plan: &Plan) -> String {
    let mut text = format!("::notice title=rendezvip plan::{}\n", escaped(&plan.headline()));
    for one in plan.moves.iter().take(NOTICES) {
        let (from, to) = (name_or_nobody(one.from.as_ref()), name_or_nobody(one.to.as_ref()));
        let interruption = plan.interruption(one);
        let line = format!("{from} to {to}: {} (interruption: {interruption})", one.cause);
        text += &format!(
            "::notice title={} of pool {}::{}\n",
            one.vip.to_string().replace(':', "%3A"),
            one.pool,
            escaped(&line)
        );
    }
    text
}

/// As the toolkit's `escapeData` does (actions/toolkit, packages/core/src/command.ts).
fn escaped(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}
