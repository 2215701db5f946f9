//! Where a node's CPU time goes, by the names of its threads, as Linux counts it in
//! `/proc/PID/task/*/schedstat`; and what the codecs alone would use on this machine now.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use suora_node::capture::pattern::{self, Pattern};
use suora_node::clock::Clock;
use suora_node::encode::h264::codec::{Codec, Planes};
use suora_node::worker::Stop;
use suora_node::{decode, encode};
use suora_protocol::fault::Fault;
use suora_protocol::time::Timestamp;

use crate::peer::Failure;

/// Pictures a second of the codecs alone.
const FPS: u32 = 30;

/// A part of a node.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// Its name in a table.
    pub name: &'static str,
    /// The same for a consultation in which packets are lost.
    pub lossy: &'static str,
    /// The name of its threads, of which the system keeps 15 bytes; the last part is all others.
    thread: &'static str,
}

const fn part(name: &'static str, lossy: &'static str, thread: &'static str) -> Part {
    Part {
        name,
        lossy,
        thread,
    }
}

/// The parts of a node, in the order of a table.
pub const PARTS: [Part; 7] = [
    part("drawing pictures", "5 % lost: drawing pictures", "camera"),
    part("making sound", "5 % lost: making sound", "microphone"),
    part(
        "encoding pictures",
        "5 % lost: encoding pictures",
        "video encoder",
    ),
    part(
        "encoding sound",
        "5 % lost: encoding sound",
        "sound encoder",
    ),
    part(
        "decoding pictures",
        "5 % lost: decoding pictures",
        "video decoder",
    ),
    part(
        "decoding sound",
        "5 % lost: decoding sound",
        "sound decoder",
    ),
    part("session and network", "5 % lost: session and network", ""),
];

/// Seconds of CPU that each thread used so far, by its number; its name stands beside.
pub type Threads = BTreeMap<u32, (String, f64)>;

/// The threads of a process now.
pub fn threads(pid: u32) -> Result<Threads, Failure> {
    let folder = format!("/proc/{pid}/task");
    let entries = std::fs::read_dir(&folder).map_err(|error| format!("{folder}: {error}"))?;
    let mut threads = Threads::new();
    for entry in entries.flatten() {
        let number = entry.file_name().to_string_lossy().parse();
        // one that ended meanwhile counts no more
        if let (Ok(number), Some(thread)) = (number, read(&entry.path())) {
            threads.insert(number, thread);
        }
    }
    Ok(threads)
}

/// Seconds of CPU that all threads of a process used so far.
pub fn seconds(pid: u32) -> Result<f64, Failure> {
    Ok(threads(pid)?.values().map(|(_, seconds)| seconds).sum())
}

/// The name of a thread, and its seconds: the first number of `schedstat`, in nanoseconds
/// (Documentation/scheduler/sched-stats of Linux). Clock ticks, as in `stat`, are too coarse for a
/// thread that works for less than one at a time.
fn read(task: &Path) -> Option<(String, f64)> {
    let name = std::fs::read_to_string(task.join("comm")).ok()?;
    let times = std::fs::read_to_string(task.join("schedstat")).ok()?;
    Some((name.trim_end_matches('\n').into(), parse(&times)?))
}

fn parse(times: &str) -> Option<f64> {
    let nanoseconds: u64 = times.split_whitespace().next()?.parse().ok()?;
    Some(Duration::from_nanos(nanoseconds).as_secs_f64())
}

/// Seconds of CPU by part between two looks, in the order of [`PARTS`]. A thread that began
/// between them counts from its begin.
pub fn parts(before: &Threads, after: &Threads) -> [f64; PARTS.len()] {
    let mut used = [0.0; PARTS.len()];
    for (number, (name, seconds)) in after {
        let since = before.get(number).map_or(0.0, |thread| thread.1);
        let part = PARTS.iter().position(|part| part.thread == name);
        if let Some(used) = used.get_mut(part.unwrap_or(PARTS.len() - 1)) {
            *used += (seconds - since).max(0.0);
        }
    }
    used
}

/// How many threads have a part of their own: at the end they go one by one, and their time with
/// them.
pub fn named(threads: &Threads) -> usize {
    let is_named = |name: &String| PARTS.iter().any(|part| part.thread == name);
    threads.values().filter(|(name, _)| is_named(name)).count()
}

/// Seconds of CPU that the codecs use for some seconds of the test pattern at 640x360 and its
/// beep, each coded and decoded at a consultation's pace by this thread, `target` bits a second:
/// what a node cannot do without, on this machine as it is now. Blocks so long.
pub fn codecs(seconds: u32, target: u32) -> Result<f64, Failure> {
    let said = |fault: Fault| fault.to_string();
    let used = || -> Result<f64, Failure> {
        let usage = getrusage(UsageWho::RUSAGE_THREAD).map_err(|error| error.to_string())?;
        let time = usage.user_time() + usage.system_time();
        Ok(time.num_microseconds() as f64 / 1e6)
    };
    let (width, height) = (640, 360);
    let pattern = Pattern::new(width, height, FPS);
    // drawn before: a camera is no codec
    let pictures: Vec<_> = (0..u64::from(FPS)).map(|n| pattern.draw(n)).collect();
    let mut sight = Sight {
        codec: Codec::new((width, height), FPS, Timestamp::from_micros(0)).map_err(said)?,
        decoder: decode::h264::Decoder::new().map_err(said)?,
        target,
    };
    let coder = encode::opus::Encoder::live().map_err(said)?;
    let mut voice = (coder, decode::opus::Decoder::new().map_err(said)?);
    let (begin, never) = (Clock::start().now().mono, Stop::default());
    let before = used()?;
    let (mut picture, mut block) = (0, 0);
    while picture < seconds * FPS {
        let due = Duration::from_secs(picture.into()) / FPS;
        let heard = Duration::from_millis(20) * block;
        never.wait_until(begin + due.min(heard));
        if heard <= due {
            let samples = pattern::beep(block.into());
            let packet = voice.0.speak(&samples);
            packet.and_then(|packet| voice.1.any(&packet));
            block += 1;
        } else {
            let planes = Planes {
                width,
                height,
                data: &pictures[(picture % FPS) as usize],
            };
            sight.pass(planes, due).map_err(said)?;
            picture += 1;
        }
    }
    Ok(used()? - before)
}

/// Both ends of a track of pictures.
struct Sight {
    codec: Codec,
    decoder: decode::h264::Decoder,
    target: u32,
}

impl Sight {
    fn pass(&mut self, planes: Planes<'_>, at: Duration) -> Result<(), Fault> {
        let at = Timestamp::from_micros(i64::try_from(at.as_micros()).unwrap_or(i64::MAX));
        if self.codec.is_full(at, self.target) {
            return Ok(());
        }
        let rate = (self.target, f64::from(FPS));
        let unit = self.codec.encode(planes, at, rate, false)?;
        // what cannot be decoded waits for a keyframe, as anywhere
        let _ = self.decoder.decode(&unit.data, unit.keyframe);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_read_however_short_it_works() {
        assert_eq!(parse("2000500000 77 12\n"), Some(2.0005));
        assert_eq!(parse("soon 77 12"), None);
        assert_eq!(parse(""), None);
        let task = Path::new("/proc/thread-self");
        let before = read(task).unwrap().1;
        while read(task).unwrap().1 < before + 1e-4 {}
    }

    #[test]
    fn time_goes_to_the_part_whose_thread_used_it() {
        let thread = |name: &str, seconds| (name.to_string(), seconds);
        let before = Threads::from([(1, thread("suora", 5.0)), (2, thread("video encoder", 1.0))]);
        let after = Threads::from([
            (1, thread("suora", 5.5)),
            (2, thread("video encoder", 3.0)),
            (3, thread("microphone", 0.25)),
        ]);
        assert_eq!(parts(&before, &after), [0.0, 0.25, 2.0, 0.0, 0.0, 0.0, 0.5]);
    }

    #[test]
    fn this_process_has_threads_and_a_busy_one_shows() {
        let before = threads(std::process::id()).unwrap();
        let mut sum = 0_u64;
        let busy = |threads: &Threads| threads.values().map(|thread| thread.1).sum::<f64>();
        while busy(&threads(std::process::id()).unwrap()) < busy(&before) + 0.05 {
            sum = (0..100_000).fold(sum, |sum: u64, n| sum.wrapping_mul(31).wrapping_add(n));
        }
        assert!(!before.is_empty());
        assert!(threads(u32::MAX).unwrap_err().contains("/proc/"));
    }
}
