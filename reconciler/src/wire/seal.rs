//! Is this datagram from a node of our cluster, and what did it say?
//!
//! In: a payload and who sends it, or bytes from anybody. Out: a sealed datagram, or its payload and sender,
//! or why it was dropped. Not here: keys and their file ([`key`](super::key)), whether the sender is
//! declared, whether (epoch, counter) is newer than the last one heard of that sender: the engine keeps
//! that per peer and drops what is not.
//!
//! ```text
//!  0       4    5    6     7        11             19      27        35           51         51+n
//!  | magic | v  | to | n   | key id | cluster tag  | epoch | counter | boot salt  | sender   | sealed payload, tag
//!  | rvip  | u8 | u8 | u8  | u32    | sha256[..8]  | u64   | u64     | 16 bytes   | n bytes  | ChaCha20-Poly1305
//! ```
//!
//! All numbers are big-endian. What stands before the payload is in the clear and authenticated. The key is
//! HKDF-SHA256 (RFC 5869) of the shared secret, with the boot salt as salt and version, cluster, sender and epoch as
//! info; the nonce (RFC 8439, section 2.8) is the counter. So one key seals for one sender, boot, epoch and version, and
//! within these a counter is used once: [`Sealer`] insists. No pair of key and nonce ever comes twice,
//! also after a crash with loss of memory, as each boot draws a new salt.
//!
//! `v` is the version of the protocol that the payload is written in, `to` the newest that the sender speaks
//! ([`version`](super::version)). The envelope itself is the same in all versions.

use std::collections::BTreeMap;
use std::fmt;

use chacha20poly1305::aead::inout::InOutBuf;
use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{ChaCha20Poly1305, Tag};
use hkdf::Hkdf;
use sha2::Sha256;

use super::key::{Key, KeyId, KeyRing};
use super::version::NEWEST;
use crate::digest::Digest;
use crate::name::{ClusterName, NodeName};

/// The counter of the goodbye that the keeper holds for each epoch; nothing else is sealed with it.
pub const GOODBYE: u64 = u64::MAX;
/// The longest datagram that is sealed or opened, in bytes.
pub const MAX_DATAGRAM: usize = 16 * 1024;
/// The longest payload that fits, whatever the sender's name.
pub const MAX_PAYLOAD: usize = MAX_DATAGRAM - HEADER - 253 - TAG;
const MAGIC: [u8; 4] = *b"rvip";
const HEADER: usize = 51;
const TAG: usize = 16;

/// Senders whose derived keys are kept; more than a cluster has nodes.
const CACHE: usize = 1024;

/// Where each field of the header stands.
mod field {
    use std::ops::Range;

    pub const MAGIC: Range<usize> = 0..4;
    pub const VERSION: usize = 4;
    pub const NEWEST: usize = 5;
    pub const NAME_LEN: usize = 6;
    pub const KEY: Range<usize> = 7..11;
    pub const CLUSTER: Range<usize> = 11..19;
    pub const EPOCH: Range<usize> = 19..27;
    pub const COUNTER: Range<usize> = 27..35;
    pub const SALT: Range<usize> = 35..51;
}

/// Why a datagram was dropped. Counted, not logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Drop {
    /// Too short for a header, a name and a tag.
    TooShort,
    /// Longer than [`MAX_DATAGRAM`].
    TooLong,
    /// Not ours at all.
    BadMagic,
    /// Of another cluster, by its tag.
    OtherCluster,
    /// Sealed with a key that is not accepted.
    UnknownKey(KeyId),
    /// The sender's name is not a node name.
    BadName,
    /// The seal does not fit: forged, changed on the way, or another secret with the same id.
    Forged,
}

impl Drop {
    /// A short stable label, for counters.
    pub const fn label(self) -> &'static str {
        match self {
            Self::TooShort => "too_short",
            Self::TooLong => "too_long",
            Self::BadMagic => "bad_magic",
            Self::OtherCluster => "other_cluster",
            Self::UnknownKey(_) => "unknown_key",
            Self::BadName => "bad_name",
            Self::Forged => "forged",
        }
    }
}

impl fmt::Display for Drop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort => f.write_str("too short"),
            Self::TooLong => f.write_str("too long"),
            Self::BadMagic => f.write_str("not a rendezvip datagram"),
            Self::OtherCluster => f.write_str("of another cluster"),
            Self::UnknownKey(id) => write!(f, "sealed with key {id}, which is not accepted here"),
            Self::BadName => f.write_str("the sender's name is not a node name"),
            Self::Forged => f.write_str("the seal does not fit"),
        }
    }
}

impl std::error::Error for Drop {}

/// A datagram whose seal fits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// Who sealed it.
    pub sender: NodeName,
    /// The version of the protocol that the payload is written in.
    pub version: u8,
    /// The newest version that the sender speaks.
    pub newest: u8,
    /// The sender's epoch.
    pub epoch: u64,
    /// The sender's counter; [`GOODBYE`] is the last word of its epoch.
    pub counter: u64,
    /// With which of the accepted keys.
    pub key: KeyId,
    /// What it says.
    pub payload: Vec<u8>,
}

type ClusterTag = [u8; 8];

fn cluster_tag(cluster: &ClusterName) -> ClusterTag {
    let digest = Digest::of(cluster.as_str().as_bytes()).0;
    std::array::from_fn(|at| digest[at])
}

/// Names are preceded by their length, so that no two pairs of names give the same info.
fn derive(
    secret: &[u8; 32],
    salt: &[u8; 16],
    cluster: &ClusterName,
    sender: &NodeName,
    epoch: u64,
    version: u8,
) -> ChaCha20Poly1305 {
    let (cluster, sender) = (cluster.as_str().as_bytes(), sender.as_str().as_bytes());
    let mut key = [0; 32];
    Hkdf::<Sha256>::new(Some(salt), secret)
        .expand_multi_info(
            &[
                b"rendezvip",
                &[version, cluster.len() as u8],
                cluster,
                &[sender.len() as u8],
                sender,
                &epoch.to_be_bytes(),
            ],
            &mut key,
        )
        .expect("32 bytes are less than the 255 hashes that RFC 5869 allows");
    ChaCha20Poly1305::new(&key.into())
}

fn nonce(counter: u64) -> chacha20poly1305::Nonce {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter.to_be_bytes());
    nonce.into()
}

/// Seals what one node sends during one boot.
pub struct Sealer {
    secret: Key,
    cluster: ClusterName,
    tag: ClusterTag,
    sender: NodeName,
    salt: [u8; 16],
    /// The newest version that this node speaks.
    newest: u8,
    derived: Option<(u64, u8, ChaCha20Poly1305)>,
    last: Option<Sealed>,
    goodbyes: BTreeMap<(KeyId, u8), Sealed>,
}

/// What was sealed last, to see that no counter is used for two contents.
struct Sealed {
    epoch: u64,
    counter: u64,
    datagram: Vec<u8>,
}

impl Sealer {
    /// `boot_salt` is fresh random bytes at each boot.
    pub fn new(key: &Key, cluster: &ClusterName, sender: NodeName, boot_salt: [u8; 16]) -> Self {
        Self {
            newest: NEWEST,
            secret: key.clone(),
            cluster: cluster.clone(),
            tag: cluster_tag(cluster),
            sender,
            salt: boot_salt,
            derived: None,
            last: None,
            goodbyes: BTreeMap::new(),
        }
    }

    /// Tells that this node speaks up to this version.
    #[must_use]
    pub fn speaking(mut self, newest: u8) -> Self {
        self.newest = newest;
        self
    }

    /// Seals with `key` from now on. Goodbyes handed to the keeper before stay as they are.
    pub fn use_key(&mut self, key: &Key) {
        if self.secret != *key {
            self.secret = key.clone();
            self.derived = None;
        }
    }

    /// The datagram that carries `payload`, written in the newest version.
    ///
    /// # Panics
    /// As [`Sealer::seal_as`].
    pub fn seal(&mut self, epoch: u64, counter: u64, payload: &[u8]) -> Vec<u8> {
        self.seal_as(self.newest, epoch, counter, payload)
    }

    /// The datagram that carries `payload`, which is written in this version.
    ///
    /// The counter grows over the whole boot, across epochs; [`GOODBYE`] stands beside it, once an epoch. Asking
    /// again for the datagram sealed last gives the same bytes.
    ///
    /// # Panics
    /// If a counter is not above the last one, if it comes again with another payload, or if the payload is longer
    /// than [`MAX_PAYLOAD`]: the first two would give the key stream away.
    pub fn seal_as(&mut self, version: u8, epoch: u64, counter: u64, payload: &[u8]) -> Vec<u8> {
        assert!(payload.len() <= MAX_PAYLOAD, "a payload of {} bytes does not fit a datagram", payload.len());
        let name = self.sender.as_str().as_bytes();
        let mut datagram = Vec::with_capacity(HEADER + name.len() + payload.len() + TAG);
        datagram.extend_from_slice(&MAGIC);
        datagram.extend_from_slice(&[version, self.newest, name.len() as u8]);
        datagram.extend_from_slice(&self.secret.id().0.to_be_bytes());
        datagram.extend_from_slice(&self.tag);
        datagram.extend_from_slice(&epoch.to_be_bytes());
        datagram.extend_from_slice(&counter.to_be_bytes());
        datagram.extend_from_slice(&self.salt);
        datagram.extend_from_slice(name);
        let body = datagram.len();
        datagram.extend_from_slice(payload);

        let cipher = match &self.derived {
            Some((of, as_version, cipher)) if (*of, *as_version) == (epoch, version) => cipher,
            _ => {
                let cipher = derive(self.secret.secret(), &self.salt, &self.cluster, &self.sender, epoch, version);
                &self.derived.insert((epoch, version, cipher)).2
            }
        };
        let (header, sealed) = datagram.split_at_mut(body);
        let tag = cipher
            .encrypt_inout_detached(&nonce(counter), header, InOutBuf::from(sealed))
            .expect("RFC 8439 seals up to 256 GiB");
        datagram.extend_from_slice(&tag);

        let key = (self.secret.id(), version);
        let before = if counter == GOODBYE { self.goodbyes.get(&key) } else { self.last.as_ref() };
        let fresh = before.is_none_or(|before| match counter {
            GOODBYE => epoch > before.epoch,
            _ => counter > before.counter && epoch >= before.epoch,
        });
        let again = before.is_some_and(|before| before.datagram == datagram);
        assert!(fresh || again, "counter {counter} of epoch {epoch} was used before");
        let sealed = Sealed { epoch, counter, datagram: datagram.clone() };
        if counter == GOODBYE {
            self.goodbyes.insert(key, sealed);
        } else {
            self.last = Some(sealed);
        }
        datagram
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealer({}@{}, {:?})", self.sender, self.cluster, self.secret)
    }
}

struct Derived {
    salt: [u8; 16],
    epoch: u64,
    version: u8,
    cipher: ChaCha20Poly1305,
    used: u64,
}

/// Opens datagrams of one cluster, and keeps the keys derived for those that were genuine.
pub struct Opener {
    ring: KeyRing,
    cluster: ClusterName,
    tag: ClusterTag,
    derived: BTreeMap<(KeyId, NodeName), Derived>,
    uses: u64,
}

impl Opener {
    /// Opens what a key of the ring sealed for this cluster.
    pub fn new(ring: KeyRing, cluster: ClusterName) -> Self {
        let tag = cluster_tag(&cluster);
        Self { ring, cluster, tag, derived: BTreeMap::new(), uses: 0 }
    }

    /// Accepts the keys of this ring from now on, and no others.
    pub fn set_ring(&mut self, ring: KeyRing) {
        self.derived.retain(|(id, _), _| ring.accepted(*id) == self.ring.accepted(*id));
        self.ring = ring;
    }

    /// The keys that are accepted.
    pub const fn ring(&self) -> &KeyRing {
        &self.ring
    }

    /// The sender and payload of a datagram, or why it is dropped. Cheap checks come first.
    ///
    /// A datagram that was recorded and is played again opens: the engine compares (epoch, counter).
    pub fn open(&mut self, datagram: &[u8]) -> Result<Opened, Drop> {
        if datagram.len() > MAX_DATAGRAM {
            return Err(Drop::TooLong);
        }
        let (header, rest) = datagram.split_at_checked(HEADER).ok_or(Drop::TooShort)?;
        if header[field::MAGIC] != MAGIC {
            return Err(Drop::BadMagic);
        }
        let (name, sealed) = rest.split_at_checked(header[field::NAME_LEN].into()).ok_or(Drop::TooShort)?;
        let (body, tag) = sealed.split_last_chunk::<TAG>().ok_or(Drop::TooShort)?;
        if header[field::CLUSTER] != self.tag {
            return Err(Drop::OtherCluster);
        }
        let id = KeyId(u32::from_be_bytes(array(&header[field::KEY])));
        let key = self.ring.accepted(id).ok_or(Drop::UnknownKey(id))?;
        let name = std::str::from_utf8(name).map_err(|_| Drop::BadName)?;
        let sender = NodeName::new(name).map_err(|_| Drop::BadName)?;
        let (version, newest) = (header[field::VERSION], header[field::NEWEST]);
        let salt: [u8; 16] = array(&header[field::SALT]);
        let epoch = u64::from_be_bytes(array(&header[field::EPOCH]));
        let counter = u64::from_be_bytes(array(&header[field::COUNTER]));

        let header = &datagram[..HEADER + name.len()];
        let mut payload = body.to_vec();
        let mut open = |cipher: &ChaCha20Poly1305| {
            let buffer = InOutBuf::from(payload.as_mut_slice());
            cipher.decrypt_inout_detached(&nonce(counter), header, buffer, &Tag::from(*tag)).map_err(|_| Drop::Forged)
        };
        self.uses += 1;
        let at = (id, sender);
        match self.derived.get_mut(&at) {
            Some(known) if known.salt == salt && known.epoch == epoch && known.version == version => {
                open(&known.cipher)?;
                known.used = self.uses;
            }
            // A key is kept only for what was genuine, so a forger cannot drive out the keys of others.
            _ => {
                let cipher = derive(key.secret(), &salt, &self.cluster, &at.1, epoch, version);
                open(&cipher)?;
                if self.derived.len() >= CACHE && !self.derived.contains_key(&at) {
                    self.forget_one();
                }
                self.derived.insert(at.clone(), Derived { salt, epoch, version, cipher, used: self.uses });
            }
        }
        Ok(Opened { sender: at.1, version, newest, epoch, counter, key: id, payload })
    }

    fn forget_one(&mut self) {
        let oldest = self.derived.iter().min_by_key(|(_, derived)| derived.used).map(|(at, _)| at.clone());
        if let Some(at) = oldest {
            self.derived.remove(&at);
        }
    }
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Opener({}, {:?})", self.cluster, self.ring)
    }
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    std::array::from_fn(|at| bytes[at])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lab() -> ClusterName {
        ClusterName::new("lab").unwrap()
    }

    fn node(name: &str) -> NodeName {
        NodeName::new(name).unwrap()
    }

    fn sealer() -> Sealer {
        Sealer::new(&Key::new([7; 32]), &lab(), node("edge-a"), [9; 16])
    }

    fn opener() -> Opener {
        Opener::new(KeyRing::new(Key::new([7; 32])), lab())
    }

    #[test]
    fn what_was_sealed_opens_with_its_sender_epoch_and_counter() {
        let datagram = sealer().seal(5, 6, b"heartbeat");
        assert_eq!(
            opener().open(&datagram),
            Ok(Opened {
                sender: node("edge-a"),
                version: NEWEST,
                newest: NEWEST,
                epoch: 5,
                counter: 6,
                key: Key::new([7; 32]).id(),
                payload: b"heartbeat".to_vec()
            })
        );
    }

    #[test]
    fn the_header_is_pinned_and_the_payload_is_not_in_the_clear() {
        let datagram = sealer().seal(0x0102_0304_0506_0708, 0x1112_1314_1516_1718, b"heartbeat");
        let mut header = b"rvip\x01\x01\x06".to_vec();
        header.extend(Key::new([7; 32]).id().0.to_be_bytes());
        header.extend(&Digest::of(b"lab").0[..8]);
        header.extend([1, 2, 3, 4, 5, 6, 7, 8, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18]);
        header.extend([9; 16]);
        header.extend(b"edge-a");
        assert_eq!(datagram[..header.len()], header);
        assert_eq!(datagram.len(), header.len() + 9 + 16);
        assert!(!datagram.windows(9).any(|window| window == b"heartbeat"));
    }

    #[test]
    fn a_second_implementation_of_the_seal_gives_the_same_bytes() {
        // Made with Python's `cryptography`: see tests/vectors/seal.md.
        let vector = include_str!("../../../tests/vectors/seal.hex");
        let expected: Vec<u8> = vector.split_whitespace().map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect();
        assert_eq!(sealer().seal(1_700_000_000_000, 42, b"heartbeat"), expected);
    }

    #[test]
    fn flipping_any_bit_is_refused() {
        let datagram = sealer().seal(5, 6, b"payload");
        let mut opener = opener();
        opener.open(&datagram).unwrap();
        for bit in 0..datagram.len() * 8 {
            let mut changed = datagram.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            opener.open(&changed).expect_err(&format!("bit {bit}"));
        }
        for cut in 0..datagram.len() {
            opener.open(&datagram[..cut]).expect_err(&format!("cut to {cut}"));
        }
    }

    #[test]
    fn each_kind_of_stranger_is_refused_with_its_reason() {
        let mut datagram = sealer().seal(5, 6, b"");
        assert_eq!(opener().open(b""), Err(Drop::TooShort));
        assert_eq!(opener().open(&[0; MAX_DATAGRAM + 1]), Err(Drop::TooLong));
        assert_eq!(opener().open(&[0; 100]), Err(Drop::BadMagic));
        let other = Opener::new(KeyRing::new(Key::new([7; 32])), ClusterName::new("prod").unwrap()).open(&datagram);
        assert_eq!(other, Err(Drop::OtherCluster));
        let other = Opener::new(KeyRing::new(Key::new([8; 32])), lab()).open(&datagram);
        assert_eq!(other, Err(Drop::UnknownKey(Key::new([7; 32]).id())));
        datagram[field::NEWEST] = 2;
        assert_eq!(opener().open(&datagram), Err(Drop::Forged));
        datagram[field::NEWEST] = NEWEST;
        datagram[HEADER] = b'E';
        assert_eq!(opener().open(&datagram), Err(Drop::BadName));
        datagram[HEADER] = b'f';
        assert_eq!(opener().open(&datagram), Err(Drop::Forged));
    }

    #[test]
    fn two_boots_and_two_epochs_never_share_a_key_stream() {
        let mut here = sealer();
        let bodies: Vec<Vec<u8>> = [
            here.seal(1, 5, &[0; 32]),
            here.seal(2, 6, &[0; 32]),
            here.seal(2, GOODBYE, &[0; 32]),
            here.seal(3, GOODBYE, &[0; 32]),
            Sealer::new(&Key::new([7; 32]), &lab(), node("edge-a"), [10; 16]).seal(1, 5, &[0; 32]),
            Sealer::new(&Key::new([7; 32]), &lab(), node("edge-b"), [9; 16]).seal(1, 5, &[0; 32]),
            Sealer::new(&Key::new([6; 32]), &lab(), node("edge-a"), [9; 16]).seal(1, 5, &[0; 32]),
        ]
        .iter()
        .map(|datagram| datagram[HEADER + 6..].to_vec())
        .collect();
        for (at, body) in bodies.iter().enumerate() {
            assert!(!bodies[at + 1..].contains(body), "{at}");
        }
    }

    #[test]
    fn every_version_opens_and_none_shares_a_key_stream_with_another() {
        let mut here = sealer().speaking(7);
        let (six, seven) = (here.seal_as(6, 1, GOODBYE, &[0; 32]), here.seal_as(7, 1, GOODBYE, &[0; 32]));
        assert_ne!(six[HEADER + 6..], seven[HEADER + 6..]);
        for (version, datagram) in [(6, six), (7, seven)] {
            let opened = opener().open(&datagram).unwrap();
            assert_eq!((opened.version, opened.newest), (version, 7));
        }
    }

    #[test]
    fn the_same_datagram_again_is_the_same_bytes() {
        let mut sealer = sealer();
        assert_eq!(sealer.seal(1, 5, b"x"), sealer.seal(1, 5, b"x"));
        assert_eq!(sealer.seal(1, GOODBYE, b"bye"), sealer.seal(1, GOODBYE, b"bye"));
        sealer.seal(1, 6, b"the goodbye does not end the counter");
    }

    #[test]
    #[should_panic(expected = "was used before")]
    fn a_counter_is_never_used_for_two_payloads() {
        let mut sealer = sealer();
        sealer.seal(1, 5, b"x");
        sealer.seal(1, 5, b"y");
    }

    #[test]
    #[should_panic(expected = "was used before")]
    fn a_new_epoch_does_not_reset_the_counter() {
        let mut sealer = sealer();
        sealer.seal(1, 5, b"x");
        sealer.seal(2, 4, b"x");
    }

    #[test]
    #[should_panic(expected = "was used before")]
    fn an_epoch_has_one_goodbye() {
        let mut sealer = sealer();
        sealer.seal(1, GOODBYE, b"x");
        sealer.seal(1, GOODBYE, b"y");
    }

    #[test]
    fn a_rotation_of_keys_drops_no_datagram() {
        let (old, new) = (Key::new([7; 32]), Key::new([8; 32]));
        let (mut sealer, mut opener) = (sealer(), opener());
        let mut ring = KeyRing::new(old.clone());
        opener.open(&sealer.seal(1, 1, b"")).unwrap();
        ring.install(new.clone()).unwrap();
        opener.set_ring(ring.clone());
        opener.open(&sealer.seal(1, 2, b"")).unwrap();
        ring.use_key(new.id()).unwrap();
        sealer.use_key(&new);
        let by_new = sealer.seal(1, 3, b"");
        opener.open(&by_new).unwrap();
        sealer.use_key(&old);
        let by_old = sealer.seal(1, 4, b"");
        opener.open(&by_old).unwrap();
        ring.remove(old.id()).unwrap();
        opener.set_ring(ring);
        assert_eq!(opener.open(&by_old), Err(Drop::UnknownKey(old.id())));
        assert_eq!(opener.open(&by_new).map(|opened| opened.counter), Ok(3));
    }

    #[test]
    fn the_cache_of_keys_is_bounded_and_forgets_who_was_longest_silent() {
        let mut opener = opener();
        let last = |opener: &mut Opener, at: u64| {
            let name = node(&format!("n{at}"));
            opener.open(&Sealer::new(&Key::new([7; 32]), &lab(), name, [9; 16]).seal(1, at, b"")).unwrap();
        };
        for at in 0..CACHE as u64 {
            last(&mut opener, at);
        }
        last(&mut opener, 0);
        last(&mut opener, CACHE as u64);
        let known = |name: &str| opener.derived.contains_key(&(Key::new([7; 32]).id(), node(name)));
        assert_eq!(opener.derived.len(), CACHE);
        assert!(known("n0") && !known("n1") && known("n1024"));
    }

    #[test]
    fn forgeries_never_fill_the_cache() {
        let mut opener = opener();
        let mut datagram = sealer().seal(1, 1, b"");
        *datagram.last_mut().unwrap() ^= 1;
        assert_eq!(opener.open(&datagram), Err(Drop::Forged));
        assert!(opener.derived.is_empty());
    }

    proptest! {
        #[test]
        fn any_payload_comes_out_as_it_went_in(
            payload in prop::collection::vec(any::<u8>(), 0..2000), epoch: u64, counter: u64, salt: [u8; 16],
            name in "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?",
        ) {
            let mut sealer = Sealer::new(&Key::new([7; 32]), &lab(), node(&name), salt);
            let opened = opener().open(&sealer.seal(epoch, counter, &payload)).unwrap();
            prop_assert_eq!((opened.sender.as_str(), opened.epoch, opened.counter), (name.as_str(), epoch, counter));
            prop_assert_eq!(opened.payload, payload);
        }
    }
}
