//! The relay's settings: `relay.toml` in the data directory. Unknown keys are refused.

pub mod turn;

use std::net::SocketAddr;
use std::path::Path;

use serde::Deserialize;
use suora_protocol::fault::{Code, Fault};
use suora_protocol::limits;

/// `relay.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where nodes connect, by QUIC (UDP) and TCP on the same port. The descriptor names the port, so it is never 0.
    pub control: SocketAddr,
    /// Where nodes connect by plain WebSocket, if at all; like `control` never port 0.
    #[serde(default)]
    pub websocket: Option<SocketAddr>,
    /// Where `/.well-known/suora` and `/health` are served; port 0 takes a free one.
    pub http: SocketAddr,
    /// Where `/metrics` is served: keep it on loopback; port 0 takes a free one.
    pub metrics: SocketAddr,
    /// Most connections of nodes from one address prefix (/24, /56).
    #[serde(default = "default_per_prefix")]
    pub connections_per_prefix: u32,
    /// Most tickets of one address prefix at one desk.
    #[serde(default = "default_tickets")]
    pub tickets_per_prefix: usize,
    /// Most connections of nodes in all.
    #[serde(default = "default_connections")]
    pub connections: u32,
    /// STUN and TURN; without it there is none.
    #[serde(default)]
    pub turn: Option<turn::Turn>,
}

const fn default_per_prefix() -> u32 {
    256
}

const fn default_tickets() -> usize {
    limits::PREFIX_TICKETS_MAX
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
        Self::parse(&text).map_err(bad)
    }

    /// Reads the text of a settings file; an error shows the line and what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let config: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        config.check()?;
        Ok(config)
    }

    /// What TOML cannot say.
    fn check(&self) -> Result<(), String> {
        if self.control.port() == 0 {
            return Err("control: port 0 would change with each start, but the descriptor lists the port; choose one".into());
        }
        if self.websocket.is_some_and(|at| at.port() == 0) {
            return Err("websocket: port 0 would change with each start, but the descriptor lists the port; choose one".into());
        }
        if self
            .websocket
            .is_some_and(|at| at.port() == self.control.port())
        {
            return Err(
                "websocket: has the port of control, which takes TCP there; choose another".into(),
            );
        }
        if self.connections == 0 || self.connections_per_prefix == 0 || self.tickets_per_prefix == 0
        {
            return Err(
                "connections, connections_per_prefix and tickets_per_prefix: 0 would let nobody in; at least 1".into(),
            );
        }
        if let Some(turn) = &self.turn {
            turn.check(self.control)?;
        }
        if !self.metrics.ip().is_loopback() {
            tracing::warn!(
                "metrics are served on {}, which is not loopback: whoever reaches it can watch how busy the agency is",
                self.metrics
            );
        }
        Ok(())
    }

    /// The commented file that `init` writes.
    pub fn template(
        host: std::net::IpAddr,
        control: u16,
        websocket: Option<u16>,
        http: u16,
        metrics: u16,
        turn: Option<u16>,
    ) -> String {
        let websocket = websocket.map_or_else(
            || format!("# websocket = \"{}\"", SocketAddr::new(host, 4434)),
            |port| format!("websocket = \"{}\"", SocketAddr::new(host, port)),
        );
        let (control, http) = (SocketAddr::new(host, control), SocketAddr::new(host, http));
        format!(
            "# Settings of suora-relay. Every key is explained; unknown keys are refused.\n\n\
             # Where nodes connect, by QUIC (UDP) and TCP on the same port. The addresses in the\n\
             # agency's descriptor lead here.\n\
             control = \"{control}\"\n\n\
             # Where nodes connect by WebSocket without TLS, for networks and programs that know\n\
             # nothing else; the link is encrypted all the same. Another port than control's.\n\
             {websocket}\n\n\
             # Where /health is served, and the agency's page to programs that know its root. The\n\
             # web server of the agency's domain serves a copy of the page that was signed, and\n\
             # never passes /.well-known/suora on to here: who took this relay over could show\n\
             # a page and a root of its own.\n\
             http = \"{http}\"\n\n\
             # Where /metrics is served, for your own monitoring. Keep it off the internet.\n\
             metrics = \"127.0.0.1:{metrics}\"\n\n\
             # Most connections from one address prefix (/24 of IPv4, /56 of IPv6). An office\n\
             # whose people share one address needs as many as it has people. What a connection\n\
             # says and nobody reads yet holds 64 KiB of memory by QUIC, and 256 KiB at most by\n\
             # TCP and WebSocket.\n\
             connections_per_prefix = {}\n\n\
             # Most tickets of one address prefix at one desk. Before that its people's programs\n\
             # have to solve a small task for theirs.\n\
             tickets_per_prefix = {}\n\n\
             # Most connections in all.\n\
             connections = {}\n\n\
             {}",
            default_per_prefix(),
            default_tickets(),
            default_connections(),
            turn::Turn::template(host, turn)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(change: impl Fn(&str) -> String) -> Result<Config, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("relay.toml");
        let text = Config::template([127, 0, 0, 1].into(), 1, Some(2), 0, 3, None);
        std::fs::write(&path, change(&text)).unwrap();
        Config::read(&path).map_err(|fault| fault.to_string())
    }

    #[test]
    fn the_template_is_a_valid_file() {
        assert_eq!(read(str::to_string).unwrap().metrics.port(), 3);
        let websocket = |text: fn(&str) -> String| read(text).unwrap().websocket;
        assert_eq!(websocket(str::to_string).unwrap().port(), 2);
        assert_eq!(websocket(|text| text.replace("\nwebsocket", "\n#")), None);
        let text = Config::template("::1".parse().unwrap(), 4_433, None, 1, 2, None);
        assert!(text.contains("control = \"[::1]:4433\""));
    }

    #[test]
    fn unknown_keys_and_senseless_values_are_refused_by_name() {
        let unknown = read(|text| format!("{text}\nretention = 3\n")).unwrap_err();
        assert!(
            unknown.contains("retention") && unknown.contains("line"),
            "{unknown}"
        );
        let port = read(|text| text.replace("127.0.0.1:1\"", "127.0.0.1:0\"")).unwrap_err();
        assert!(port.contains("control"), "{port}");
        for taken in ["0", "1"] {
            let port = read(|text| text.replace(":2\"", &format!(":{taken}\""))).unwrap_err();
            assert!(port.contains("websocket"), "{port}");
        }
        let nobody = read(|text| text.replace("connections = 20000", "connections = 0"));
        assert!(nobody.unwrap_err().contains("connections"));
        let address = read(|text| text.replace("127.0.0.1:1\"", "here\"")).unwrap_err();
        assert!(address.contains("control = \"here\""), "{address}");
    }
}
