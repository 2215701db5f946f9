//! Counters for the operator (OpenMetrics). They count; they name nobody.

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::hub::Counts;

/// The relay's figures.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    gauges: [Gauge; 8],
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("suora");
        let names = [
            ("citizens", "Citizens connected"),
            ("officers", "Officers attending"),
            ("waiting", "Tickets waiting"),
            ("engaged", "Tickets in consultation"),
            ("joined", "Joins since the start"),
            ("offers", "Offers since the start"),
            (
                "offers_expired",
                "Offers not answered in time since the start",
            ),
            ("refused", "Requests refused since the start"),
        ];
        let gauges = names.map(|(name, help)| {
            let gauge = Gauge::default();
            registry.register(name, help, gauge.clone());
            gauge
        });
        Self { registry, gauges }
    }
}

impl Metrics {
    /// Takes the hub's counts.
    pub fn set(&self, counts: Counts) {
        let values = [
            counts.citizens,
            counts.officers,
            counts.waiting,
            counts.engaged,
            counts.joined,
            counts.offers,
            counts.offers_expired,
            counts.refused,
        ];
        for (gauge, value) in self.gauges.iter().zip(values) {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        }
    }

    /// The text of `/metrics`.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // writing to a string cannot fail
        let _ = encode(&mut text, &self.registry);
        text
    }
}
