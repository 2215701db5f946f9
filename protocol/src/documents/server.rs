//! Where a relay answers STUN and TURN: a URI of RFC 7065 (`spec/documents.md`, section 4).

use std::net::{IpAddr, SocketAddr};

/// How a server is reached.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Transport {
    /// `turn:…?transport=udp`, and without `transport`.
    Udp,
    /// `turn:…?transport=tcp`.
    Tcp,
    /// `turns:…`, over TCP.
    Tls,
}

/// A server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Server {
    /// How it is reached.
    pub transport: Transport,
    /// A name, or an address without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
}

impl Server {
    /// Reads a URI; `None` if it is none of these forms.
    pub fn parse(uri: &str) -> Option<Self> {
        let (scheme, rest) = uri.split_once(':')?;
        let (at, query) = match rest.split_once('?') {
            Some((at, query)) => (at, Some(query.strip_prefix("transport=")?)),
            None => (rest, None),
        };
        let (transport, default) = match (scheme, query) {
            ("turn", None | Some("udp")) => (Transport::Udp, 3_478),
            ("turn", Some("tcp")) => (Transport::Tcp, 3_478),
            ("turns", None | Some("tcp")) => (Transport::Tls, 5_349),
            _ => return None,
        };
        let (host, port) = match at.strip_prefix('[') {
            Some(rest) => {
                let (ip, port) = rest.split_once(']')?;
                ip.parse::<std::net::Ipv6Addr>().ok()?;
                (ip, port.strip_prefix(':').or(port.is_empty().then_some("")))
            }
            None => match at.split_once(':') {
                Some((host, port)) => (host, Some(port).filter(|port| !port.is_empty())),
                None => (at, Some("")),
            },
        };
        let port = match port? {
            "" => default,
            digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().ok()?,
            _ => return None,
        };
        let named = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
        let is_host = host.parse::<IpAddr>().is_ok() || host.bytes().all(named);
        (is_host && !host.is_empty() && port != 0).then(|| Self {
            transport,
            host: host.into(),
            port,
        })
    }

    /// Its address, where the host is one.
    pub fn address(&self) -> Option<SocketAddr> {
        let ip = self.host.parse().ok()?;
        Some(SocketAddr::new(ip, self.port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_read_with_its_defaults_and_nothing_else_is() {
        let read = |uri| {
            let server = Server::parse(uri)?;
            Some((server.transport, server.host, server.port))
        };
        let server = |transport, host: &str, port| Some((transport, host.to_string(), port));
        use Transport::{Tcp, Tls, Udp};
        for (uri, expected) in [
            ("turn:192.0.2.7", server(Udp, "192.0.2.7", 3_478)),
            (
                "turn:192.0.2.7:443?transport=udp",
                server(Udp, "192.0.2.7", 443),
            ),
            (
                "turn:relay.example:80?transport=tcp",
                server(Tcp, "relay.example", 80),
            ),
            ("turn:[2001:db8::1]:443", server(Udp, "2001:db8::1", 443)),
            ("turns:[2001:db8::1]", server(Tls, "2001:db8::1", 5_349)),
            (
                "turns:relay.example:443?transport=tcp",
                server(Tls, "relay.example", 443),
            ),
        ] {
            assert_eq!(read(uri), expected, "{uri}");
        }
        for bad in [
            "",
            "turn:",
            "turn::443",
            "turn:192.0.2.7:",
            "turn:192.0.2.7:0",
            "turn:192.0.2.7:70000",
            "turn:192.0.2.7:+443",
            "turn:192.0.2.7?transport=sctp",
            "turn:192.0.2.7?udp",
            "turns:192.0.2.7?transport=udp",
            "stun:192.0.2.7",
            "turn:2001:db8::1",
            "turn:[relay.example]:443",
            "turn:[2001:db8::1]443",
            "turn:a b",
            "TURN:192.0.2.7",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
        let address = |uri| Server::parse(uri).unwrap().address();
        assert_eq!(address("turn:192.0.2.7"), "192.0.2.7:3478".parse().ok());
        assert_eq!(address("turn:relay.example"), None);
    }
}
