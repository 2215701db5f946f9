//! The host's certificate: P-256, self-signed, fresh at each start, its key in memory
//! only; and the guest's pin of it (`spec/setup.md`, section 3).

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, Error, SignatureScheme};
use suora_protocol::fault::{Code, Fault};
use suora_protocol::identity::Hash;

/// What a mismatch says; the endpoint tells it from other handshake errors.
pub const MISMATCH: &str = "the certificate is not the one of the invite";

/// A fresh certificate and its key.
#[derive(Debug)]
pub struct Certificate {
    der: CertificateDer<'static>,
    key: rcgen::KeyPair,
}

impl Certificate {
    /// Makes one, with an empty subject, valid for a day around now.
    pub fn generate() -> Result<Self, Fault> {
        let internal = |error: rcgen::Error| Fault::new(Code::Internal).with(error.to_string());
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(internal)?;
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        let certificate = params.self_signed(&key).map_err(internal)?;
        Ok(Self {
            der: certificate.der().clone(),
            key,
        })
    }

    /// SHA-256 of the certificate.
    pub fn fingerprint(&self) -> Hash {
        Hash::of(&self.der)
    }

    /// As rustls takes it.
    pub fn tls(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Fault> {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.serialize_der()));
        Ok((vec![self.der.clone()], key))
    }
}

/// Accepts one certificate, by its hash, and checks that the other end has its key.
#[derive(Debug)]
pub struct Pin {
    fingerprint: Hash,
    provider: Arc<CryptoProvider>,
}

impl Pin {
    /// A pin of the invite's fingerprint.
    pub const fn new(fingerprint: Hash, provider: Arc<CryptoProvider>) -> Self {
        Self {
            fingerprint,
            provider,
        }
    }
}

impl ServerCertVerifier for Pin {
    fn verify_server_cert(
        &self,
        end: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if Hash::of(end) == self.fingerprint {
            Ok(ServerCertVerified::assertion())
        } else {
            // the only error whose text reaches the connection's error as it is
            Err(Error::General(MISMATCH.into()))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}
