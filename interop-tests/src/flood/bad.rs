//! How strangers with a key speak badly on desk streams.

use std::time::Duration;

use suora_protocol::fault::Code;
use suora_protocol::wire::citizen::FromRelay;
use tokio::time::{interval, timeout};

use super::key::Node;
use super::strangers::{PATIENCE, Shared};

/// Too large, without end, or not at all.
pub(super) async fn speaks(s: &Shared, node: &mut Node) -> Option<()> {
    let mut large = node.open().await?;
    large.write(&[0x81, 0x80, 0x04]).await?;
    if let Some(FromRelay::Refused {
        code: Code::TooLarge,
        ..
    }) = timeout(PATIENCE, large.hear()).await.ok()?
    {
        s.count(|counts| &counts.large);
    }
    let mut held = Vec::new();
    for _ in 0..6 {
        held.push(node.open().await?);
        s.count(|counts| &counts.left);
    }
    let mut endless = node.open().await?;
    // 60 000 bytes are announced, and come one by one
    endless.write(&[0xe0, 0xd4, 0x03]).await?;
    s.count(|counts| &counts.endless);
    let mut beat = interval(Duration::from_millis(200));
    while !s.over() {
        beat.tick().await;
        endless.write(&[0]).await?;
    }
    Some(())
}

/// On as many streams as may be, of 60 000 bytes that are announced all but the last, at once.
pub(super) async fn weighs(s: &Shared, node: &mut Node) -> Option<()> {
    let mut held = Vec::new();
    for _ in 0..4 {
        let mut heavy = node.open().await?;
        heavy.write(&[0xe0, 0xd4, 0x03]).await?;
        let _ = timeout(PATIENCE, heavy.write(&[0; 59_999])).await;
        s.count(|counts| &counts.heavy);
        held.push(heavy);
    }
    timeout(PATIENCE, held.first_mut()?.hear()).await.ok()?;
    Some(())
}
