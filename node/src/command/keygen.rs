//! `suora keygen`: a key file for a person's device.

use std::path::PathBuf;

use suora_protocol::fault::Fault;

use crate::keys;
use crate::text::Texts;

/// Makes a key file and prints the peer id of its node key.
#[derive(Debug, clap::Args)]
pub struct Keygen {
    /// Where the key goes; a file that exists is never overwritten.
    #[arg(long, value_name = "FILE", default_value = "suora.key")]
    pub out: PathBuf,
}

impl Keygen {
    /// Writes the file. The peer id alone goes to the standard output, for scripts; what a
    /// person should know goes beside it.
    pub fn run(self, texts: &Texts) -> Result<(), Fault> {
        let seed = keys::create(&self.out)?;
        let peer = seed.node_key().peer_id().to_text();
        let file = self.out.display().to_string();
        eprintln!("{}", texts.with("keygen-made", &[("file", &file)]));
        eprintln!("{}", texts.get("keygen-next"));
        println!("{peer}");
        Ok(())
    }
}
