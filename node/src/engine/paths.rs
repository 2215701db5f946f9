//! What the engine has to do with paths: it says when they may begin and when the officer
//! accepted, and carries between them and the session what the two ends tell each other.

use suora_protocol::documents::{AddressPolicy, SessionId};
use suora_protocol::fault::Fault;
use suora_protocol::wire::path;

use super::ports::{Output, PathCommand};
use super::{Engine, Side};

impl Engine {
    /// Both ends of a session are proven.
    pub(super) fn begin_path(&mut self, id: SessionId) {
        // a desk that is gone from the page hides what it can
        let policy = self
            .desk()
            .map_or(AddressPolicy::RelayOnly, |desk| desk.address_policy);
        let host = matches!(self.side, Side::Officer(_));
        let begin = PathCommand::Begin { host, policy };
        self.out.push_back(Output::Path(id, begin));
    }

    /// The paths have something for the other end of a session.
    pub(super) fn tell_path(&mut self, id: SessionId, told: path::Path) -> Result<(), Fault> {
        match self.session.as_mut().filter(|session| session.id == id) {
            Some(session) => session.talk().path(told),
            None => Ok(()),
        }
    }
}
