//! What two people hear and see of each other on a bad day: the figures of a participant's
//! diary, as a node counts its own.

use std::ops::Range;
use std::time::Duration;

use suora_node::play::SoundKind;
use suora_protocol::fault::Fault;
use suora_protocol::time::Timestamp;

use super::line::{Loss, Weather};
use super::table::{Aim, Figures, Run, Scene, quantile};
use crate::recording::freezes;

/// What a participant heard and saw, times in ms.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Day {
    /// Pictures shown a second.
    pub fps: f64,
    /// Freezes of the picture.
    pub freezes: u64,
    /// The longest gap between pictures.
    pub gap: f64,
    /// From camera to screen.
    pub picture: f64,
    /// From mouth to ear.
    pub sound: f64,
    /// Share of the time in which sound was made up or missing, in per cent.
    pub concealed: f64,
    /// Bits of pictures a second.
    pub bitrate: f64,
}

impl Day {
    /// Of the second participant, between two moments of the weather.
    pub fn of(scene: &mut Scene, from: Duration, to: Duration) -> Self {
        let span = scene.at(from)..scene.at(to);
        let secs = to.saturating_sub(from).as_secs_f64();
        let diary = scene.diary(1);
        let shown: Vec<_> = diary
            .shown
            .iter()
            .filter(|shown| shown.show && span.contains(&shown.at))
            .collect();
        let gaps = gaps(&span, shown.iter().map(|shown| shown.at));
        let ms = |late: i64| late as f64 / 1_000.0;
        let latencies = shown
            .iter()
            .map(|shown| ms(shown.at.micros_since(shown.frame.captured)));
        let played: Vec<_> = diary
            .played
            .iter()
            .filter(|played| span.contains(&played.at))
            .collect();
        let real = |kind| matches!(kind, SoundKind::Packet | SoundKind::Rebuilt);
        let heard = played.iter().filter_map(|played| {
            let captured = played.block.captured.filter(|_| real(played.block.kind))?;
            Some(ms(played.at.micros_since(captured)))
        });
        let made_up = played
            .iter()
            .filter(|played| !real(played.block.kind))
            .count();
        let bytes: usize = shown.iter().map(|shown| shown.frame.data.len()).sum();
        Self {
            fps: shown.len() as f64 / secs,
            freezes: freezes(gaps.iter().copied()),
            gap: gaps.iter().copied().fold(0.0, f64::max),
            picture: quantile(latencies.collect(), 0.95),
            sound: quantile(heard.collect(), 0.95),
            concealed: 100.0 * made_up as f64 / played.len().max(1) as f64,
            bitrate: bytes as f64 * 8.0 / secs,
        }
    }
}

/// Times between pictures, that to the end of the span included.
fn gaps(span: &Range<Timestamp>, shown: impl Iterator<Item = Timestamp>) -> Vec<f64> {
    let mut last = span.start;
    let mut gaps = Vec::new();
    for at in shown.chain([span.end]) {
        gaps.push(at.micros_since(last) as f64 / 1_000.0);
        last = at;
    }
    gaps
}

const S: fn(u64) -> Duration = Duration::from_secs;

/// A minute of a wire of `capacity` bits a second, 50 ms long, that loses this share.
pub fn minute(run: Run, capacity: u64, loss: f64, most: u32) -> Result<Day, Fault> {
    let weather = Weather::delay(50)
        .losing(Loss::Random(loss))
        .narrow(capacity);
    let mut scene = Scene::new(&weather, run, most, |_| {})?;
    scene.net.run_to(S(62));
    Ok(Day::of(&mut scene, S(2), S(62)))
}

/// 5 % loss on 1 Mbit/s.
pub fn five_percent(run: Run) -> Result<Figures, Fault> {
    let day = minute(run, 1_000_000, 0.05, 1_500_000)?;
    Ok(vec![
        (
            "5 % loss, 1 Mbit/s: freezes",
            Aim::Most(0.0),
            day.freezes as f64,
        ),
        (
            "5 % loss, 1 Mbit/s: concealed, %",
            Aim::Most(0.3),
            day.concealed,
        ),
        (
            "5 % loss, 1 Mbit/s: mouth to ear p95, ms",
            Aim::Most(250.0),
            day.sound,
        ),
        (
            "5 % loss, 1 Mbit/s: camera to screen p95, ms",
            Aim::Most(190.0),
            day.picture,
        ),
        (
            "5 % loss, 1 Mbit/s: pictures, kbit/s",
            Aim::Least(200.0),
            day.bitrate / 1e3,
        ),
    ])
}

/// 20 % loss on 1 Mbit/s.
pub fn twenty_percent(run: Run) -> Result<Figures, Fault> {
    let day = minute(run, 1_000_000, 0.2, 1_500_000)?;
    Ok(vec![
        (
            "20 % loss, 1 Mbit/s: longest gap of pictures, ms",
            Aim::Most(1_000.0),
            day.gap,
        ),
        (
            "20 % loss, 1 Mbit/s: pictures a second",
            Aim::Least(15.0),
            day.fps,
        ),
        (
            "20 % loss, 1 Mbit/s: pictures, kbit/s",
            Aim::Least(150.0),
            day.bitrate / 1e3,
        ),
    ])
}

/// 1 % loss on 300 kbit/s.
pub fn narrow(run: Run) -> Result<Figures, Fault> {
    let day = minute(run, 300_000, 0.01, 1_500_000)?;
    Ok(vec![
        (
            "1 % loss, 300 kbit/s: pictures a second",
            Aim::Least(15.0),
            day.fps,
        ),
        (
            "1 % loss, 300 kbit/s: concealed, %",
            Aim::Most(0.1),
            day.concealed,
        ),
        (
            "1 % loss, 300 kbit/s: mouth to ear p95, ms",
            Aim::Most(250.0),
            day.sound,
        ),
        (
            "1 % loss, 300 kbit/s: longest gap of pictures, ms",
            Aim::Most(500.0),
            day.gap,
        ),
        (
            // what is left of the wire beside sound, where headers are a tenth of it
            "1 % loss, 300 kbit/s: pictures, kbit/s",
            Aim::Least(130.0),
            day.bitrate / 1e3,
        ),
    ])
}

/// 15 ms and up to 60 more, 1.5 % lost in bursts, 5 Mbit/s.
pub fn wireless(run: Run) -> Result<Figures, Fault> {
    let weather = Weather {
        jitter: Duration::from_millis(60),
        ..Weather::delay(15)
            .losing(Loss::Bursts(0.005, 0.33))
            .narrow(5_000_000)
    };
    let mut scene = Scene::new(&weather, run, 600_000, |_| {})?;
    scene.net.run_to(S(62));
    let day = Day::of(&mut scene, S(2), S(62));
    Ok(vec![
        (
            "jitter of 60 ms: pictures a second",
            Aim::Least(27.0),
            day.fps,
        ),
        (
            "jitter of 60 ms: pictures, kbit/s",
            Aim::Least(250.0),
            day.bitrate / 1e3,
        ),
        (
            "jitter of 60 ms: camera to screen p95, ms",
            Aim::Most(200.0),
            day.picture,
        ),
        (
            "jitter of 60 ms: mouth to ear p95, ms",
            Aim::Most(200.0),
            day.sound,
        ),
    ])
}
