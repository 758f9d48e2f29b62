//! Which commits have to be signed, and whether they are.
//!
//! In: the mirror, a commit, what runs, the files that name who may sign. Out: nothing, or the first commit that is not
//! signed as it has to be. Not here: signatures themselves (`sshsig`, `openpgp`).

use std::path::Path;

use git2::{ErrorCode, Oid, Repository, Sort};

use super::child::oid;
use super::protocol::{Rule, Signers};
use super::{openpgp, sshsig};
use crate::manifest::diagnostic::printable;
use crate::revision::CommitHash;
use crate::source::problem::{Code, Problem};

/// `strict` looks at so many commits at once; more wait for a person.
const MOST: usize = 10_000;
/// Files of keys are smaller.
const LARGEST: u64 = 16 << 20;

/// Is `head` signed as `signers` asks, and with `strict` every commit that came since `activated`?
pub fn check(
    repository: &Repository,
    head: Oid,
    activated: Option<CommitHash>,
    signers: &Signers,
) -> Result<(), Problem> {
    let keys = Keys::read(signers)?;
    let mut commits = vec![head];
    if let (Rule::Strict, Some(activated)) = (signers.rule, activated) {
        let since = || -> Result<Vec<Oid>, git2::Error> {
            let mut walk = repository.revwalk()?;
            walk.set_sorting(Sort::TOPOLOGICAL)?;
            walk.push(head)?;
            // After a rewrite it may be gone; then everything is new.
            if let Some(activated) = oid(activated).ok().filter(|id| repository.find_commit(*id).is_ok()) {
                walk.hide(activated)?;
            }
            walk.take(MOST + 1).collect()
        };
        commits = since().map_err(super::child::problem)?;
        if commits.len() > MOST {
            let message = format!("more than {MOST} commits since the one that runs would have to be verified");
            return Err(Problem::new(Code::NotVerified, message));
        }
    }
    // The oldest first: it is where somebody went wrong.
    for commit in commits.into_iter().rev() {
        keys.check(repository, commit)?;
    }
    Ok(())
}

/// Who may sign.
struct Keys {
    ssh: Option<Vec<sshsig::Allowed>>,
    openpgp: Option<Vec<openpgp::Key>>,
}

impl Keys {
    fn read(signers: &Signers) -> Result<Self, Problem> {
        let ssh = signers.allowed_signers_file.as_ref().map(|path| {
            let text = String::from_utf8(read(path)?).map_err(|_| unusable(path, "it is not UTF-8"))?;
            sshsig::allowed_signers(&text).map_err(|what| unusable(path, &what))
        });
        let openpgp = signers
            .keyring_file
            .as_ref()
            .map(|path| openpgp::keyring(&read(path)?).map_err(|what| unusable(path, &what)));
        Ok(Self { ssh: ssh.transpose()?, openpgp: openpgp.transpose()? })
    }

    fn check(&self, repository: &Repository, commit: Oid) -> Result<(), Problem> {
        let refused = |why: &str| {
            let why = printable(why);
            Err(Problem::new(Code::NotVerified, format!("commit {} is not trusted: {why}", &commit.to_string()[..12])))
        };
        let (signature, content) = match repository.extract_signature(&commit, None) {
            Ok(found) => found,
            Err(error) if error.code() == ErrorCode::NotFound => return refused("it is not signed"),
            Err(error) => return refused(error.message()),
        };
        let Ok(signature) = std::str::from_utf8(&signature) else { return refused("its signature is no text") };
        let time = repository.find_commit(commit).map_err(super::child::problem)?.committer().when().seconds();
        let verified = if signature.contains("BEGIN SSH SIGNATURE") {
            match &self.ssh {
                Some(signers) => sshsig::verify(signature, &content, time, signers),
                None => Err("it is signed by an ssh key, and no `allowedSignersFile` says whose count".to_owned()),
            }
        } else if signature.contains("BEGIN PGP SIGNATURE") {
            match &self.openpgp {
                Some(keys) => openpgp::verify(signature, &content, keys),
                None => Err("it is signed by an OpenPGP key, and no `keyringFile` says whose count".to_owned()),
            }
        } else {
            Err("its signature is neither by ssh nor by OpenPGP".to_owned())
        };
        match verified {
            Ok(_) => Ok(()),
            Err(why) => refused(&why),
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Problem> {
    match std::fs::metadata(path) {
        Ok(file) if file.len() > LARGEST => Err(unusable(path, "it is too large")),
        Ok(_) => std::fs::read(path).map_err(|error| unusable(path, &error.to_string())),
        Err(error) => Err(unusable(path, &error.to_string())),
    }
}

fn unusable(path: &Path, what: &str) -> Problem {
    Problem::new(Code::NotVerified, format!("{} says who may sign, and cannot be used: {what}", path.display()))
}
