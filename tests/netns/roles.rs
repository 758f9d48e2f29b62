//! Other processes that a test starts: this binary again, with a role.

use crate::namespace::played;

/// Not a promise of its own: does nothing unless a test of `keeper` starts it.
#[test]
fn daemon() {
    let Some(role) = played() else { return };
    let (port, orderly) = role.split_once(' ').unwrap();
    crate::keeper::daemon(port.parse().unwrap(), orderly == "true");
}
