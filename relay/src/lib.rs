//! Suora's relay as a library: presence, queue and matching for one agency.
//!
//! The pure [`hub`] decides; [`serve`] is the only loop around it; [`control`],
//! [`http`] and [`store`] are its doors. A relay sees who waits and who attends. It
//! cannot read a consultation, and it holds no key that could pretend to be an officer.
//! Where no direct path works it forwards what it cannot read: [`turn`], by [`net`].

pub mod clock;
pub mod command;
pub mod config;
pub mod control;
pub mod doctor;
pub mod grant;
pub mod http;
pub mod hub;
pub mod keys;
pub mod metrics;
pub mod net;
pub mod porch;
pub mod serve;
pub mod store;
pub mod text;
pub mod turn;

/// Rules that a negative control breaks. Shipped programs pass the default: none.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Officers attend without a valid credential.
    pub unchecked_credential: bool,
    /// Who comes to a full listener is sent away, and those whose handshake is not done stay for long.
    pub first_stay: bool,
    /// Nobody has to prove its address over QUIC, however many begin.
    pub no_retry: bool,
}
