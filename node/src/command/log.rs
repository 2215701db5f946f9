//! The log of the program. What other crates say names peers and addresses, so it is heard
//! only by who asks for everything (`trace`), and never by accident.

use std::io::IsTerminal as _;

use tracing_subscriber::filter::{EnvFilter, FilterExt as _, LevelFilter, filter_fn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, fmt, registry};

/// Logs to standard error what `SUORA_LOG` asks for, else `default`.
pub(super) fn start(default: &str) {
    let wanted = EnvFilter::try_from_env("SUORA_LOG").unwrap_or_else(|_| default.into());
    let everything = wanted.max_level_hint() == Some(LevelFilter::TRACE);
    let own = filter_fn(move |meta| everything || meta.target().starts_with("suora"));
    let lines = fmt::layer()
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .with_filter(wanted.and(own));
    // a test may have one already
    let _ = registry().with(lines).try_init();
}
