//! The relay's settings: `relay.toml` in the data directory. Unknown keys are refused.

use std::net::SocketAddr;
use std::path::Path;

use serde::Deserialize;
use suora_protocol::fault::{Code, Fault};

/// `relay.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where nodes connect, by QUIC (UDP) and TCP on the same port.
    pub control: SocketAddr,
    /// Where `/.well-known/suora` and `/health` are served.
    pub http: SocketAddr,
    /// Where `/metrics` is served: keep it on loopback.
    pub metrics: SocketAddr,
    /// Most streams of nodes from one address prefix (/24, /56).
    #[serde(default = "default_per_prefix")]
    pub connections_per_prefix: u32,
    /// Most connections of nodes in all.
    #[serde(default = "default_connections")]
    pub connections: u32,
}

const fn default_per_prefix() -> u32 {
    256
}

const fn default_connections() -> u32 {
    20_000
}

impl Config {
    /// Reads a settings file; an error shows the line and what is wrong with it.
    pub fn read(path: &Path) -> Result<Self, Fault> {
        let bad =
            |what: String| Fault::new(Code::BadConfig).with(format!("{}: {what}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|error| bad(error.to_string()))?;
        toml::from_str(&text).map_err(|error| bad(error.to_string()))
    }

    /// The commented file that `init` writes.
    pub fn template(host: &str, control: u16, http: u16, metrics: u16) -> String {
        let host = if host.contains(':') {
            format!("[{host}]")
        } else {
            host.to_string()
        };
        format!(
            "# Settings of suora-relay. Every key is explained; unknown keys are refused.\n\n\
             # Where nodes connect, by QUIC (UDP) and TCP on the same port.\n\
             control = \"{host}:{control}\"\n\n\
             # Where /.well-known/suora and /health are served. Put your web server with\n\
             # HTTPS for the agency's domain in front of it.\n\
             http = \"{host}:{http}\"\n\n\
             # Where /metrics is served, for your own monitoring. Keep it off the internet.\n\
             metrics = \"127.0.0.1:{metrics}\"\n\n\
             # Most connections from one address prefix (/24 of IPv4, /56 of IPv6).\n\
             connections_per_prefix = {}\n\n\
             # Most connections in all.\n\
             connections = {}\n",
            default_per_prefix(),
            default_connections()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_is_a_valid_file_and_unknown_keys_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("relay.toml");
        let text = Config::template("127.0.0.1", 1, 2, 3);
        std::fs::write(&path, &text).unwrap();
        assert_eq!(Config::read(&path).unwrap().http.port(), 2);
        std::fs::write(&path, format!("{text}\nretention = 3\n")).unwrap();
        let error = Config::read(&path).unwrap_err().to_string();
        assert!(error.contains("retention"), "{error}");
    }
}
