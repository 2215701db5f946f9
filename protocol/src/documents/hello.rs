//! Hello and welcome: the proofs of both ends, bound to one TLS connection
//! (`spec/setup.md`, section 5).

use serde::{Deserialize, Serialize};

use super::invite::DescriptorRef;
use super::{Document, short};
use crate::identity::Hash;

/// The guest's proof, signed by the key that the invite names.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Hello {
    /// SHA-256 of the invite's exact bytes.
    pub invite: Hash,
    /// 32 bytes of the TLS exporter, label `EXPORTER-suora-1`, context = `invite`.
    pub binding: Hash,
    /// The negotiated ALPN.
    pub alpn: String,
    /// The descriptor that the guest holds.
    pub descriptor: DescriptorRef,
}

impl Document for Hello {
    const KIND: &'static str = "hello";
    const KEYS: &'static [&'static str] = &["invite", "binding", "alpn", "descriptor", "critical"];

    fn check(&self) -> Result<(), &'static str> {
        if !short([&self.alpn]) {
            return Err("an ALPN over its bound");
        }
        Ok(())
    }
}

/// The host's proof in answer, signed by its node key.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Welcome {
    /// SHA-256 of the invite's exact bytes.
    pub invite: Hash,
    /// As in the hello.
    pub binding: Hash,
    /// SHA-256 of the hello's exact bytes.
    pub hello: Hash,
}

impl Document for Welcome {
    const KIND: &'static str = "welcome";
    const KEYS: &'static [&'static str] = &["invite", "binding", "hello", "critical"];
}
