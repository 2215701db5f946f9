//! Suora's node as a library: the citizen's and the officer's program.
//!
//! The pure [`engine`] composes all machines; [`run`] is the only loop around it. What a
//! person asks comes in as an [`intent::Intent`], what a person sees goes out as a
//! [`view::View`]. Sound and picture never pass through the engine: it only says who may
//! send what to whom, and [`session`] does it.

pub mod capture;
pub mod clock;
pub mod command;
pub mod config;
pub mod decode;
pub mod devices;
pub mod doctor;
pub mod encode;
pub mod endpoint;
pub mod engine;
pub mod fetch;
pub mod fit;
pub mod intent;
pub mod keys;
pub mod link;
pub mod memory;
pub mod path;
pub mod play;
pub mod remote;
pub mod report;
pub mod run;
pub mod session;
pub mod status;
pub mod text;
pub mod view;
pub mod worker;

/// Rules that a negative control breaks. Shipped programs pass the default: none.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Sound and picture leave before the officer accepts.
    pub leak_before_accept: bool,
    /// Every n-th picture is counted as shown, then not written to the recording.
    pub drop_every: Option<u32>,
    /// Sound is recorded so much later than it was played.
    pub shift_sound: std::time::Duration,
    /// Every n-th 20 ms of sound are silent in the recording.
    pub silence_every: Option<u32>,
    /// TLS offers X25519 only.
    pub classical_only: bool,
    /// A session's packets go to whoever was heard last.
    pub follow_last: bool,
    /// An officer's invite that does not verify is sent all the same.
    pub any_invite: bool,
}
