//! The host's certificate: P-256, self-signed, fresh at each start, its key in memory
//! only; and the guest's pin of it (`spec/setup.md`, section 3).

use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, Error, SignatureScheme};
use suora_protocol::fault::{Code, Fault};
use suora_protocol::identity::Hash;
use suora_protocol::time::Timestamp;

/// What a mismatch says; the endpoint tells it from other handshake errors.
pub const MISMATCH: &str = "the certificate is not the one of the invite";

/// How long a certificate is valid.
pub const VALID: Duration = Duration::from_secs(86_400);
/// How long of it lies before its making.
pub const EARLY: Duration = Duration::from_secs(600);

/// Seconds from 1970 to the last year that a certificate can name.
const YEAR_9999: u64 = 253_370_764_800;

/// A fresh certificate and its key.
#[derive(Debug)]
pub struct Certificate {
    der: CertificateDer<'static>,
    key: rcgen::KeyPair,
}

impl Certificate {
    /// Makes one, with an empty subject, valid for [`VALID`] around `now`: [`EARLY`] of it
    /// lies before, since clocks differ.
    pub fn generate(now: Timestamp) -> Result<Self, Fault> {
        let internal = |error: rcgen::Error| Fault::new(Code::Internal).with(error.to_string());
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(internal)?;
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        let now = u64::try_from(now.as_secs()).unwrap_or(0).min(YEAR_9999);
        let begin = Duration::from_secs(now).saturating_sub(EARLY);
        params.not_before = epoch + begin;
        params.not_after = epoch + begin + VALID;
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The two times of a certificate's validity, as UTCTime writes them.
    fn validity(certificate: &Certificate) -> Vec<String> {
        certificate
            .der
            .windows(15)
            .filter(|bytes| bytes.starts_with(&[0x17, 13]) && bytes.ends_with(b"Z"))
            .map(|bytes| String::from_utf8_lossy(&bytes[2..]).into_owned())
            .collect()
    }

    // covers: SUORA-SET-011
    #[test]
    fn a_certificate_is_valid_for_a_day_around_its_making() {
        // 2026-11-25, 12:00:00
        let now = Timestamp::from_secs(1_795_608_000);
        let certificate = Certificate::generate(now).unwrap();
        assert_eq!(validity(&certificate), ["261125115000Z", "261126115000Z"]);
    }

    #[test]
    fn a_clock_far_off_gives_a_certificate_all_the_same() {
        for secs in [i64::MIN, -1, 0, 300, i64::MAX] {
            Certificate::generate(Timestamp::from_secs(secs)).unwrap();
        }
    }
}
