//! First packets of QUIC that a stranger makes: noise that looks like one, and real ones, to
//! which a server answers with a whole handshake that nobody goes on with.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use quinn::crypto::rustls::QuicClientConfig;
use quinn_proto::{ConnectionId, EndpointConfig};
use rustls::NamedGroup;
use suora_node::endpoint::certificate::Pin;
use suora_protocol::identity::{Draw, Hash};

use crate::peer::Failure;

/// Length of a first packet.
const LENGTH: usize = 1_200;

/// Noise behind the head of an Initial with this connection id.
pub fn noise(draw: &mut Draw, dcid: [u8; 20]) -> Vec<u8> {
    let mut packet = vec![0xc3, 0, 0, 0, 1, 20];
    packet.extend_from_slice(&dcid);
    while packet.len() < LENGTH {
        packet.extend_from_slice(&draw.bytes::<32>());
    }
    packet.truncate(LENGTH);
    packet
}

/// A real Initial: its ALPN, and a connection id if it has to have a certain one.
pub fn real(
    to: SocketAddr,
    alpn: &str,
    dcid: Option<[u8; 20]>,
    now: Instant,
) -> Result<Vec<u8>, Failure> {
    let failed = |error: &dyn std::fmt::Display| error.to_string();
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    // with the hybrid group the handshake's beginning takes two packets
    provider
        .kx_groups
        .retain(|group| group.name() == NamedGroup::X25519);
    let provider = Arc::new(provider);
    let pin = Pin::new(Hash::of(b"nobody's"), provider.clone());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| failed(&error))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(pin))
        .with_no_client_auth();
    tls.alpn_protocols = vec![alpn.into()];
    tls.enable_sni = false;
    let crypto = QuicClientConfig::try_from(Arc::new(tls)).map_err(|error| failed(&error))?;
    let mut config = quinn_proto::ClientConfig::new(Arc::new(crypto));
    if let Some(dcid) = dcid {
        config.initial_dst_cid_provider(Arc::new(move || ConnectionId::new(&dcid)));
    }
    let mut endpoint =
        quinn_proto::Endpoint::new(Arc::new(EndpointConfig::default()), None, false, None);
    let (_, mut connection) = endpoint
        .connect(now, config, to, "suora.invalid")
        .map_err(|error| failed(&error))?;
    let mut packet = Vec::new();
    let transmit = connection.poll_transmit(now, 1, &mut packet);
    let length = transmit.map_or(0, |transmit| transmit.size);
    packet.truncate(length);
    if length < LENGTH {
        return Err(format!("a first packet of {length} bytes"));
    }
    Ok(packet)
}
