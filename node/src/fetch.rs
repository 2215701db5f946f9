//! DOOR: where an agency's descriptor comes from: a file that the person trusts, or the
//! agency's own web address (`spec/documents.md`, section 4).

use std::path::PathBuf;
use std::str::FromStr;

use hyper::Uri;
use suora_protocol::fault::{Code, Fault};
use suora_protocol::identity::AgencyId;

use crate::engine::ports::Fetched;

/// Where the descriptor comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Agency {
    /// A file, trusted as given.
    File(PathBuf),
    /// A web address.
    Url {
        /// The address, with its path.
        url: Uri,
        /// The root that the person trusts, when the address names one.
        root: Option<AgencyId>,
    },
}

impl FromStr for Agency {
    type Err = Fault;
    fn from_str(_: &str) -> Result<Self, Fault> {
        Err(Fault::new(Code::Internal))
    }
}

/// Fetches the descriptor.
pub async fn fetch(_: &Agency) -> Result<Fetched, Fault> {
    Err(Fault::new(Code::Internal))
}
