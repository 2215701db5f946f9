//! Keys under a passphrase: EncryptedPrivateKeyInfo of PKCS #8 (RFC 5958) under PBES2 (RFC 8018)
//! with scrypt and AES-256, as PEM. OpenSSL reads it: `openssl pkey -in root.key`.

use std::path::Path;

use pkcs8::der::asn1::OctetStringRef;
use pkcs8::der::pem::PemLabel;
use pkcs8::der::{Decode, SecretDocument};
use pkcs8::pkcs5::EncryptionScheme;
use pkcs8::pkcs5::pbes2::Kdf;
use pkcs8::{
    AlgorithmIdentifierRef, EncryptedPrivateKeyInfoRef, LineEnding, ObjectIdentifier,
    PrivateKeyInfoRef,
};
use suora_protocol::fault::{Code, Fault};
use suora_protocol::identity::Key;
use zeroize::Zeroizing;

/// Ed25519 (RFC 8410).
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
/// What stands before the 32 bytes of a private key of RFC 8410: an octet string of 32.
const CURVE_PRIVATE_KEY: [u8; 2] = [0x04, 0x20];

/// scrypt's N and p, and the bytes that it takes: 128 × N × r.
const SCRYPT_N_MAX: u64 = 1 << 17;
const SCRYPT_P_MAX: u16 = 4;
const SCRYPT_BYTES_MAX: u64 = 128 << 20;
/// Rounds of PBKDF2, which other tools may use.
const ROUNDS_MAX: u32 = 10_000_000;

/// What opens a key.
pub struct Passphrase(Zeroizing<String>);

impl std::fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Passphrase([redacted])")
    }
}

impl Passphrase {
    /// The least length, in characters: shorter ones are found by trying.
    pub const LEAST: usize = 12;

    /// A passphrase for a new key. A short one is [`Code::BadConfig`].
    pub fn new(text: Zeroizing<String>) -> Result<Self, Fault> {
        if text.chars().count() < Self::LEAST {
            return Err(Fault::new(Code::BadConfig).with(format!(
                "a passphrase has {} characters or more",
                Self::LEAST
            )));
        }
        Ok(Self(text))
    }

    /// The same, if it will do for a new key.
    pub fn long_enough(self) -> Result<Self, Fault> {
        Self::new(self.0)
    }

    /// A passphrase to be tried.
    pub const fn given(text: Zeroizing<String>) -> Self {
        Self(text)
    }

    /// The first line of a file that only its owner can read.
    pub fn read(path: &Path) -> Result<Self, Fault> {
        let bad =
            |what: &str| Fault::new(Code::BadKeyFile).with(format!("{}: {what}", path.display()));
        let bytes = super::private(path).map_err(|what| bad(&what))?;
        let text = std::str::from_utf8(&bytes).map_err(|_| bad("not text"))?;
        let line = text.lines().next().unwrap_or_default();
        if line.is_empty() {
            return Err(bad("the passphrase is its first line, which is empty"));
        }
        Ok(Self(Zeroizing::new(line.into())))
    }

    /// Asks the person at the terminal, unseen.
    pub fn ask(what: &str) -> Result<Self, Fault> {
        rpassword::prompt_password(format!("{what}: "))
            .map(|text| Self(Zeroizing::new(text)))
            .map_err(|error| {
                Fault::new(Code::BadConfig).with(format!(
                    "no terminal to ask for the passphrase ({error}): name a file with --passphrase-file"
                ))
            })
    }

    /// Asks for a new one, twice.
    pub fn choose(what: &str) -> Result<Self, Fault> {
        let Self(text) = Self::ask(&format!("New passphrase for {what}"))?;
        let chosen = Self::new(text)?;
        let Self(again) = Self::ask("The same again")?;
        if *chosen.0 != *again {
            return Err(Fault::new(Code::WrongPassphrase).with("the two are not the same"));
        }
        Ok(chosen)
    }
}

fn damaged() -> Fault {
    Fault::new(Code::BadKeyFile).with("damaged, or not an encrypted Ed25519 key")
}

/// Whether a file is a key under a passphrase.
pub(super) fn is(text: &[u8]) -> bool {
    let begin = format!("-----BEGIN {}-----", EncryptedPrivateKeyInfoRef::PEM_LABEL);
    text.trim_ascii_start().starts_with(begin.as_bytes())
}

/// The text of a key file under a passphrase.
pub(super) fn write(key: &Key, passphrase: &Passphrase) -> Result<Zeroizing<String>, Fault> {
    let internal = |error: &dyn std::fmt::Display| {
        Fault::new(Code::Internal).with(format!("the key cannot be encrypted: {error}"))
    };
    let secret = Zeroizing::new([&CURVE_PRIVATE_KEY[..], &*key.secret()].concat());
    let algorithm = AlgorithmIdentifierRef {
        oid: ED25519,
        parameters: None,
    };
    let secret = OctetStringRef::new(&secret).map_err(|error| internal(&error))?;
    let sealed = PrivateKeyInfoRef::new(algorithm, secret)
        .encrypt(passphrase.0.as_bytes())
        .map_err(|error| internal(&error))?;
    sealed
        .to_pem(EncryptedPrivateKeyInfoRef::PEM_LABEL, LineEnding::LF)
        .map_err(|error| internal(&error))
}

/// Whether a file asks for no more time and memory than a key is worth. It says itself how much
/// work its passphrase is, so a file that somebody slipped in could ask for terabytes.
fn is_bearable(scheme: &EncryptionScheme) -> bool {
    let EncryptionScheme::Pbes2(parameters) = scheme else {
        return false;
    };
    match &parameters.kdf {
        Kdf::Scrypt(scrypt) => {
            let bytes = scrypt
                .cost_parameter
                .saturating_mul(u64::from(scrypt.block_size))
                .saturating_mul(128);
            scrypt.cost_parameter <= SCRYPT_N_MAX
                && scrypt.parallelization <= SCRYPT_P_MAX
                && bytes <= SCRYPT_BYTES_MAX
        }
        Kdf::Pbkdf2(pbkdf2) => pbkdf2.iteration_count <= ROUNDS_MAX,
        _ => false,
    }
}

/// The key in such a text. Another passphrase than its own is [`Code::WrongPassphrase`], what is no
/// such key [`Code::BadKeyFile`].
pub(super) fn read(text: &[u8], passphrase: &Passphrase) -> Result<Key, Fault> {
    let text = std::str::from_utf8(text).map_err(|_| damaged())?;
    let (label, document) = SecretDocument::from_pem(text.trim()).map_err(|_| damaged())?;
    if label != EncryptedPrivateKeyInfoRef::PEM_LABEL {
        return Err(damaged());
    }
    let sealed: EncryptedPrivateKeyInfoRef<'_> =
        EncryptedPrivateKeyInfoRef::from_der(document.as_bytes()).map_err(|_| damaged())?;
    if !is_bearable(&sealed.encryption_algorithm) {
        return Err(Fault::new(Code::BadKeyFile).with(
            "opening it takes more time or memory than any key is worth: it is damaged, or a trap",
        ));
    }
    let opened = sealed
        .decrypt(passphrase.0.as_bytes())
        .map_err(|_| Fault::new(Code::WrongPassphrase))?;
    key(&opened).ok_or_else(|| Fault::new(Code::WrongPassphrase))
}

/// The key in an unencrypted private key of PKCS #8, as other tools write it.
pub(super) fn unsealed(text: &[u8]) -> Option<Key> {
    let text = std::str::from_utf8(text).ok()?;
    let (_, document) = SecretDocument::from_pem(text.trim()).ok()?;
    key(&document)
}

fn key(document: &SecretDocument) -> Option<Key> {
    let info = PrivateKeyInfoRef::from_der(document.as_bytes()).ok()?;
    let secret = info
        .private_key
        .as_bytes()
        .strip_prefix(&CURVE_PRIVATE_KEY)?;
    let secret: Zeroizing<[u8; 32]> = Zeroizing::new(secret.try_into().ok()?);
    (info.algorithm.oid == ED25519).then(|| Key::from_secret(&secret))
}

#[cfg(test)]
mod tests {
    use pkcs8::pkcs5::pbes2::{Pbkdf2Params, ScryptParams};

    use super::*;

    fn phrase(text: &str) -> Passphrase {
        Passphrase::given(Zeroizing::new(text.into()))
    }

    // covers: SUORA-SEC-102
    #[test]
    fn a_sealed_key_opens_with_its_passphrase_and_with_no_other() {
        let key = Key::from_secret(&[7; 32]);
        let text = write(&key, &phrase("correct horse battery")).unwrap();
        assert!(is(text.as_bytes()));
        let opened = read(text.as_bytes(), &phrase("correct horse battery")).unwrap();
        assert_eq!(opened.peer_id(), key.peer_id());
        for wrong in ["correct horse batterY", "", "correct horse battery "] {
            let fault = read(text.as_bytes(), &phrase(wrong)).unwrap_err();
            assert_eq!(fault.code, Code::WrongPassphrase, "{wrong:?}");
        }
        // nothing of the secret is in the file, and no two files of it are alike
        let hex: String = key
            .secret()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert!(!text.contains(&hex));
        let again = write(&key, &phrase("correct horse battery")).unwrap();
        assert_ne!(*text, *again);
    }

    #[test]
    fn what_is_no_sealed_key_is_damaged() {
        let key = Key::from_secret(&[7; 32]);
        let text = write(&key, &phrase("correct horse battery")).unwrap();
        for bad in [
            text.replace("MI", "!!"),
            text[..text.len() / 2].to_string(),
            text.replace("ENCRYPTED PRIVATE", "PUBLIC"),
            String::new(),
        ] {
            let fault = read(bad.as_bytes(), &phrase("correct horse battery")).unwrap_err();
            assert_eq!(fault.code, Code::BadKeyFile, "{bad}");
        }
        assert!(Passphrase::new(Zeroizing::new("too short".into())).is_err());
    }

    /// Made by `openssl genpkey -algorithm ed25519`, and the same under a passphrase by
    /// `openssl pkcs8 -topk8 -scrypt -v2 aes-256-cbc`.
    const OPENSSL: &str = "\
-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIMDZhfHRnFeX8F+glA9f3Den0hvLoWktIk63u7yUWZzy
-----END PRIVATE KEY-----
";
    const OPENSSL_SEALED: &str = "\
-----BEGIN ENCRYPTED PRIVATE KEY-----
MIGTME8GCSqGSIb3DQEFDTBCMCEGCSsGAQQB2kcECzAUBAhQcei63wZ3mQICQAAC
AQgCAQEwHQYJYIZIAWUDBAEqBBAoFj/Xv/R2PZCEpgOe3jP6BEDf6JpNHhiGcnS6
/0M166t/0FtEdLzS1AXdhmfBH3dZU+Ujg14P8owjfs0iUHa46FVDQtosuoIYKNhg
BWA6pBVh
-----END ENCRYPTED PRIVATE KEY-----
";

    /// A key under this derivation, as another tool might write it.
    fn sealed_by(kdf: impl Into<Kdf>) -> String {
        let scheme = EncryptionScheme::from(pkcs8::pkcs5::pbes2::Parameters {
            kdf: kdf.into(),
            encryption: pkcs8::pkcs5::pbes2::EncryptionScheme::Aes256Cbc { iv: [1; 16] },
        });
        let sealed = pkcs8::EncryptedPrivateKeyInfo {
            encryption_algorithm: scheme,
            encrypted_data: OctetStringRef::new(&[0; 64]).unwrap(),
        };
        let document = SecretDocument::try_from(&sealed).unwrap();
        let pem = document.to_pem(EncryptedPrivateKeyInfoRef::PEM_LABEL, LineEnding::LF);
        pem.unwrap().to_string()
    }

    fn scrypt(n: u64, r: u16, p: u16) -> Kdf {
        Kdf::Scrypt(ScryptParams {
            salt: (&[7; 16][..]).try_into().unwrap(),
            cost_parameter: n,
            block_size: r,
            parallelization: p,
            key_length: None,
        })
    }

    // covers: SUORA-SEC-102, SUORA-SEC-140
    #[test]
    fn a_key_that_asks_for_too_much_work_is_refused_before_it() {
        let said = |kdf: Kdf| {
            let fault = read(sealed_by(kdf).as_bytes(), &phrase("correct horse battery"));
            let fault = fault.unwrap_err();
            (fault.code, fault.to_string().contains("a trap"))
        };
        let rounds = |rounds| Kdf::from(Pbkdf2Params::hmac_sha256(rounds, &[7; 16]).unwrap());
        for kdf in [
            scrypt(1 << 40, 8, 1),
            scrypt(1 << 18, 1, 1),
            scrypt(1 << 17, 16, 1),
            scrypt(1 << 14, 60_000, 1),
            scrypt(1 << 10, 8, 60_000),
            scrypt(u64::MAX, u16::MAX, u16::MAX),
            rounds(100_000_000),
        ] {
            assert_eq!(said(kdf), (Code::BadKeyFile, true));
        }
        // the control: what is no more than others use is tried, and this passphrase is wrong
        for kdf in [scrypt(1 << 14, 8, 1), scrypt(1 << 10, 1, 4), rounds(2_048)] {
            assert_eq!(said(kdf), (Code::WrongPassphrase, false));
        }
    }

    #[test]
    fn keys_of_another_tool_are_read() {
        let plain = unsealed(OPENSSL.as_bytes()).unwrap();
        let opened = read(OPENSSL_SEALED.as_bytes(), &phrase("correct horse battery")).unwrap();
        assert_eq!(plain.peer_id(), opened.peer_id());
    }
}
