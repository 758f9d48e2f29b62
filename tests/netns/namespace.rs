//! A namespace for each test, made by running the test binary once more under `unshare`.

use std::process::Command;

use rendezvip::vip::Vip;

const INSIDE: &str = "RENDEZVIP_NETNS_TEST";

const ROLE: &str = "RENDEZVIP_NETNS_ROLE";

/// The environment of a process that plays a role.
pub fn role(words: &str) -> [(&'static str, String); 1] {
    [(ROLE, words.to_owned())]
}

/// The role that this process plays.
pub fn played() -> Option<String> {
    std::env::var(ROLE).ok()
}

/// How to enter fresh namespaces here: as anybody with a user namespace, else as root without.
fn launcher() -> Option<Vec<&'static str>> {
    [vec!["--user", "--map-root-user", "--net"], vec!["--net"]].into_iter().find(|arguments| {
        Command::new("unshare").args(arguments).arg("true").output().is_ok_and(|output| output.status.success())
    })
}

/// Runs `body` inside fresh namespaces; `name` is the path of the calling test.
pub fn within(name: &str, body: impl FnOnce()) {
    if std::env::var(INSIDE).as_deref() == Ok(name) {
        return body();
    }
    let Some(arguments) = launcher() else {
        println!("skipped: no user or network namespace can be made here");
        return;
    };
    let output = Command::new("unshare")
        .args(arguments)
        .arg(std::env::current_exe().expect("the test binary has a path"))
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env(INSIDE, name)
        .output()
        .expect("unshare runs");
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    print!("{text}");
}

/// Runs `ip` with the words of `line`.
pub fn ip(line: &str) {
    let output = Command::new("ip").args(line.split_whitespace()).output().expect("iproute2 is installed");
    assert!(output.status.success(), "ip {line}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A pair `va` and `vb`, both up and with a carrier; `va` is the node's, with 10.99.0.10/16 and fd99::10/64. Its index.
pub fn veth() -> u32 {
    ip("link set lo up");
    ip("link add va type veth peer name vb");
    ip("link set va up");
    ip("link set vb up");
    ip("addr add 10.99.0.10/16 dev va");
    ip("addr add fd99::10/64 dev va nodad");
    nix::net::if_::if_nametoindex("va").expect("va exists")
}

/// A VIP.
pub fn vip(text: &str) -> Vip {
    text.parse().expect("a VIP")
}

/// The first `count` addresses of 10.100.0.0/16.
pub fn vips(count: u16) -> impl Iterator<Item = Vip> {
    (1..=count).map(|number| vip(&format!("10.100.{}.{}", number >> 8, number & 255)))
}
