//! `rendezvip wait`: until the cluster runs a revision, or one that descends from it.
//!
//! In: a revision, how long. Out: a line; exit 0 once it runs, 1 when time is over. Not here: who says so (`told`).

use std::time::Duration;

use clap::Args;

use super::exit::Exit;
use super::failure::Failure;
use super::order::{Format, PAUSE, patience, refuse, say};
use super::told::{Teller, Told};
use crate::agent::clock;
use crate::manifest::diagnostic::printable;
use crate::manifest::fields::written;
use crate::source::problem::Code;
use crate::status::condition::{ConditionType, Truth};
use crate::status::snapshot::Snapshot;
use crate::time::Instant;

/// Wait until the cluster runs a revision or one that descends from it: what a pipeline needs after a merge
#[derive(Debug, Args)]
pub struct Wait {
    /// The commit, as a full or short hash, or as `status` prints it
    #[arg(long, value_name = "REV", value_parser = hash)]
    revision: String,
    /// Give up after so long
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = patience)]
    timeout: Duration,
    #[command(flatten)]
    teller: Teller,
    /// How the answer is written
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Between two fetches into a clone: status commits come each 15 s at rest, and at once after a change.
const FETCH: Duration = Duration::from_secs(2);

/// A commit that is refused for so long stays so: the node's next look would have told otherwise.
const REFUSED: Duration = Duration::from_secs(3);

/// Something that can begin a commit's hash.
fn hash(text: &str) -> Result<String, String> {
    let digits = text.rsplit_once('@').map_or(text, |(_, hash)| hash);
    let digits = digits.strip_prefix("sha1:").or_else(|| digits.strip_prefix("sha256:")).unwrap_or(digits);
    if (4..=64).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(text.to_owned());
    }
    Err("write at least four digits of the commit's hash, as `git rev-parse HEAD` prints it".to_owned())
}

/// Runs the command.
pub fn run(args: &Wait) -> Exit {
    let told = match args.teller.find() {
        Ok(told) => told,
        Err(error) => return refuse(&error),
    };
    match wait(args, &told) {
        Ok(line) => {
            say(args.format, true, &line);
            Exit::Fine
        }
        Err(failure) => refuse(&failure),
    }
}

fn wait(args: &Wait, told: &Told) -> Result<String, Failure> {
    let start = clock::now();
    let mut fetched: Option<Instant> = None;
    let mut refused: Option<Instant> = None;
    loop {
        let now = clock::now();
        let mut fetch = Ok(());
        if let Told::Clone(clone) = told
            && clone.has_origin()
            && fetched.is_none_or(|last| now.since(last) >= FETCH)
        {
            fetched = Some(now);
            fetch = clone.fetch();
        }
        // A node that restarts meanwhile is asked again, and so is a server.
        let answer = fetch.and_then(|()| told.runs(&args.revision));
        let wanted = printable(&args.revision).into_owned();
        if matches!(answer, Ok(Some(true))) {
            return Ok(format!("the cluster runs {wanted}"));
        }
        if answer.is_ok() && is_refused(told, &args.revision, &mut refused, now) {
            let (snapshot, _) = told.status()?;
            return Err(does_not_run(&snapshot, &format!("the cluster refuses {wanted}")));
        }
        if clock::now().since(start) >= args.timeout {
            answer?;
            let (snapshot, _) = told.status()?;
            let after = written(args.timeout);
            return Err(does_not_run(&snapshot, &format!("after {after} the cluster does not run {wanted}")));
        }
        std::thread::sleep(PAUSE.min(args.timeout));
    }
}

/// Is this very commit refused for what is in it, and has been for a while? Then waiting on is of no use.
fn is_refused(told: &Told, revision: &str, since: &mut Option<Instant>, now: Instant) -> bool {
    let Ok((snapshot, _)) = told.status() else { return false };
    let hopeless = [Code::InvalidManifests, Code::NotVerified].map(Code::reason);
    let stalled = snapshot.conditions.iter().any(|it| {
        it.kind == ConditionType::Stalled && it.status == Truth::True && hopeless.contains(&it.reason.as_str())
    });
    if !stalled || !snapshot.attempted.as_ref().is_some_and(|attempted| attempted.matches(revision)) {
        *since = None;
        return false;
    }
    now.since(*since.get_or_insert(now)) >= REFUSED
}

fn does_not_run(snapshot: &Snapshot, what: &str) -> Failure {
    let runs =
        snapshot.revision.as_ref().map_or_else(|| "nothing".to_owned(), |it| printable(&it.short()).into_owned());
    let message = format!("{what}; it runs {runs}");
    let stalled = snapshot.conditions.iter().find(|it| it.kind == ConditionType::Stalled && it.status == Truth::True);
    let help = match stalled {
        Some(stalled) => format!("it is stalled: {}", printable(stalled.message.trim_end())),
        None => {
            "`rendezvip status` shows what each node has loaded, `rendezvip diff` what is not as declared".to_owned()
        }
    };
    Failure::new("RV0613", message, help)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_is_written_as_git_or_status_write_it() {
        for good in ["0123", "0123456789abcdef0123456789abcdef01234567", "main@sha1:0123456", "DEADBEEF"] {
            assert_eq!(hash(good), Ok(good.to_owned()));
        }
        for bad in ["", "main", "HEAD~1", "012", "main@sha1:", "--all", "0123\n"] {
            assert!(hash(bad).is_err(), "{bad:?}");
        }
    }
}
