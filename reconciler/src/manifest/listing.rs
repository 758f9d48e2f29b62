//! Which files of a tree count as manifests.
//!
//! In: paths relative to the source path, `/` between parts; the same for a directory and for a git tree.
//! Out: yes or no, and the chosen ones in order. Not here: reading them (`agent`, `cli`).

use std::collections::BTreeSet;

/// A folder that holds a file of this name is left out, with all below it.
pub const IGNORE_FILE: &str = ".rendezvipignore";
/// What `rendezvip render` writes; never input.
pub const LOCK_FILE: &str = "placement.lock.yaml";
/// What the scribe writes; never input.
pub const STATUS_FOLDER: &str = "status";

/// May a folder of this name hold manifests?
pub fn is_input_folder(name: &str) -> bool {
    !name.starts_with('.') && name != STATUS_FOLDER
}

/// Does a file at this path count, as far as its path alone can tell?
///
/// It does if it is `*.yaml` or `*.yml`, no part of it begins with a dot, no folder is called `status`, and
/// it is not `placement.lock.yaml`.
pub fn is_input(path: &str) -> bool {
    let (folders, name) = match path.rsplit_once('/') {
        Some((folders, name)) => (Some(folders), name),
        None => (None, path),
    };
    let yaml = name.ends_with(".yaml") || name.ends_with(".yml");
    yaml && !name.starts_with('.')
        && name != LOCK_FILE
        && folders.is_none_or(|folders| folders.split('/').all(is_input_folder))
}

/// The paths that count among all files of a tree, sorted, each once.
pub fn select<'a>(paths: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let mut ignored = BTreeSet::new();
    let mut inputs = BTreeSet::new();
    for path in paths {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        if name == IGNORE_FILE {
            ignored.insert(folder);
        } else if is_input(path) {
            inputs.insert(path);
        }
    }
    let ancestors = |path: &'a str| path.match_indices('/').map(|(at, _)| &path[..at]);
    inputs.retain(|path| !ignored.contains("") && !ancestors(path).any(|folder| ignored.contains(folder)));
    inputs.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_yaml_that_nobody_generated_or_hid_counts() {
        for good in ["a.yaml", "a.yml", "pools/deep/er/a.yaml", "status.yaml", "statuses/a.yaml", "a b/ü.yaml"] {
            assert!(is_input(good), "{good}");
        }
        for bad in [
            "a.yaml.bak",
            "README.md",
            "yaml",
            ".a.yaml",
            ".github/a.yaml",
            "x/.y/a.yaml",
            "status/pools/web.yaml",
            "x/status/a.yaml",
            "placement.lock.yaml",
            "x/placement.lock.yaml",
            "a.YAML",
            ".yaml",
        ] {
            assert!(!is_input(bad), "{bad}");
        }
    }

    #[test]
    fn a_folder_that_holds_an_ignore_file_is_left_out_with_all_below_it() {
        let tree = ["b/x.yaml", "a.yaml", "charts/.rendezvipignore", "charts/t/x.yaml", "charts2/x.yaml", "a.yaml"];
        assert_eq!(select(tree), ["a.yaml", "b/x.yaml", "charts2/x.yaml"]);
        assert!(select([".rendezvipignore", "a.yaml"]).is_empty());
    }
}
