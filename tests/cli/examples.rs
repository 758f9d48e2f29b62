//! Every example is sound, without a warning.

use crate::{rendezvip, top};

#[test]
fn every_example_validates_without_a_warning() {
    let mut examples = 0;
    for entry in std::fs::read_dir(top().join("examples")).expect("there are examples").flatten() {
        if !entry.path().is_dir() {
            continue;
        }
        examples += 1;
        assert!(entry.path().join("README.md").is_file(), "{} has no README.md", entry.path().display());
        let output = rendezvip().arg("validate").arg(entry.path()).output().expect("it runs");
        let stdout = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && stdout.starts_with("fine: ") && !stdout.contains("warning"), "{stdout}");
    }
    assert!(examples >= 4);
}
