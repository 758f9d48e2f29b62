//! Signatures by ssh keys, as git makes them: who signed these bytes, and signing some.
//!
//! In: a signature in armour, an allowed signers file; or a private key. Out: the signer's principals; or a signature.
//! Not here: which commits have to be signed (`verify`), OpenPGP (`openpgp`).
//!
//! The formats: PROTOCOL.sshsig, PROTOCOL.key and PROTOCOL.u2f of OpenSSH, ssh-keygen(1) ALLOWED SIGNERS, RFC 4253
//! section 6.6, RFC 5656, RFC 8709. Certificates are not followed: a line with `cert-authority` trusts nobody here.

use openssl::base64::{decode_block, encode_block};
use openssl::bn::{BigNum, BigNumContext};
use openssl::ec::{EcGroup, EcKey, EcPoint};
use openssl::ecdsa::EcdsaSig;
use openssl::error::ErrorStack;
use openssl::hash::{MessageDigest, hash};
use openssl::nid::Nid;
use openssl::pkey::{Id, PKey};
use openssl::rsa::Rsa;
use openssl::sign::{Signer, Verifier};

/// What every signature of this format begins with.
const MAGIC: &[u8] = b"SSHSIG";
/// git signs under this name, so that a signature for anything else counts for nothing here.
const NAMESPACE: &str = "git";
/// Below this RSA is no longer trusted (NIST SP 800-131A).
const LEAST_RSA_BITS: i32 = 2048;
const BEGIN: &str = "-----BEGIN SSH SIGNATURE-----";
const END: &str = "-----END SSH SIGNATURE-----";
const BEGIN_KEY: &str = "-----BEGIN OPENSSH PRIVATE KEY-----";
const END_KEY: &str = "-----END OPENSSH PRIVATE KEY-----";

/// A line of an allowed signers file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowed {
    /// Who, as the file writes it.
    pub principals: String,
    key: Vec<u8>,
    valid_after: Option<i64>,
    valid_before: Option<i64>,
}

/// Reads an allowed signers file. A line that is not understood is an error, since whoever wrote it meant something.
pub fn allowed_signers(text: &str) -> Result<Vec<Allowed>, String> {
    let mut signers = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        signers.extend(allowed(line).map_err(|what| format!("line {number}: {what}"))?);
    }
    Ok(signers)
}

fn allowed(line: &str) -> Result<Option<Allowed>, String> {
    let words = words(line);
    let is_type = |word: &str| word.starts_with("ssh-") || word.starts_with("ecdsa-sha2-") || word.starts_with("sk-");
    let at = words.iter().skip(1).position(|word| is_type(word)).map(|at| at + 1);
    let (Some(principals), Some(at)) = (words.first(), at) else {
        return Err("expected principals, options if any, a key type and a key".to_owned());
    };
    let Some(key) = words.get(at + 1).and_then(|key| base64(key)) else {
        return Err("the key is no base64".to_owned());
    };
    let mut signer =
        Allowed { principals: unquoted(principals).to_owned(), key, valid_after: None, valid_before: None };
    for option in words[1..at].iter().flat_map(|words| split(words, |c| c == ',')) {
        let (name, value) = option.split_once('=').map_or((option, ""), |(name, value)| (name, unquoted(value)));
        match name.to_ascii_lowercase().as_str() {
            "cert-authority" => return Ok(None),
            "namespaces" if value.split(',').any(|pattern| matches(pattern.as_bytes(), NAMESPACE.as_bytes())) => {}
            "namespaces" => return Ok(None),
            "valid-after" => signer.valid_after = Some(moment(value)?),
            "valid-before" => signer.valid_before = Some(moment(value)?),
            _ => return Err(format!("option `{name}` is not known")),
        }
    }
    Ok(Some(signer))
}

/// Words between white space that stands in no quotes.
fn words(line: &str) -> Vec<&str> {
    split(line, char::is_whitespace).into_iter().filter(|word| !word.is_empty()).collect()
}

fn split(text: &str, at: impl Fn(char) -> bool) -> Vec<&str> {
    let mut quoted = false;
    text.split(|c: char| {
        quoted ^= c == '"';
        !quoted && at(c)
    })
    .collect()
}

fn unquoted(word: &str) -> &str {
    word.strip_prefix('"').and_then(|word| word.strip_suffix('"')).unwrap_or(word)
}

/// Patterns with `*` and `?`, as ssh_config(5) has them.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern, text) {
        ([], []) => true,
        ([b'*', rest @ ..], _) => (0..=text.len()).any(|skip| matches(rest, &text[skip..])),
        ([b'?', rest @ ..], [_, text @ ..]) => matches(rest, text),
        ([one, rest @ ..], [other, text @ ..]) if one == other => matches(rest, text),
        _ => false,
    }
}

/// `YYYYMMDD[HHMM[SS]]` with or without a `Z`; both are UTC here, as a daemon has no time zone of its own.
fn moment(text: &str) -> Result<i64, String> {
    let digits = text.strip_suffix('Z').unwrap_or(text);
    let whole = matches!(digits.len(), 8 | 12 | 14) && digits.bytes().all(|byte| byte.is_ascii_digit());
    let part = |from: usize, to: usize| digits.get(from..to).map_or(0, |part| part.parse().unwrap_or(0));
    let at = jiff::civil::DateTime::new(
        digits.get(..4).and_then(|year| year.parse().ok()).unwrap_or(0),
        part(4, 6),
        part(6, 8),
        part(8, 10),
        part(10, 12),
        part(12, 14),
        0,
    );
    match at {
        Ok(at) if whole => jiff::tz::TimeZone::UTC
            .to_timestamp(at)
            .map(jiff::Timestamp::as_second)
            .map_err(|error| format!("`{text}` is no time: {error}")),
        _ => Err(format!("`{text}` is no time: write YYYYMMDD or YYYYMMDDHHMM[SS]")),
    }
}

/// The principals whose key signed `message`, or why nobody did. `time` is when, in seconds: keys are valid for a time.
pub fn verify(armour: &str, message: &[u8], time: i64, signers: &[Allowed]) -> Result<String, String> {
    let blob = unarmoured(armour, BEGIN, END).ok_or("the signature is no ssh signature")?;
    let mut read = Wire(&blob);
    let parsed = (|| {
        let magic = read.take(MAGIC.len())?;
        let version = read.number()?;
        let key = read.text()?;
        let namespace = read.text()?;
        let reserved = read.text()?;
        let algorithm = read.text()?;
        let signature = read.text()?;
        (magic == MAGIC && version == 1 && read.0.is_empty())
            .then_some((key, namespace, reserved, algorithm, signature))
    })();
    let (key, namespace, reserved, algorithm, signature) = parsed.ok_or("the signature cannot be read")?;
    if namespace != NAMESPACE.as_bytes() {
        return Err(format!("it was signed for `{}`, not for git", String::from_utf8_lossy(namespace)));
    }
    let digest = match algorithm {
        b"sha256" => MessageDigest::sha256(),
        b"sha512" => MessageDigest::sha512(),
        other => return Err(format!("hash `{}` is not known", String::from_utf8_lossy(other))),
    };
    let Some(signer) = signers.iter().find(|signer| signer.key == key) else {
        return Err(format!("key {} is not in the allowed signers file", fingerprint(key)));
    };
    if signer.valid_after.is_some_and(|after| time < after) || signer.valid_before.is_some_and(|before| time > before) {
        return Err(format!("the key of {} was not valid at that time", signer.principals));
    }
    let signed = signed_data(namespace, reserved, algorithm, digest, message).map_err(|error| error.to_string())?;
    match holds(key, signature, &signed) {
        Some(Ok(true)) => Ok(signer.principals.clone()),
        Some(Ok(false) | Err(_)) => {
            Err(format!("the signature by the key of {} does not fit the content", signer.principals))
        }
        None => Err(format!("the kind of key or signature of {} is not supported", signer.principals)),
    }
}

/// What is signed: PROTOCOL.sshsig, section 3.
fn signed_data(
    namespace: &[u8],
    reserved: &[u8],
    algorithm: &[u8],
    digest: MessageDigest,
    message: &[u8],
) -> Result<Vec<u8>, ErrorStack> {
    let mut data = MAGIC.to_vec();
    for part in [namespace, reserved, algorithm, &hash(digest, message)?] {
        put(&mut data, part);
    }
    Ok(data)
}

/// `SHA256:…`, as ssh-keygen shows a key.
fn fingerprint(key: &[u8]) -> String {
    hash(MessageDigest::sha256(), key).map_or_else(
        |_| "of the signature".to_owned(),
        |hash| format!("SHA256:{}", encode_block(&hash).trim_end_matches('=')),
    )
}

/// Is this the signature of `data` by this key? Nothing for what is not supported.
fn holds(key: &[u8], signature: &[u8], data: &[u8]) -> Option<Result<bool, ErrorStack>> {
    let (mut key, mut signature) = (Wire(key), Wire(signature));
    let (kind, algorithm, value) = (key.text()?, signature.text()?, signature.text()?);
    match (kind, algorithm) {
        (b"ssh-ed25519", b"ssh-ed25519") => Some(ed25519(key.text()?, value, data)),
        (b"ssh-rsa", b"rsa-sha2-256") => Some(rsa(&mut key, value, data, MessageDigest::sha256())?),
        (b"ssh-rsa", b"rsa-sha2-512") => Some(rsa(&mut key, value, data, MessageDigest::sha512())?),
        (kind, algorithm) if kind == algorithm && kind.starts_with(b"ecdsa-sha2-") => {
            let (curve, point) = (key.text()?, key.text()?);
            Some(ecdsa(curve, point, value, data)?)
        }
        // A security key signs the hash of its application, what it saw of its owner, and a counter too.
        (b"sk-ssh-ed25519@openssh.com", b"sk-ssh-ed25519@openssh.com") => {
            let (point, application) = (key.text()?, key.text()?);
            let data = security_key(application, &mut signature, data)?;
            Some(data.and_then(|data| ed25519(point, value, &data)))
        }
        (b"sk-ecdsa-sha2-nistp256@openssh.com", b"sk-ecdsa-sha2-nistp256@openssh.com") => {
            let (curve, point, application) = (key.text()?, key.text()?, key.text()?);
            match security_key(application, &mut signature, data)? {
                Ok(data) => ecdsa(curve, point, value, &data),
                Err(error) => Some(Err(error)),
            }
        }
        _ => None,
    }
}

fn security_key(application: &[u8], signature: &mut Wire<'_>, data: &[u8]) -> Option<Result<Vec<u8>, ErrorStack>> {
    const USER_PRESENT: u8 = 1;
    let rest = signature.take(5)?;
    // Unless a line says so, and none can here, somebody has to have touched it.
    if rest[0] & USER_PRESENT == 0 {
        return None;
    }
    let both = || -> Result<Vec<u8>, ErrorStack> {
        let mut all = hash(MessageDigest::sha256(), application)?.to_vec();
        all.extend_from_slice(rest);
        all.extend_from_slice(&hash(MessageDigest::sha256(), data)?);
        Ok(all)
    };
    Some(both())
}

/// Does an Ed25519 signature hold?
pub(super) fn ed25519(key: &[u8], signature: &[u8], data: &[u8]) -> Result<bool, ErrorStack> {
    let key = PKey::public_key_from_raw_bytes(key, Id::ED25519)?;
    Verifier::new_without_digest(&key)?.verify_oneshot(signature, data)
}

fn rsa(key: &mut Wire<'_>, signature: &[u8], data: &[u8], digest: MessageDigest) -> Option<Result<bool, ErrorStack>> {
    let (exponent, modulus) = (key.text()?, key.text()?);
    Some(rsa_of(modulus, exponent, signature, data, digest))
}

/// Does an RSA signature (PKCS#1 v1.5) hold? Short keys never do.
pub(super) fn rsa_of(
    modulus: &[u8],
    exponent: &[u8],
    signature: &[u8],
    data: &[u8],
    digest: MessageDigest,
) -> Result<bool, ErrorStack> {
    let modulus = BigNum::from_slice(modulus)?;
    if modulus.num_bits() < LEAST_RSA_BITS {
        return Ok(false);
    }
    let size = usize::try_from(modulus.num_bytes()).unwrap_or(0);
    let key = PKey::from_rsa(Rsa::from_public_components(modulus, BigNum::from_slice(exponent)?)?)?;
    // As an integer it may come without its leading zeros.
    let mut whole = vec![0; size.saturating_sub(signature.len())];
    whole.extend_from_slice(signature);
    let mut verifier = Verifier::new(digest, &key)?;
    verifier.update(data)?;
    verifier.verify(&whole)
}

fn ecdsa(curve: &[u8], point: &[u8], signature: &[u8], data: &[u8]) -> Option<Result<bool, ErrorStack>> {
    let (curve, digest) = match curve {
        b"nistp256" => (Nid::X9_62_PRIME256V1, MessageDigest::sha256()),
        b"nistp384" => (Nid::SECP384R1, MessageDigest::sha384()),
        b"nistp521" => (Nid::SECP521R1, MessageDigest::sha512()),
        _ => return None,
    };
    let mut signature = Wire(signature);
    let (r, s) = (signature.text()?, signature.text()?);
    Some(hash(digest, data).and_then(|hash| ecdsa_of(curve, point, (r, s), &hash)))
}

/// Does an ECDSA signature of a hash hold?
pub(super) fn ecdsa_of(curve: Nid, point: &[u8], (r, s): (&[u8], &[u8]), hash: &[u8]) -> Result<bool, ErrorStack> {
    let group = EcGroup::from_curve_name(curve)?;
    let mut context = BigNumContext::new()?;
    let point = EcPoint::from_bytes(&group, point, &mut context)?;
    let key = EcKey::from_public_key(&group, &point)?;
    EcdsaSig::from_private_components(BigNum::from_slice(r)?, BigNum::from_slice(s)?)?.verify(hash, &key)
}

/// A private key that signs: Ed25519, without a passphrase.
pub struct SigningKey {
    public: Vec<u8>,
    secret: Vec<u8>,
}

impl SigningKey {
    /// Reads a key as ssh-keygen writes it (PROTOCOL.key). What is wrong is said without any of the key.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let blob = unarmoured(text, BEGIN_KEY, END_KEY).ok_or("it is no OpenSSH private key")?;
        let mut read = Wire(&blob);
        let outer = (|| {
            let magic = read.take(15)?;
            let (cipher, _kdf, _options) = (read.text()?, read.text()?, read.text()?);
            let (count, public, inner) = (read.number()?, read.text()?, read.text()?);
            (magic == b"openssh-key-v1\0" && count == 1).then_some((cipher, public, inner))
        })();
        let (cipher, public, inner) = outer.ok_or("it cannot be read")?;
        if cipher != b"none" {
            return Err("it has a passphrase, and nobody is there to type it");
        }
        let mut read = Wire(inner);
        let inner = (|| {
            let (one, other) = (read.number()?, read.number()?);
            (one == other).then_some((read.text()?, read.text()?, read.text()?))
        })();
        match inner {
            Some((b"ssh-ed25519", _, secret)) if secret.len() == 64 => {
                Ok(Self { public: public.to_vec(), secret: secret[..32].to_vec() })
            }
            Some(_) => Err("it is no Ed25519 key: make one by `ssh-keygen -t ed25519`"),
            None => Err("it cannot be read"),
        }
    }

    /// The signature of `message` for git, in armour.
    pub fn sign(&self, message: &[u8]) -> Result<String, ErrorStack> {
        let algorithm = b"sha512";
        let data = signed_data(NAMESPACE.as_bytes(), b"", algorithm, MessageDigest::sha512(), message)?;
        let key = PKey::private_key_from_raw_bytes(&self.secret, Id::ED25519)?;
        let raw = Signer::new_without_digest(&key)?.sign_oneshot_to_vec(&data)?;
        let mut signature = Vec::new();
        put(&mut signature, b"ssh-ed25519");
        put(&mut signature, &raw);
        let mut blob = MAGIC.to_vec();
        blob.extend_from_slice(&1u32.to_be_bytes());
        for part in [&self.public[..], NAMESPACE.as_bytes(), b"", algorithm, &signature] {
            put(&mut blob, part);
        }
        let text = encode_block(&blob).replace('\n', "");
        let mut armour = format!("{BEGIN}\n");
        for line in text.as_bytes().chunks(70) {
            armour += &String::from_utf8_lossy(line);
            armour.push('\n');
        }
        Ok(armour + END + "\n")
    }
}

/// Bytes as ssh writes them (RFC 4251, section 5).
struct Wire<'a>(&'a [u8]);

impl<'a> Wire<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(head)
    }

    fn number(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    fn text(&mut self) -> Option<&'a [u8]> {
        let length = self.number()?;
        self.take(usize::try_from(length).ok()?)
    }
}

fn put(to: &mut Vec<u8>, part: &[u8]) {
    to.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
    to.extend_from_slice(part);
}

/// What stands between two lines.
fn unarmoured(text: &str, begin: &str, end: &str) -> Option<Vec<u8>> {
    let (_, rest) = text.split_once(begin)?;
    let (body, _) = rest.split_once(end)?;
    base64(&body.chars().filter(|c| !c.is_whitespace()).collect::<String>())
}

/// Bytes of base64 with its padding.
pub(super) fn base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = decode_block(text).ok()?;
    // What stands for the padding is no content.
    let padding = text.bytes().rev().take_while(|byte| *byte == b'=').count();
    bytes.truncate((text.len() / 4 * 3).checked_sub(padding)?);
    Some(bytes)
}

#[cfg(test)]
#[path = "sshsig_tests.rs"]
mod tests;
