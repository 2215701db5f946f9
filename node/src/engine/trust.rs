//! Which descriptor this node trusts, and from whom it learnt the root.

use suora_protocol::documents::{Descriptor, Signed, Verified, chain};
use suora_protocol::fault::{Code, Fault};
use suora_protocol::time::Timestamp;

use super::ports::Fetched;

/// The agency's descriptor, as far as it was verified.
#[derive(Debug, Default)]
pub struct Trust {
    known: Option<Verified<Descriptor>>,
}

impl Trust {
    /// The descriptor.
    pub const fn descriptor(&self) -> Option<&Verified<Descriptor>> {
        self.known.as_ref()
    }

    /// The descriptor, or a fault.
    pub fn get(&self) -> Result<&Verified<Descriptor>, Fault> {
        self.known
            .as_ref()
            .ok_or_else(|| Fault::new(Code::DescriptorUnreachable).with("not fetched yet"))
    }

    /// Verifies a fetched descriptor: under the given root, or as given when the file itself is
    /// trusted. A lower sequence than the known one, or another page of the same sequence, is refused.
    pub fn take(&mut self, fetched: &Fetched, now: Timestamp) -> Result<(), Fault> {
        let signed: Signed<Descriptor> = Signed::from_bytes(fetched.bytes.clone())?;
        let verified = match (&fetched.root, &self.known) {
            (Some(root), known) => chain::descriptor(&signed, root, now, known.as_ref())?,
            (None, Some(known)) => chain::descriptor(&signed, &known.agency, now, Some(known))?,
            (None, None) => chain::descriptor_as_given(&signed, now)?,
        };
        self.known = Some(verified);
        Ok(())
    }
}
