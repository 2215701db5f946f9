//! `suora demo`.
use clap::Args;
use suora_protocol::fault::Fault;

use crate::text::Texts;

/// See it work.
#[derive(Debug, Args)]
pub struct Demo {}
impl Demo {
    /// Runs it.
    pub async fn run(self, _: &Texts) -> Result<u8, Fault> {
        Ok(0)
    }
}
