//! The base of virtual time.

use suora_protocol::time::{Now, Timestamp};

/// One base moment; later ones come from it.
#[expect(
    clippy::disallowed_methods,
    reason = "door: the base of virtual time in tests"
)]
pub(crate) fn base() -> Now {
    Now {
        mono: std::time::Instant::now() + std::time::Duration::from_secs(3_600),
        utc: Timestamp::from_secs(1_795_525_200),
    }
}
