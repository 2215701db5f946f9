//! `suora keygen`: a new key file.

use std::path::PathBuf;

use suora_protocol::fault::Fault;

use crate::keys;
use crate::text::Texts;

/// Makes a key file.
#[derive(Debug, clap::Args)]
pub struct Keygen {
    /// Where to write the key; never overwrites.
    #[arg(long, value_name = "FILE", default_value = "suora.key")]
    pub out: PathBuf,
}

impl Keygen {
    /// Writes the file, prints the peer id of the node key and what to do next.
    pub fn run(self, texts: &Texts) -> Result<(), Fault> {
        let seed = keys::create(&self.out)?;
        println!("{}", seed.node_key().peer_id().to_text());
        println!("{}", texts.get("keygen-next"));
        Ok(())
    }
}
