//! The only loop of the relay: stop, then what nodes say, then deadlines. The hub
//! decides, the store makes it durable, and only then it is said.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use suora_protocol::documents::{Descriptor, Signed, chain};
use suora_protocol::fault::{Code, Fault};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use crate::Faults;
use crate::clock::Clock;
use crate::config::Config;
use crate::control::Control;
use crate::control::streams::Envelope;
use crate::hub::{Hub, Input, LinkId, Output};
use crate::metrics::Metrics;
use crate::store::Store;
use crate::store::sqlite::Sqlite;
use crate::{http, keys};

/// What nodes said and the loop has not yet taken.
const ENVELOPES: usize = 1_024;

/// The keys of these files may never lie in a data directory: they make officers.
const POWERS: [&str; 2] = ["root.key", "issuing.key"];

/// Serves the relay of a data directory until SIGTERM or SIGINT.
pub async fn serve(dir: &Path, faults: Faults) -> Result<(), Fault> {
    for power in POWERS {
        if dir.join(power).exists() {
            let what = format!(
                "{} holds {power}: a relay that can make officers is not safe; move it to the administrator's machine",
                dir.display()
            );
            return Err(Fault::new(Code::BadConfig).with(what));
        }
    }
    if std::env::var_os("SSLKEYLOGFILE").is_some() {
        return Err(Fault::new(Code::BadConfig)
            .with("SSLKEYLOGFILE is set: it would write session keys to a file"));
    }
    let clock = Clock::start();
    let config = Config::read(&dir.join("relay.toml"))?;
    let key = keys::load(&dir.join("relay.key"))?;
    let path = dir.join("descriptor.cose");
    let bytes = std::fs::read(&path)
        .map_err(|error| Fault::new(Code::BadFile).with(format!("{}: {error}", path.display())))?;
    let signed: Signed<Descriptor> = Signed::from_bytes(bytes)?;
    let descriptor = chain::descriptor_as_given(&signed, clock.now().utc)?;
    let mut store = Sqlite::open(&dir.join("relay.db")).await?;
    let snapshot = store.load().await?;
    let restored = snapshot.rows.len();
    let mut hub = Hub::restore(descriptor, snapshot, keys::draw()?, clock.now(), faults);
    let metrics = Arc::new(Metrics::default());

    let (sender, mut envelopes) = mpsc::channel(ENVELOPES);
    let control = Control::listen(&key, &config, sender).await?;
    let public = http::listen("http", config.http).await?;
    let operator = http::listen("metrics", config.metrics).await?;
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(control.run());
    tasks.spawn(http::serve(public, http::public(signed.bytes().clone())));
    tasks.spawn(http::serve(operator, http::operator(metrics.clone())));
    tracing::info!(control = %config.control, http = %config.http, tickets = restored, "relay runs");

    let mut outboxes: BTreeMap<LinkId, mpsc::Sender<Bytes>> = BTreeMap::new();
    let failed = |error: std::io::Error| Fault::new(Code::Internal).with(error.to_string());
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut second = tokio::time::interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let input = tokio::select! {
            biased;
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            envelope = envelopes.recv() => match envelope {
                Some(Envelope::Up { link, peer, officer, outbox }) => {
                    outboxes.insert(link, outbox);
                    Input::Up { link, peer, officer }
                }
                Some(Envelope::Message(link, body)) => Input::Message { link, body },
                Some(Envelope::Down(link)) => {
                    outboxes.remove(&link);
                    Input::Down(link)
                }
                None => break,
            },
            _ = second.tick() => Input::Tick,
        };
        if let Err(fault) = hub.handle_input(clock.now(), input) {
            tracing::info!(%fault, "refused");
        }
        loop {
            match hub.poll_output() {
                Output::Commit(id, changes) => {
                    // Fail stop: what is not durable is not said, and a restart begins from what is.
                    store.commit(&changes).await?;
                    hub.handle_input(clock.now(), Input::Committed(id))?;
                }
                Output::Say(link, bytes) => {
                    if let Some(outbox) = outboxes.get(&link)
                        && outbox.try_send(bytes).is_err()
                    {
                        tracing::info!(link = link.0, "a node does not read; its stream is closed");
                        outboxes.remove(&link);
                    }
                }
                Output::Close(link) => {
                    outboxes.remove(&link);
                }
                Output::Wait(..) => break,
            }
        }
        metrics.set(hub.counts());
    }
    tracing::info!("relay stops; the queue is kept");
    tasks.shutdown().await;
    Ok(())
}
