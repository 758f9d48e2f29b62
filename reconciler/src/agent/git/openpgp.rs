//! Signatures by OpenPGP keys, as git and forges make them: who signed these bytes?
//!
//! In: a keyring file that the operator trusts, a detached signature in armour. Out: the signer's key and name.
//! Not here: which commits have to be signed (`verify`), ssh (`sshsig`).
//!
//! Read are keys and signatures of version 4 (RFC 9580, sections 4.2, 5.2.3 and 5.5.2.2) by RSA, ECDSA and Ed25519 over
//! SHA-256, -384 or -512. The keyring is the trust: whose key stands in it, with the subkeys that stand there, may sign.
//! There is no web of trust, and no server is asked. An expiry or a revocation that the keyring holds is heeded: export
//! the keys again to learn of one.

use openssl::hash::{MessageDigest, hash};
use openssl::nid::Nid;

use super::sshsig::{base64, ecdsa_of, ed25519, rsa_of};

/// A key that may sign, primary or subkey.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Of the primary key, in hexadecimal.
    pub fingerprint: String,
    /// The first user id, as the key says it.
    pub owner: String,
    id: [u8; 8],
    material: Material,
    created: u32,
    /// In seconds from its creation; 0 is never.
    expires_after: u32,
    usable: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Material {
    Rsa {
        modulus: Vec<u8>,
        exponent: Vec<u8>,
    },
    Ecdsa {
        curve: Nid,
        point: Vec<u8>,
    },
    Ed25519(Vec<u8>),
    /// Of a kind that does not sign here.
    Other,
}

/// Every key of a file: armoured blocks, or the packets themselves as `gpg --export` writes them.
pub fn keyring(file: &[u8]) -> Result<Vec<Key>, String> {
    let text = std::str::from_utf8(file).unwrap_or_default();
    let blocks = if text.contains("-----BEGIN PGP ") {
        blocks(text, "PUBLIC KEY BLOCK").ok_or("it holds a block that is no public key, or a damaged one")?
    } else {
        vec![file.to_vec()]
    };
    let mut keys = Vec::new();
    for block in blocks {
        keys.extend(keys_of(&block).ok_or("it cannot be read as OpenPGP packets")?);
    }
    if keys.is_empty() {
        return Err("it holds no key of version 4".to_owned());
    }
    Ok(keys)
}

fn keys_of(block: &[u8]) -> Option<Vec<Key>> {
    let mut keys: Vec<Key> = Vec::new();
    // Where the keys of the primary at hand begin.
    let mut primary = 0;
    let mut revoked = false;
    let mut newest = 0;
    let mut reader = Bytes(block);
    while !reader.0.is_empty() {
        let (tag, body) = packet(&mut reader)?;
        let own = primary.min(keys.len());
        match tag {
            6 | 14 => {
                let Some(mut key) = key(body) else {
                    // Of another version: its signatures concern nobody here.
                    if tag == 6 {
                        primary = keys.len();
                    }
                    continue;
                };
                if tag == 6 {
                    (primary, revoked) = (keys.len(), false);
                } else if let Some(of) = keys.get(primary) {
                    (key.fingerprint, key.owner) = (of.fingerprint.clone(), of.owner.clone());
                } else {
                    continue;
                }
                newest = 0;
                key.usable &= !revoked;
                keys.push(key);
            }
            13 => {
                if let [key] = &mut keys[own..]
                    && key.owner.is_empty()
                {
                    key.owner = String::from_utf8_lossy(body).into_owned();
                }
            }
            2 => {
                let Some(signature) = signature(body) else { continue };
                match signature.kind {
                    // The key revokes itself: it and its subkeys sign no more.
                    0x20 => {
                        revoked = true;
                        keys[own..].iter_mut().for_each(|key| key.usable = false);
                    }
                    0x28 => keys.iter_mut().skip(primary + 1).last().into_iter().for_each(|key| key.usable = false),
                    // What a key says of itself: of several the newest counts.
                    0x10..=0x13 | 0x18 | 0x1f => {
                        let of_itself = keys.get(primary).is_some_and(|of| signature.issuer == Some(of.id));
                        if let Some(key) = keys[own..].last_mut()
                            && of_itself
                            && signature.created >= newest
                        {
                            newest = signature.created;
                            key.expires_after = signature.key_expires_after.unwrap_or(0);
                            // Without flags a key may do what its kind can.
                            key.usable &= signature.flags.is_none_or(|flags| flags & 0x02 != 0);
                        }
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }
    Some(keys)
}

fn key(body: &[u8]) -> Option<Key> {
    let mut read = Bytes(body);
    if read.byte()? != 4 {
        return None;
    }
    let created = read.number(4)?;
    let material = match read.byte()? {
        1 | 3 => Material::Rsa { modulus: read.integer()?.to_vec(), exponent: read.integer()?.to_vec() },
        19 => {
            let length = read.byte()?;
            let curve = match read.take(usize::from(length))? {
                [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07] => Nid::X9_62_PRIME256V1,
                [0x2b, 0x81, 0x04, 0x00, 0x22] => Nid::SECP384R1,
                [0x2b, 0x81, 0x04, 0x00, 0x23] => Nid::SECP521R1,
                _ => Nid::UNDEF,
            };
            if curve == Nid::UNDEF {
                Material::Other
            } else {
                Material::Ecdsa { curve, point: read.integer()?.to_vec() }
            }
        }
        22 => {
            let length = read.byte()?;
            let curve = read.take(usize::from(length))?;
            match (curve, read.integer()?) {
                ([0x2b, 0x06, 0x01, 0x04, 0x01, 0xda, 0x47, 0x0f, 0x01], [0x40, point @ ..]) if point.len() == 32 => {
                    Material::Ed25519(point.to_vec())
                }
                _ => Material::Other,
            }
        }
        27 => Material::Ed25519(read.take(32)?.to_vec()),
        _ => Material::Other,
    };
    // RFC 9580, section 5.5.4.2.
    let mut hashed = vec![0x99];
    hashed.extend_from_slice(&u16::try_from(body.len()).ok()?.to_be_bytes());
    hashed.extend_from_slice(body);
    let fingerprint = hash(MessageDigest::sha1(), &hashed).ok()?;
    Some(Key {
        fingerprint: fingerprint.iter().map(|byte| format!("{byte:02X}")).collect(),
        owner: String::new(),
        id: fingerprint[12..20].try_into().ok()?,
        usable: material != Material::Other,
        material,
        created,
        expires_after: 0,
    })
}

/// A signature packet of version 4, as far as it matters here.
struct Signature<'a> {
    kind: u8,
    digest: Option<MessageDigest>,
    /// What is hashed after the content: RFC 9580, section 5.2.4.
    trailer: Vec<u8>,
    left: [u8; 2],
    value: &'a [u8],
    created: u32,
    expires_after: u32,
    issuer: Option<[u8; 8]>,
    key_expires_after: Option<u32>,
    flags: Option<u8>,
    /// Something that must be understood is not.
    strange: bool,
}

fn signature(body: &[u8]) -> Option<Signature<'_>> {
    let mut read = Bytes(body);
    let (version, kind, _algorithm, digest) = (read.byte()?, read.byte()?, read.byte()?, read.byte()?);
    if version != 4 {
        return None;
    }
    let length = usize::try_from(read.number(2)?).ok()?;
    let hashed = read.take(length)?;
    let length_of_rest = usize::try_from(read.number(2)?).ok()?;
    let unhashed = read.take(length_of_rest)?;
    let mut trailer = body.get(..6 + length)?.to_vec();
    trailer.extend_from_slice(&[4, 0xff]);
    trailer.extend_from_slice(&u32::try_from(6 + length).ok()?.to_be_bytes());
    let mut signature = Signature {
        kind,
        digest: match digest {
            8 => Some(MessageDigest::sha256()),
            9 => Some(MessageDigest::sha384()),
            10 => Some(MessageDigest::sha512()),
            _ => None,
        },
        trailer,
        left: read.take(2)?.try_into().ok()?,
        value: read.0,
        created: 0,
        expires_after: 0,
        issuer: None,
        key_expires_after: None,
        flags: None,
        strange: false,
    };
    for (area, trusted) in [(hashed, true), (unhashed, false)] {
        let mut read = Bytes(area);
        while !read.0.is_empty() {
            let length = match read.byte()? {
                255 => read.number(4)?,
                first @ 192.. => (u32::from(first) - 192) * 256 + u32::from(read.byte()?) + 192,
                first => first.into(),
            };
            let mut part = Bytes(read.take(usize::try_from(length).ok()?)?);
            let kind = part.byte()?;
            match (kind & 0x7f, trusted) {
                (2, true) => signature.created = part.number(4)?,
                (3, true) => signature.expires_after = part.number(4)?,
                (9, true) => signature.key_expires_after = Some(part.number(4)?),
                (27, true) => signature.flags = Some(part.byte().unwrap_or(0)),
                // Only a hint at which key to try, so it may stand outside of what is signed.
                (16, _) => signature.issuer = part.0.try_into().ok(),
                (33, _) if part.0.len() == 21 => signature.issuer = part.0[13..].try_into().ok(),
                // Notation, preferences, policy, who signed, and the like change nothing here; a critical one might.
                (20, true) if kind & 0x80 != 0 => signature.strange = true,
                (11 | 20..=26 | 28 | 30 | 33 | 34, _) => {}
                (_, true) if kind & 0x80 != 0 => signature.strange = true,
                _ => {}
            }
        }
    }
    Some(signature)
}

/// The owner whose key signed `message`, or why nobody did.
pub fn verify(armour: &str, message: &[u8], keys: &[Key]) -> Result<String, String> {
    let blocks = blocks(armour, "SIGNATURE").filter(|blocks| !blocks.is_empty());
    let block = blocks.and_then(|blocks| blocks.into_iter().next()).ok_or("the signature is no OpenPGP signature")?;
    let mut reader = Bytes(&block);
    let mut why = "the signature cannot be read".to_owned();
    while !reader.0.is_empty() {
        let Some((tag, body)) = packet(&mut reader) else { return Err(why) };
        let Some(signature) = Some(body).filter(|_| tag == 2).and_then(signature) else { continue };
        match judge(&signature, message, keys) {
            Ok(owner) => return Ok(owner),
            Err(because) => why = because,
        }
    }
    Err(why)
}

fn judge(signature: &Signature<'_>, message: &[u8], keys: &[Key]) -> Result<String, String> {
    let Some(issuer) = signature.issuer else { return Err("the signature does not say whose it is".to_owned()) };
    let hex: String = issuer.iter().map(|byte| format!("{byte:02X}")).collect();
    let Some(key) = keys.iter().find(|key| key.id == issuer) else {
        return Err(format!("key {hex} is not in the keyring file"));
    };
    let whose = if key.owner.is_empty() { format!("key {hex}") } else { format!("the key of {}", key.owner) };
    if !key.usable {
        return Err(format!("{whose} is revoked, or not one that may sign"));
    }
    // Of content as it is; git and the forges make no other kind.
    if signature.kind != 0 || signature.strange {
        return Err("the signature is of a kind that is not supported".to_owned());
    }
    let Some(digest) = signature.digest else { return Err("the signature's hash is not supported".to_owned()) };
    let over = |key: &Key| {
        let age = signature.created.checked_sub(key.created);
        age.is_none_or(|age| key.expires_after != 0 && age >= key.expires_after)
    };
    // A subkey ends with its primary key, which stands before it.
    let primary = keys.iter().find(|other| other.fingerprint == key.fingerprint);
    if over(key) || primary.is_some_and(over) || signature.expires_after != 0 {
        return Err(format!("{whose} was not valid at that time, or the signature expires"));
    }
    let data = [message, &signature.trailer].concat();
    let sum = hash(digest, &data).map_err(|error| error.to_string())?;
    let holds = sum[..2] == signature.left && holds(&key.material, signature.value, &data, &sum, digest) == Some(true);
    if holds {
        Ok(if key.owner.is_empty() { hex } else { key.owner.clone() })
    } else {
        Err(format!("the signature by {whose} does not fit the content"))
    }
}

fn holds(material: &Material, value: &[u8], data: &[u8], sum: &[u8], digest: MessageDigest) -> Option<bool> {
    let mut read = Bytes(value);
    let result = match material {
        Material::Rsa { modulus, exponent } => rsa_of(modulus, exponent, read.integer()?, data, digest),
        Material::Ecdsa { curve, point } => ecdsa_of(*curve, point, (read.integer()?, read.integer()?), sum),
        // 64 bytes, or as two integers of 32 that may lack leading zeros (RFC 9580, section 5.2.3.3 and 5.2.3.4).
        Material::Ed25519(point) if value.len() == 64 => ed25519(point, value, sum),
        Material::Ed25519(point) => {
            let mut whole = [0; 64];
            for half in [0, 32] {
                let part = read.integer()?;
                let from = 32usize.checked_sub(part.len())?;
                whole[half + from..half + 32].copy_from_slice(part);
            }
            ed25519(point, &whole, sum)
        }
        Material::Other => return None,
    };
    result.ok()
}

/// The next packet: its tag and body (RFC 9580, section 4.2). Partial lengths are for content, of which there is none here.
fn packet<'a>(reader: &mut Bytes<'a>) -> Option<(u8, &'a [u8])> {
    let first = reader.byte()?;
    if first & 0x80 == 0 {
        return None;
    }
    let (tag, length) = if first & 0x40 != 0 {
        let length = match reader.byte()? {
            255 => reader.number(4)?,
            224..=254 => return None,
            head @ 192..=223 => (u32::from(head) - 192) * 256 + u32::from(reader.byte()?) + 192,
            head => head.into(),
        };
        (first & 0x3f, length)
    } else {
        let length = match first & 3 {
            3 => return None,
            size => reader.number(1 << size)?,
        };
        (first >> 2 & 0x0f, length)
    };
    Some((tag, reader.take(usize::try_from(length).ok()?)?))
}

/// The contents of all armoured blocks of a kind (RFC 9580, section 6.2); nothing where one is damaged.
fn blocks(text: &str, kind: &str) -> Option<Vec<Vec<u8>>> {
    let (begin, end) = (format!("-----BEGIN PGP {kind}-----"), format!("-----END PGP {kind}-----"));
    let mut blocks = Vec::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once(&begin) {
        let (body, after) = after.split_once(&end)?;
        // Headers end with an empty line; a line that begins with `=` is a checksum, which guards against line noise alone.
        let lines = body.lines().map(str::trim).skip(1);
        let lines = lines.skip_while(|line| line.contains(": ")).filter(|line| !line.starts_with('='));
        blocks.push(base64(&lines.collect::<String>())?);
        rest = after;
    }
    Some(blocks)
}

struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(head)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    /// A big-endian number of up to four bytes.
    fn number(&mut self, bytes: usize) -> Option<u32> {
        Some(self.take(bytes)?.iter().fold(0, |number, byte| number << 8 | u32::from(*byte)))
    }

    /// An integer with its length in bits before it.
    fn integer(&mut self) -> Option<&'a [u8]> {
        let bits = usize::try_from(self.number(2)?).ok()?;
        self.take(bits.div_ceil(8))
    }
}

#[cfg(test)]
#[path = "openpgp_tests.rs"]
mod tests;
