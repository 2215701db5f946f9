//! Figures for the operator (OpenMetrics). They count; they name nobody.

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use tokio::sync::oneshot;

use crate::hub::Counts;
use crate::turn::Shared;
use crate::turn::figures::Figures;

/// A question of an operator's page, which the loop itself answers.
pub type Question = oneshot::Sender<Pulse>;

/// How the loop is.
#[derive(Clone, Copy, Debug)]
pub struct Pulse {
    /// The hub's counts.
    pub counts: Counts,
    /// Changes that wait for the store.
    pub backlog: usize,
}

/// The relay's figures. Most are the hub's counts, read when somebody asks.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    now: [Gauge; 7],
    so_far: [Counter; 4],
    commits: Counter,
    changes: Counter,
    turn: Option<Relaying>,
}

/// A figure of the shards.
type Read = fn(&Figures) -> &AtomicU64;

/// STUN and TURN.
#[derive(Debug)]
struct Relaying {
    shared: Arc<Shared>,
    allocations: Gauge,
    so_far: Vec<(Read, Counter)>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("suora");
        let now = [
            ("citizens", "Citizens connected"),
            ("officers", "Officers attending"),
            ("waiting", "Tickets waiting"),
            ("engaged", "Tickets in consultation"),
            ("enrolled", "Officers whose credential is kept and holds"),
            (
                "ending",
                "Officers whose kept credential ends within two days",
            ),
            ("backlog", "Changes that wait for the store"),
        ]
        .map(|(name, help)| {
            let gauge = Gauge::default();
            registry.register(name, help, gauge.clone());
            gauge
        });
        let mut counter = |(name, help): (&str, &str)| {
            let counter: Counter = Counter::default();
            registry.register(name, help, counter.clone());
            counter
        };
        let so_far = [
            ("joined", "Tickets drawn"),
            ("offers", "Offers made"),
            ("offers_expired", "Offers not answered in time"),
            ("refused", "Requests refused"),
        ]
        .map(&mut counter);
        let commits = counter(("commits", "Decisions that had to be durable"));
        let changes = counter(("changes", "Rows written for them"));
        Self {
            registry,
            now,
            so_far,
            commits,
            changes,
            turn: None,
        }
    }
}

impl Metrics {
    /// Shows what STUN and TURN do, too.
    pub fn watch(&mut self, shared: Arc<Shared>) {
        const FIGURES: &[(&str, &str, Read)] = &[
            ("turn_allocated", "Allocations made", |f| &f.allocated),
            ("turn_sent", "Packets relayed from clients", |f| &f.sent),
            ("turn_sent_bytes", "Bytes relayed from clients", |f| {
                &f.sent_bytes
            }),
            ("turn_received", "Packets relayed to clients", |f| {
                &f.received
            }),
            ("turn_received_bytes", "Bytes relayed to clients", |f| {
                &f.received_bytes
            }),
            ("turn_refused", "TURN requests refused", |f| &f.refused),
            (
                "turn_dropped",
                "Packets without permission, quota or form",
                |f| &f.dropped,
            ),
            ("turn_answered", "Strangers answered", |f| &f.answered),
            (
                "turn_unanswered",
                "Strangers not answered, too many of their prefix",
                |f| &f.unanswered,
            ),
        ];
        let allocations = Gauge::default();
        let help = "TURN allocations that stand";
        self.registry
            .register("turn_allocations", help, allocations.clone());
        let so_far = FIGURES.iter().map(|(name, help, read)| {
            let counter: Counter = Counter::default();
            self.registry.register(*name, *help, counter.clone());
            (*read, counter)
        });
        self.turn = Some(Relaying {
            so_far: so_far.collect(),
            shared,
            allocations,
        });
    }

    /// The hub asked for a commit of so many changes.
    pub fn committed(&self, changes: usize) {
        self.commits.inc();
        self.changes.inc_by(changes as u64);
    }

    /// The text of `/metrics`.
    pub fn text(&self, pulse: &Pulse) -> String {
        let counts = pulse.counts;
        let now = [
            counts.citizens,
            counts.officers,
            counts.waiting,
            counts.engaged,
            counts.enrolled,
            counts.ending,
            pulse.backlog as u64,
        ];
        for (gauge, value) in self.now.iter().zip(now) {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        }
        let so_far = [
            counts.joined,
            counts.offers,
            counts.offers_expired,
            counts.refused,
        ];
        for (counter, value) in self.so_far.iter().zip(so_far) {
            counter.inner().store(value, Ordering::Relaxed);
        }
        if let Some(turn) = &self.turn {
            let standing = turn.shared.pairs.allocations();
            turn.allocations
                .set(i64::try_from(standing).unwrap_or(i64::MAX));
            for (read, counter) in &turn.so_far {
                let value = read(&turn.shared.figures).load(Ordering::Relaxed);
                counter.inner().store(value, Ordering::Relaxed);
            }
        }
        let mut text = String::new();
        // writing to a string cannot fail
        let _ = encode(&mut text, &self.registry);
        text
    }
}
