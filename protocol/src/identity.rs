//! Keys and names (`spec/documents.md`, section 2). Every key of a device comes from
//! one 32-byte seed by HKDF-SHA-256 (RFC 5869): `node` gives an officer's node key,
//! `citizen` with the agency's id gives a citizen's key, so that one person has
//! another name at each agency. Names print redacted; [`PeerId::to_text`] is meant.

use std::fmt;

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use hkdf::Hkdf;
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, Zeroizing};

use crate::fault::{Code, Fault};

/// Defines a fixed-size byte name: a CBOR byte string in documents and messages.
macro_rules! bytes_name {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $len]);

        impl $name {
            /// From its bytes.
            pub const fn from_bytes(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }
            /// Its bytes.
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }
            /// Lower-case hexadecimal.
            pub fn to_hex(&self) -> String {
                self.0.iter().map(|byte| format!("{byte:02x}")).collect()
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_bytes(&self.0)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let bytes = <serde_bytes::ByteBuf as serde::Deserialize>::deserialize(deserializer)?;
                let bytes: [u8; $len] = bytes.as_slice().try_into()
                    .map_err(|_| serde::de::Error::invalid_length(bytes.len(), &stringify!($len)))?;
                Ok(Self(bytes))
            }
        }
    };
}
pub(crate) use bytes_name;

/// Prints a name as hexadecimal: for names that belong to no person.
macro_rules! open_name {
    ($name:ident) => {
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.to_hex())
            }
        }
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.to_hex())
            }
        }
    };
}
pub(crate) use open_name;

bytes_name!(
    /// A SHA-256 hash.
    Hash, 32
);
open_name!(Hash);

impl Hash {
    /// The hash of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

bytes_name!(
    /// An agency: the SHA-256 of its root public key.
    AgencyId, 32
);

impl AgencyId {
    /// The agency of a root key.
    pub fn of_root(root: &PeerId) -> Self {
        Self(Hash::of(root.as_bytes()).0)
    }

    /// The text form: 64 hexadecimal digits, as in `#root=`.
    pub fn to_text(&self) -> String {
        self.to_hex()
    }

    /// Reads the text form. A malformed text is [`Code::BadConfig`].
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let bad = || Fault::new(Code::BadConfig).with("a root id is 64 hexadecimal digits");
        if text.len() != 64 || !text.is_ascii() {
            return Err(bad());
        }
        let mut bytes = [0; 32];
        for (at, byte) in bytes.iter_mut().enumerate() {
            let digits = text.get(at * 2..at * 2 + 2).ok_or_else(bad)?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| bad())?;
        }
        Ok(Self(bytes))
    }
}
open_name!(AgencyId);

bytes_name!(
    /// An Ed25519 public key, in its libp2p text form a peer id. Prints redacted.
    PeerId, 32
);

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[peer]")
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[peer]")
    }
}

/// The point that a key is, in the one form of RFC 8032: a second form would be a second
/// peer id of one key.
fn point(bytes: &[u8; 32]) -> Result<VerifyingKey, Fault> {
    let malformed = |what: &str| Fault::new(Code::Malformed).with(what);
    let key = VerifyingKey::from_bytes(bytes).map_err(|_| malformed("not an Ed25519 key"))?;
    if key.to_edwards().compress().as_bytes() == bytes {
        Ok(key)
    } else {
        Err(malformed("a key in another form than RFC 8032's"))
    }
}

impl PeerId {
    /// A usable public key: a point of the curve that is not of small order.
    pub fn checked(bytes: [u8; 32]) -> Result<Self, Fault> {
        let key = point(&bytes)?;
        if key.is_weak() {
            return Err(
                Fault::new(Code::BadSignature).with("a key of small order signs everything")
            );
        }
        Ok(Self(bytes))
    }

    /// Reads the text form (`12D3Koo…`). Anything else is [`Code::BadConfig`].
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let bad =
            || Fault::new(Code::BadConfig).with("not the peer id of an Ed25519 key (12D3Koo…)");
        let id: libp2p_identity::PeerId = text.trim().parse().map_err(|_| bad())?;
        let bytes = id.to_bytes();
        // multihash `identity`, 36 bytes: protobuf {1: Ed25519, 2: 32 bytes}
        let key: [u8; 32] = bytes
            .strip_prefix(&[0x00, 0x24, 0x08, 0x01, 0x12, 0x20])
            .and_then(|key| key.try_into().ok())
            .ok_or_else(bad)?;
        Self::checked(key)
    }

    /// The libp2p text form.
    pub fn to_text(&self) -> String {
        libp2p_identity::ed25519::PublicKey::try_from_bytes(&self.0)
            .map(|key| {
                libp2p_identity::PublicKey::from(key)
                    .to_peer_id()
                    .to_base58()
            })
            .unwrap_or_else(|_| self.to_hex())
    }

    /// Verifies strictly (RFC 8032, cofactorless, small-order keys refused).
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), Fault> {
        let bad = |_| Fault::new(Code::BadSignature);
        let key = point(&self.0).map_err(|_| Fault::new(Code::BadSignature))?;
        let signature = Signature::from_slice(signature).map_err(bad)?;
        key.verify_strict(message, &signature).map_err(bad)
    }
}

/// A device's 32-byte secret, from which all its keys come.
pub struct Seed(Zeroizing<[u8; 32]>);

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed([redacted])")
    }
}

impl Seed {
    /// From 32 secret bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The secret bytes, for the key file.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The officer's node key: label `node`.
    pub fn node_key(&self) -> Key {
        self.derive(&[b"node"])
    }

    /// The citizen's key at one agency: label `citizen` and the agency's id.
    pub fn citizen_key(&self, agency: &AgencyId) -> Key {
        self.derive(&[b"citizen", agency.as_bytes()])
    }

    fn derive(&self, info: &[&[u8]]) -> Key {
        let mut secret = Zeroizing::new([0; 32]);
        let info: Vec<u8> = info.concat();
        // 32 bytes are far under HKDF's bound of 255 hashes.
        let expanded = Hkdf::<Sha256>::new(Some(b"suora/1 seed"), self.0.as_slice())
            .expand(&info, secret.as_mut_slice());
        debug_assert!(expanded.is_ok());
        Key::from_secret(&secret)
    }
}

/// An Ed25519 signing key, wiped from memory when dropped.
#[derive(Clone)]
pub struct Key(SigningKey);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key([redacted])")
    }
}

impl Key {
    /// From the 32-byte secret of RFC 8032.
    pub fn from_secret(secret: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(secret))
    }

    /// The 32-byte secret of RFC 8032.
    pub fn secret(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    /// The public half.
    pub fn peer_id(&self) -> PeerId {
        PeerId(self.0.verifying_key().to_bytes())
    }

    /// Signs `message`; 64 bytes.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}

/// Random bytes for pure machines: expands a seed that a door drew from the
/// system, so that a run can be repeated from it.
pub struct Draw {
    seed: [u8; 32],
    count: u64,
}

impl fmt::Debug for Draw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Draw(#{})", self.count)
    }
}

impl Draw {
    /// An expander over `seed`.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self { seed, count: 0 }
    }

    /// The next `N` bytes.
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        for chunk in out.chunks_mut(32) {
            let mut hash = Sha256::new();
            hash.update(b"suora/1 draw");
            hash.update(self.seed);
            hash.update(self.count.to_be_bytes());
            self.count += 1;
            let block: [u8; 32] = hash.finalize().into();
            for (to, from) in chunk.iter_mut().zip(block) {
                *to = from;
            }
        }
        out
    }

    /// A number below `bound`; 0 for a bound of 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        u64::from_be_bytes(self.bytes())
            .checked_rem(bound)
            .unwrap_or(0)
    }
}

impl Drop for Draw {
    fn drop(&mut self) {
        self.seed.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // covers: SUORA-DOC-001
    #[test]
    fn one_seed_gives_another_citizen_at_each_agency() {
        let seed = Seed::from_bytes([7; 32]);
        let (a, b) = (AgencyId::from_bytes([1; 32]), AgencyId::from_bytes([2; 32]));
        assert_eq!(
            seed.citizen_key(&a).peer_id(),
            seed.citizen_key(&a).peer_id()
        );
        assert_ne!(
            seed.citizen_key(&a).peer_id(),
            seed.citizen_key(&b).peer_id()
        );
        assert_ne!(seed.citizen_key(&a).peer_id(), seed.node_key().peer_id());
    }

    // covers: SUORA-SEC-005
    #[test]
    fn peer_ids_have_the_text_of_libp2p_and_print_redacted() {
        let id = Seed::from_bytes([7; 32]).node_key().peer_id();
        assert!(id.to_text().starts_with("12D3Koo"));
        assert_eq!(PeerId::parse(&id.to_text()), Ok(id));
        assert_eq!(
            PeerId::parse("QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG").map_err(|f| f.code),
            Err(Code::BadConfig)
        );
        assert_eq!(format!("{id} {id:?}"), "[peer] [peer]");
    }

    // covers: SUORA-DOC-002
    #[test]
    fn keys_of_small_order_are_refused() {
        let mut neutral = [0; 32];
        neutral[0] = 1;
        assert_eq!(
            PeerId::checked(neutral).map_err(|f| f.code),
            Err(Code::BadSignature)
        );
        assert!(PeerId::from_bytes(neutral).verify(b"x", &[0; 64]).is_err());
    }

    // covers: SUORA-DOC-140
    #[test]
    fn a_key_has_one_form_and_so_one_peer_id() {
        let mut three = [0; 32];
        three[0] = 3;
        let mut again = [0xff; 32];
        again[0] = 0xf0;
        again[31] = 0x7f;
        assert!(PeerId::checked(three).is_ok());
        let refused = PeerId::checked(again).map_err(|fault| fault.code);
        assert_eq!(refused, Err(Code::Malformed));
    }

    #[test]
    fn draws_differ_and_repeat_by_seed() {
        let mut one = Draw::from_seed([1; 32]);
        let mut two = Draw::from_seed([1; 32]);
        let first: [u8; 40] = one.bytes();
        assert_eq!(first, two.bytes::<40>());
        assert_ne!(first, one.bytes::<40>());
    }
}
