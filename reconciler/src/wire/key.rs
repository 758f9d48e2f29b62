//! Which keys does a node seal with and accept, and how are they written in its key file?
//!
//! In: 32 random bytes, or the text of a key file. Out: [`Key`], [`KeyRing`], or the line that is at fault.
//! Not here: reading the file (`agent`), drawing random bytes (`cli`), what a key does ([`seal`](super::seal)).
//!
//! A key is one line, `rvkey1:ID:SECRET`: the format's version, eight hexadecimal digits that follow
//! from the secret (so a line that was cut or mistyped is found out), and 64 that are the secret. The first
//! line of a file seals; all of them are accepted. So a key is rotated without a gap in three rounds
//! over all nodes: append the new line, move it to the top, remove the old one.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

/// What each key line begins with.
pub const PREFIX: &str = "rvkey1";

/// The most keys a ring holds: two during a rotation, some to spare.
pub const MAX_KEYS: usize = 16;

/// Names a key in datagrams, logs and key files; tells nothing of its secret.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub u32);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A secret that the nodes of a cluster share.
///
/// `Debug` prints its id alone; the secret is written by [`Key::line`] and nothing else.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    id: KeyId,
    secret: [u8; 32],
}

impl Key {
    /// The key made of 32 bytes that nobody can guess.
    pub fn new(secret: [u8; 32]) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"rendezvip key id\0");
        hash.update(secret);
        let hash: [u8; 32] = hash.finalize().into();
        Self { id: KeyId(u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]])), secret }
    }

    /// What names this key where its secret must not be seen.
    pub const fn id(&self) -> KeyId {
        self.id
    }

    /// The line of a key file that holds this key, without an end of line. It is a secret.
    pub fn line(&self) -> String {
        use fmt::Write as _;
        self.secret.iter().fold(format!("{PREFIX}:{}:", self.id), |mut line, byte| {
            let _ = write!(line, "{byte:02x}");
            line
        })
    }

    pub(super) const fn secret(&self) -> &[u8; 32] {
        &self.secret
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.id)
    }
}

/// What is wrong with a key file. No variant holds any part of a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyFault {
    /// RV0701: no key in the file.
    NoKey,
    /// RV0702: not `rvkey1:`, 8 hexadecimal digits, `:` and 64 of them.
    NotAKey,
    /// RV0703: the id does not follow from the secret.
    Damaged,
    /// RV0704: the same key, or another with the same id, stands further up.
    Twice,
    /// RV0705: more than [`MAX_KEYS`].
    TooMany,
}

impl KeyFault {
    /// The stable code that a person can look up.
    pub const fn code(self) -> &'static str {
        match self {
            Self::NoKey => "RV0701",
            Self::NotAKey => "RV0702",
            Self::Damaged => "RV0703",
            Self::Twice => "RV0704",
            Self::TooMany => "RV0705",
        }
    }
}

impl fmt::Display for KeyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoKey => f.write_str("there is no key in it; `rendezvip keygen` prints one"),
            Self::NotAKey => {
                f.write_str("not a key: expected `rvkey1:`, 8 hexadecimal digits, `:` and 64 hexadecimal digits")
            }
            Self::Damaged => {
                f.write_str("the key is damaged: its id does not fit the rest of the line; copy the whole line again")
            }
            Self::Twice => f.write_str("this key stands further up already"),
            Self::TooMany => write!(f, "more than {MAX_KEYS} keys; remove those that no node seals with any more"),
        }
    }
}

/// Why a key file was refused, and at which line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyFileError {
    /// The line, from 1; where the whole file is at fault, its last.
    pub line: usize,
    /// What is wrong with it.
    pub fault: KeyFault,
}

impl KeyFileError {
    /// What a person reads of it, for the file at `path`.
    pub fn report(&self, path: &str) -> String {
        format!("{path}:{}: error[{}]: {}", self.line, self.fault.code(), self.fault)
    }
}

impl fmt::Display for KeyFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.fault)
    }
}

impl std::error::Error for KeyFileError {}

impl FromStr for Key {
    type Err = KeyFault;

    /// Reads one key line.
    fn from_str(line: &str) -> Result<Self, KeyFault> {
        let mut fields = line.split(':');
        let (Some(PREFIX), Some(id), Some(digits), None) = (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            return Err(KeyFault::NotAKey);
        };
        let hexadecimal = |text: &str, len| text.len() == len && text.bytes().all(|b| b.is_ascii_hexdigit());
        if !hexadecimal(id, 8) || !hexadecimal(digits, 64) {
            return Err(KeyFault::NotAKey);
        }
        let mut secret = [0; 32];
        for (at, byte) in secret.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).map_err(|_| KeyFault::NotAKey)?;
        }
        let key = Self::new(secret);
        if u32::from_str_radix(id, 16) == Ok(key.id.0) { Ok(key) } else { Err(KeyFault::Damaged) }
    }
}

/// Why a ring was not changed as asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RingError {
    /// No key of the ring has this id.
    Unknown(KeyId),
    /// The key that seals cannot be removed: use another first.
    InUse(KeyId),
    /// Another key with this id is in the ring.
    Twice(KeyId),
    /// The ring holds [`MAX_KEYS`] already.
    Full,
}

impl fmt::Display for RingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(id) => write!(f, "no key {id} is installed"),
            Self::InUse(id) => write!(f, "key {id} seals what this node sends; use another first"),
            Self::Twice(id) => write!(f, "another key {id} is installed"),
            Self::Full => write!(f, "{MAX_KEYS} keys are installed; remove one first"),
        }
    }
}

impl std::error::Error for RingError {}

/// The keys that a node accepts, one of which it seals with. Never empty.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyRing {
    // The first one seals.
    keys: Vec<Key>,
}

impl KeyRing {
    /// A ring of one key, which seals.
    pub fn new(key: Key) -> Self {
        Self { keys: vec![key] }
    }

    /// Reads a key file. Empty lines and what follows a `#` are comments.
    pub fn parse(text: &str) -> Result<Self, KeyFileError> {
        let mut keys: Vec<Key> = Vec::new();
        let mut last = 1;
        for (line, content) in (1..).zip(text.lines()) {
            last = line;
            let content = content.split('#').next().unwrap_or_default().trim();
            if content.is_empty() {
                continue;
            }
            let at = |fault| KeyFileError { line, fault };
            let key: Key = content.parse().map_err(at)?;
            if keys.iter().any(|other| other.id == key.id) {
                return Err(at(KeyFault::Twice));
            }
            if keys.len() == MAX_KEYS {
                return Err(at(KeyFault::TooMany));
            }
            keys.push(key);
        }
        if keys.is_empty() { Err(KeyFileError { line: last, fault: KeyFault::NoKey }) } else { Ok(Self { keys }) }
    }

    /// The key that seals what this node sends.
    pub fn sending(&self) -> &Key {
        &self.keys[0]
    }

    /// The key of this id, if it is accepted.
    pub fn accepted(&self, id: KeyId) -> Option<&Key> {
        self.keys.iter().find(|key| key.id == id)
    }

    /// The ids of all accepted keys, the sending one first.
    pub fn ids(&self) -> impl Iterator<Item = KeyId> + '_ {
        self.keys.iter().map(Key::id)
    }

    /// Accepts `key` too. Installing a key again changes nothing.
    pub fn install(&mut self, key: Key) -> Result<(), RingError> {
        match self.accepted(key.id) {
            Some(same) if *same == key => Ok(()),
            Some(_) => Err(RingError::Twice(key.id)),
            None if self.keys.len() == MAX_KEYS => Err(RingError::Full),
            None => {
                self.keys.push(key);
                Ok(())
            }
        }
    }

    /// Seals with the key of this id from now on; the one that sealed until now stays accepted.
    pub fn use_key(&mut self, id: KeyId) -> Result<(), RingError> {
        let at = self.keys.iter().position(|key| key.id == id).ok_or(RingError::Unknown(id))?;
        self.keys.swap(0, at);
        Ok(())
    }

    /// Accepts the key of this id no longer.
    pub fn remove(&mut self, id: KeyId) -> Result<(), RingError> {
        match self.keys.iter().position(|key| key.id == id) {
            None => Err(RingError::Unknown(id)),
            Some(0) => Err(RingError::InUse(id)),
            Some(at) => {
                self.keys.remove(at);
                Ok(())
            }
        }
    }
}

impl fmt::Display for KeyRing {
    /// The ids alone: a line for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sealing with key {}", self.keys[0].id)?;
        for (at, key) in self.keys.iter().enumerate().skip(1) {
            let joint = if at == 1 { "; accepting also" } else { "," };
            write!(f, "{joint} {}", key.id)?;
        }
        Ok(())
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.keys).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(byte: u8) -> String {
        Key::new([byte; 32]).line()
    }

    #[test]
    fn a_key_line_is_pinned() {
        insta::assert_snapshot!(
            line(7),
            @"rvkey1:36472010:0707070707070707070707070707070707070707070707070707070707070707"
        );
        assert_eq!(line(7).parse(), Ok(Key::new([7; 32])));
    }

    #[test]
    fn the_first_key_of_a_file_seals_and_all_are_accepted() {
        let text = format!("# gossip keys of lab\r\n\n  {}  # since May\r\n{}\n", line(1), line(2));
        let ring = KeyRing::parse(&text).unwrap();
        assert_eq!(ring.sending(), &Key::new([1; 32]));
        assert_eq!(ring.ids().collect::<Vec<_>>(), [Key::new([1; 32]).id(), Key::new([2; 32]).id()]);
        assert_eq!(ring.accepted(Key::new([3; 32]).id()), None);
    }

    #[test]
    fn a_ring_is_told_by_its_ids_alone() {
        let ring = KeyRing::parse(&format!("{}\n{}\n{}\n", line(7), line(1), line(2))).unwrap();
        insta::assert_snapshot!(ring, @"sealing with key 36472010; accepting also 6877f401, a00a36e3");
        insta::assert_snapshot!(KeyRing::new(Key::new([7; 32])), @"sealing with key 36472010");
    }

    #[test]
    fn a_bad_key_file_names_the_line_and_the_fault() {
        let error = |text: &str| KeyRing::parse(text).map_err(|e| (e.line, e.fault)).unwrap_err();
        assert_eq!(error(""), (1, KeyFault::NoKey));
        assert_eq!(error("# nothing\n\n# more\n"), (3, KeyFault::NoKey));
        assert_eq!(error("\nhunter2\n"), (2, KeyFault::NotAKey));
        assert_eq!(error(&line(1)[..60]), (1, KeyFault::NotAKey));
        assert_eq!(error(&format!("{}:x", line(1))), (1, KeyFault::NotAKey));
        assert_eq!(error(&line(1).replace("rvkey1", "rvkey2")), (1, KeyFault::NotAKey));
        assert_eq!(error(&line(1).replace("01", "é")), (1, KeyFault::NotAKey));
        assert_eq!(error(&line(1).replacen(":01", ":02", 1)), (1, KeyFault::Damaged));
        assert_eq!(error(&format!("{}\n{}", line(1), line(1))), (2, KeyFault::Twice));
        let many: Vec<_> = (0..=MAX_KEYS as u8).map(line).collect();
        assert_eq!(error(&many.join("\n")), (17, KeyFault::TooMany));
    }

    #[test]
    fn nothing_but_the_key_line_shows_a_secret() {
        let key = Key::new([0xab; 32]);
        let ring = KeyRing::new(key.clone());
        let damaged = key.line().replacen(":ab", ":ba", 1);
        let error = KeyRing::parse(&damaged).unwrap_err();
        for text in [format!("{key:?}"), format!("{ring:?}"), format!("{error:?}"), error.to_string()] {
            assert!(!text.contains("abab") && !text.contains("171"), "{text}");
        }
    }

    #[test]
    fn a_key_is_rotated_by_install_use_and_remove() {
        let (old, new) = (Key::new([1; 32]), Key::new([2; 32]));
        let mut ring = KeyRing::new(old.clone());
        assert_eq!(ring.use_key(new.id()), Err(RingError::Unknown(new.id())));
        ring.install(new.clone()).unwrap();
        ring.install(new.clone()).unwrap();
        assert_eq!(ring.sending(), &old);
        assert_eq!(ring.remove(old.id()), Err(RingError::InUse(old.id())));
        ring.use_key(new.id()).unwrap();
        assert_eq!((ring.sending(), ring.accepted(old.id())), (&new, Some(&old)));
        ring.remove(old.id()).unwrap();
        assert_eq!(ring.ids().collect::<Vec<_>>(), [new.id()]);
    }
}
