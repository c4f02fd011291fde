//! The secrets of a cluster: secret files, and the set of secrets that a node uses.

use std::fmt;
use std::sync::{Arc, LazyLock};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SecureRandom as _;
use ring::{digest, hkdf};
use zeroize::Zeroizing;

/// The prefix of every secret, by which people recognise one. The number is the version of the format.
pub const SECRET_PREFIX: &str = "networkdb1.";

/// The most secrets a key set holds.
pub const MAX_SECRETS: usize = 16;

const SECRET_BYTES: usize = 32;
/// A checksum distinguishes a mistyped secret from a wrong one.
const CHECKSUM_BYTES: usize = 4;
const ENCODED_CHARACTERS: usize = (SECRET_BYTES + CHECKSUM_BYTES) / 3 * 4;

/// Generates a secret: 32 random bytes, as one line of a secret file without its line end.
pub fn generate_secret() -> Zeroizing<String> {
    let mut bytes = Zeroizing::new([0; SECRET_BYTES]);
    ring::rand::SystemRandom::new().fill(&mut *bytes).expect("the system has a source of random numbers");
    Secret::from_bytes(&bytes).to_text()
}

/// One shared secret of a cluster. Its bytes are never formatted, and are wiped when the last copy is
/// dropped.
#[derive(Clone)]
pub struct Secret {
    /// Shared, never copied: a copy that is moved leaves traces in memory that are never wiped.
    bytes: Arc<Zeroizing<[u8; SECRET_BYTES]>>,
}

/// Identifies a secret or a certificate authority in output for people: sixteen hexadecimal digits, from
/// which a secret cannot be computed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint([u8; 8]);

/// Why a text is not a secret. The text itself is never shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// The text does not begin with [`SECRET_PREFIX`].
    #[error("it does not begin with {SECRET_PREFIX:?}")]
    Prefix,
    /// The text is too short or too long.
    #[error(
        "{found} characters follow {SECRET_PREFIX:?}, and a secret has {ENCODED_CHARACTERS}; copy the whole \
         line"
    )]
    Length {
        /// The number of characters after the prefix.
        found: usize,
    },
    /// The text has invalid characters, or its checksum is wrong.
    #[error("its checksum does not match, so some characters are mistyped; copy the whole line")]
    Mistyped,
}

impl Secret {
    fn from_bytes(bytes: &[u8; SECRET_BYTES]) -> Self {
        let mut copy = Arc::new(Zeroizing::new([0; SECRET_BYTES]));
        Arc::get_mut(&mut copy).expect("just made").copy_from_slice(bytes);
        Self { bytes: copy }
    }

    /// Parses the text form, see [`generate_secret`].
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        let encoded = text.trim().strip_prefix(SECRET_PREFIX).ok_or(SecretError::Prefix)?;
        if encoded.len() != ENCODED_CHARACTERS {
            return Err(SecretError::Length { found: encoded.chars().count() });
        }
        let mut decoded = Zeroizing::new([0; SECRET_BYTES + CHECKSUM_BYTES]);
        match URL_SAFE_NO_PAD.decode_slice(encoded, &mut *decoded) {
            Ok(length) if length == decoded.len() => {}
            _ => return Err(SecretError::Mistyped),
        }
        let (bytes, checksum) = decoded.split_at(SECRET_BYTES);
        let bytes: &[u8; SECRET_BYTES] = bytes.try_into().expect("split there");
        if checksum != checksum_of(bytes) {
            return Err(SecretError::Mistyped);
        }
        Ok(Self::from_bytes(bytes))
    }

    /// The secret as a line of a secret file. Only for writing that file.
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut whole = Zeroizing::new([0; SECRET_BYTES + CHECKSUM_BYTES]);
        whole[..SECRET_BYTES].copy_from_slice(&**self.bytes);
        whole[SECRET_BYTES..].copy_from_slice(&checksum_of(&self.bytes));
        // Allocated at its final size: a text that grows leaves pieces of the secret in freed memory.
        let mut text = Zeroizing::new(String::with_capacity(SECRET_PREFIX.len() + ENCODED_CHARACTERS));
        text.push_str(SECRET_PREFIX);
        URL_SAFE_NO_PAD.encode_string(whole.as_slice(), &mut text);
        text
    }

    /// Identifies the secret, with the same result on every node that has it.
    pub fn fingerprint(&self) -> Fingerprint {
        let mut fingerprint = [0; 8];
        self.derive(&[b"networkdb fingerprint v1"], &mut fingerprint);
        Fingerprint(fingerprint)
    }

    /// Derives `key` from this secret for the purpose `info`.
    pub(crate) fn derive(&self, info: &[&[u8]], key: &mut [u8]) {
        derive(&**self.bytes, info, key);
    }

    fn is_development(&self) -> bool {
        self.bytes == DEVELOPMENT.bytes
    }
}

/// Derives `key` from `secret` for the purpose `info` (HKDF-SHA256, RFC 5869).
pub(crate) fn derive(secret: &[u8], info: &[&[u8]], key: &mut [u8]) {
    struct Length(usize);
    impl hkdf::KeyType for Length {
        fn len(&self) -> usize {
            self.0
        }
    }
    hkdf::Salt::new(hkdf::HKDF_SHA256, b"networkdb")
        .extract(secret)
        .expand(info, Length(key.len()))
        .and_then(|output| output.fill(key))
        .expect("far fewer bytes than HKDF can give");
}

fn checksum_of(bytes: &[u8; SECRET_BYTES]) -> [u8; CHECKSUM_BYTES] {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(SECRET_PREFIX.as_bytes());
    context.update(bytes);
    context.finish().as_ref()[..CHECKSUM_BYTES].try_into().expect("a digest is longer")
}

/// A public constant: it protects nothing.
static DEVELOPMENT: LazyLock<Secret> =
    LazyLock::new(|| Secret::from_bytes(b"networkdb development, no secret"));

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint() == other.fingerprint()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({})", self.fingerprint())
    }
}

impl Fingerprint {
    pub(crate) fn of_digest(digest: &digest::Digest) -> Self {
        Self(digest.as_ref()[..8].try_into().expect("a digest is longer"))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for Fingerprint {
    type Err = FingerprintError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || FingerprintError(text.to_owned());
        if text.len() != 16 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(error());
        }
        Ok(Self(u64::from_str_radix(text, 16).map_err(|_| error())?.to_be_bytes()))
    }
}

/// A text is not a [`Fingerprint`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not the fingerprint of a secret; a fingerprint has 16 hexadecimal digits")]
pub struct FingerprintError(String);

/// The secrets of a node. The first one is its own (the primary), and all are accepted from peers.
/// Cloning copies a pointer.
#[derive(Clone, PartialEq, Eq)]
pub struct KeySet(Arc<[Secret]>);

/// Why a text is not a secret file, or why a key set cannot be changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeySetError {
    /// It contains no secret.
    #[error("there is no secret in it")]
    Empty,
    /// A line is neither empty, nor a comment, nor a secret.
    #[error("line {line} is not a secret: {error}")]
    Line {
        /// The line number, from one.
        line: usize,
        /// What is wrong with the line.
        error: SecretError,
    },
    /// There are more secrets than a key set holds.
    #[error("it holds more than {MAX_SECRETS} secrets; remove unused ones")]
    TooMany,
    /// No secret of the set has this fingerprint.
    #[error("none of its secrets has the fingerprint {0}")]
    Unknown(Fingerprint),
    /// The primary secret cannot be removed.
    #[error("the secret {0} is this node's primary secret; use another one before removing it")]
    Primary(Fingerprint),
}

impl KeySet {
    /// A set of one new secret. Nodes that are given clones of it form a cluster.
    pub fn generate() -> Self {
        Self::new(Secret::parse(&generate_secret()).expect("a generated secret is valid"))
    }

    /// A set of one secret.
    pub fn new(secret: Secret) -> Self {
        Self([secret].into())
    }

    /// Parses a secret file: one secret per line, the node's own first. Empty lines and lines that begin
    /// with '#' are skipped, and repeated secrets count once.
    pub fn parse(text: &str) -> Result<Self, KeySetError> {
        let mut secrets: Vec<Secret> = Vec::with_capacity(MAX_SECRETS);
        for (line, text) in (1..).zip(text.lines()) {
            let text = text.trim();
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            let secret = Secret::parse(text).map_err(|error| KeySetError::Line { line, error })?;
            if secrets.contains(&secret) {
                continue;
            }
            if secrets.len() == MAX_SECRETS {
                return Err(KeySetError::TooMany);
            }
            secrets.push(secret);
        }
        if secrets.is_empty() {
            return Err(KeySetError::Empty);
        }
        Ok(Self(secrets.into()))
    }

    /// A well-known secret for trials on one machine. [`crate::Transport::bind`] refuses it on any
    /// address that is not loopback.
    pub fn development() -> Self {
        Self::new(DEVELOPMENT.clone())
    }

    /// Whether the well-known secret of [`KeySet::development`] is in the set.
    pub fn is_development(&self) -> bool {
        self.0.iter().any(Secret::is_development)
    }

    /// The secret from which the node's own certificate is made.
    pub fn primary(&self) -> &Secret {
        &self.0[0]
    }

    /// All secrets, the primary first.
    pub fn secrets(&self) -> &[Secret] {
        &self.0
    }

    /// The fingerprints of all secrets, the primary's first.
    pub fn fingerprints(&self) -> Vec<Fingerprint> {
        self.0.iter().map(Secret::fingerprint).collect()
    }

    /// The set with `secret` accepted too. Unchanged if it already is.
    pub fn with(&self, secret: Secret) -> Result<Self, KeySetError> {
        if self.0.contains(&secret) {
            return Ok(self.clone());
        }
        if self.0.len() == MAX_SECRETS {
            return Err(KeySetError::TooMany);
        }
        Ok(Self(self.0.iter().cloned().chain([secret]).collect()))
    }

    /// The set with the secret of this fingerprint as its primary. Unchanged if it already is.
    pub fn with_primary(&self, fingerprint: Fingerprint) -> Result<Self, KeySetError> {
        let primary = self.find(fingerprint)?;
        let others = self.0.iter().filter(|secret| *secret != primary);
        Ok(Self([primary].into_iter().chain(others).cloned().collect()))
    }

    /// The set without the secret of this fingerprint, which must not be the primary.
    pub fn without(&self, fingerprint: Fingerprint) -> Result<Self, KeySetError> {
        let unwanted = self.find(fingerprint)?;
        if unwanted == self.primary() {
            return Err(KeySetError::Primary(fingerprint));
        }
        Ok(Self(self.0.iter().filter(|secret| *secret != unwanted).cloned().collect()))
    }

    fn find(&self, fingerprint: Fingerprint) -> Result<&Secret, KeySetError> {
        let found = self.0.iter().find(|secret| secret.fingerprint() == fingerprint);
        found.ok_or(KeySetError::Unknown(fingerprint))
    }
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KeySet").field(&self.fingerprints()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_secret_is_parsed() {
        let text = generate_secret();
        let secret = Secret::parse(&text).unwrap();
        assert_eq!(secret.to_text(), text);
        assert_ne!(generate_secret(), text);
    }

    #[test]
    fn a_mistyped_secret_has_an_error_of_its_own() {
        let text = generate_secret().to_string();
        assert_eq!(Secret::parse("swordfish"), Err(SecretError::Prefix));
        assert_eq!(Secret::parse(&text[..text.len() - 1]), Err(SecretError::Length { found: 47 }));
        for index in SECRET_PREFIX.len()..text.len() {
            let mut typo = text.clone().into_bytes();
            typo[index] = if typo[index] == b'A' { b'B' } else { b'A' };
            assert_eq!(
                Secret::parse(std::str::from_utf8(&typo).unwrap()),
                Err(SecretError::Mistyped),
                "{index}"
            );
        }
    }

    #[test]
    fn a_secret_file_has_comments_and_a_first_secret() {
        let (first, second) = (generate_secret(), generate_secret());
        let text = format!("# made on Monday\n\n  {}  \r\n{}\n{}\n", *first, *second, *first);
        let keys = KeySet::parse(&text).unwrap();
        let expected = [&first, &second].map(|text| Secret::parse(text).unwrap().fingerprint());
        assert_eq!(keys.fingerprints(), expected);
        assert_eq!(keys.primary().fingerprint(), expected[0]);
        assert_eq!(KeySet::parse("# nothing\n"), Err(KeySetError::Empty));
        assert_eq!(KeySet::parse("#\nx"), Err(KeySetError::Line { line: 2, error: SecretError::Prefix }));
    }

    #[test]
    fn too_many_secrets_are_refused() {
        let text: String = (0..=MAX_SECRETS).map(|_| format!("{}\n", *generate_secret())).collect();
        assert_eq!(KeySet::parse(&text), Err(KeySetError::TooMany));
    }

    #[test]
    fn a_key_set_changes_step_by_step_and_each_step_is_idempotent() {
        let [first, second] = [(); 2].map(|()| Secret::parse(&generate_secret()).unwrap());
        let (one, two) = (first.fingerprint(), second.fingerprint());
        let keys = KeySet::new(first);
        let both = keys.with(second.clone()).unwrap();
        assert_eq!(both.with(second).unwrap(), both);
        assert_eq!(both.fingerprints(), [one, two]);
        assert_eq!(both.without(one), Err(KeySetError::Primary(one)));
        let used = both.with_primary(two).unwrap();
        assert_eq!(used.with_primary(two).unwrap(), used);
        assert_eq!(used.fingerprints(), [two, one]);
        let removed = used.without(one).unwrap();
        assert_eq!(removed.fingerprints(), [two]);
        assert_eq!(removed.without(one), Err(KeySetError::Unknown(one)));
    }

    #[test]
    fn neither_a_secret_nor_a_mistyped_one_is_ever_formatted() {
        let text = generate_secret().to_string();
        let secret = Secret::parse(&text).unwrap();
        let keys = KeySet::new(secret.clone());
        let hex: String = secret.bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let list = format!("{:?}", secret.bytes);
        let typo = KeySet::parse(&format!("{text}A")).unwrap_err();
        for shown in [format!("{secret:?}"), format!("{keys:?} {keys:#?}"), format!("{typo:?} {typo}")] {
            let encoded = &text[SECRET_PREFIX.len()..];
            assert!(!shown.contains(encoded) && !shown.contains(&hex) && !shown.contains(&list), "{shown}");
        }
        assert!(format!("{keys:?}").contains(&secret.fingerprint().to_string()));
    }

    #[test]
    fn secrets_are_wiped_when_they_are_dropped() {
        // Otherwise this does not compile.
        fn wiped(_: &impl zeroize::ZeroizeOnDrop) {}
        let text = generate_secret();
        let secret = Secret::parse(&text).unwrap();
        wiped(&text);
        wiped(&*secret.bytes);
        wiped(&secret.to_text());
        let copy = secret.clone();
        assert!(Arc::ptr_eq(&copy.bytes, &secret.bytes), "a copy is no second place");
    }

    #[test]
    fn a_fingerprint_is_read_back() {
        let fingerprint = Secret::parse(&generate_secret()).unwrap().fingerprint();
        assert_eq!(fingerprint.to_string().parse(), Ok(fingerprint));
        assert!("+123456789abcdef".parse::<Fingerprint>().is_err());
    }
}
