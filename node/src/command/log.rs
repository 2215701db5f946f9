//! The log of the program. What other crates say names peers and addresses, so it is heard
//! only by who asks for everything (`trace`), and never by accident.

use std::io::IsTerminal as _;

use tracing_subscriber::filter::{EnvFilter, FilterExt as _, LevelFilter, filter_fn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, fmt, registry};

/// Logs to standard error what `SUORA_LOG` asks for, else `default`.
pub(super) fn start(default: &str) {
    let asked = std::env::var("SUORA_LOG").unwrap_or_default();
    let (wanted, everything) = match EnvFilter::try_new(&asked) {
        Ok(wanted) if !asked.is_empty() => (wanted, is_everything(&asked)),
        _ => (default.into(), false),
    };
    let own = filter_fn(move |meta| everything || meta.target().starts_with("suora"));
    let lines = fmt::layer()
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .with_filter(wanted.and(own));
    // a test may have one already
    let _ = registry().with(lines).try_init();
}

/// Whether `trace` stands for itself among the directives: one that names a part of this program
/// asks for nothing of others.
fn is_everything(directives: &str) -> bool {
    let bare = directives
        .split(',')
        .map(str::trim)
        .filter(|one| !one.is_empty());
    let mut levels = bare.filter_map(|one| one.parse::<LevelFilter>().ok());
    levels.next_back() == Some(LevelFilter::TRACE)
}

#[cfg(test)]
mod tests {
    use super::*;

    // covers: SUORA-SEC-005
    #[test]
    fn only_who_asks_for_everything_hears_other_crates() {
        for all in ["trace", "TRACE", "suora=info,trace", "info, trace ,"] {
            assert!(is_everything(all), "{all}");
        }
        for own in [
            "",
            "debug",
            "info,suora_relay=trace",
            "suora_node=trace",
            "libp2p=trace",
            "trace,info",
            "suora_node[trace]=trace",
        ] {
            assert!(!is_everything(own), "{own}");
        }
    }
}
