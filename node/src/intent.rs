//! What people ask of their node: the whole input of a person, be it a key press, a
//! line on the control socket or a button.

use serde::{Deserialize, Serialize};
use suora_protocol::wire::officer::Status;

/// One wish of the person at this node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "intent", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Intent {
    /// A citizen: join the desk.
    Join,
    /// A citizen: leave the queue.
    Leave,
    /// An officer: take the offer.
    Accept,
    /// An officer: do not take the offer.
    Decline,
    /// An officer: change the status.
    Status {
        /// To this.
        status: Status,
    },
    /// Write a line.
    Chat {
        /// 1 to 4000 bytes.
        text: String,
    },
    /// Mute or unmute the microphone.
    Mute {
        /// True: silent.
        on: bool,
    },
    /// Switch the camera.
    Camera {
        /// True: visible.
        on: bool,
    },
    /// End the consultation.
    HangUp,
    /// End the program, and the consultation with it.
    Quit,
}
