//! Contact sheets: evenly spaced pictures of a recording in one PNG.

use std::path::Path;

use suora_protocol::fault::{Code, Fault};

/// Writes `columns × rows` pictures of a recording into a PNG file.
pub fn contact_sheet(
    _recording: &Path,
    _png: &Path,
    _columns: u32,
    _rows: u32,
) -> Result<(), Fault> {
    Err(Fault::new(Code::Internal))
}
