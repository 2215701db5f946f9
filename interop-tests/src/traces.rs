//! PURE: traces of arrivals of sound, made by models of networks from seeds or recorded by nodes,
//! and what a jitter buffer makes of them on virtual time.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use suora_protocol::identity::Draw;
use suora_protocol::media::jitter::{FRAME, Jitter, Ledger, Pace, Step};
use suora_protocol::media::receiver::AudioPacket;
use suora_protocol::time::Now;

/// A packet on its way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sent {
    /// Its extended sequence number.
    pub sequence: i64,
    /// When it was captured, by the sender's clock, in microseconds since the begin.
    pub captured: u64,
    /// When it arrives, by the receiver's, in microseconds since the begin; `None`: never.
    pub arrives: Option<u64>,
    /// Its first three bytes.
    pub data: [u8; 3],
    /// How many of these there are.
    pub bytes: usize,
}

/// 20 ms of speech with a copy of the 20 ms before it.
pub const SPEECH: [u8; 3] = [0x78, 0xc0, 1];

/// Packets of speech every 20 ms with these delays in microseconds.
pub fn speech(delays: &[Option<u64>]) -> Vec<Sent> {
    (0_u64..)
        .zip(delays)
        .map(|(n, delay)| Sent {
            sequence: i64::try_from(n).unwrap_or(0),
            captured: n * 20_000,
            arrives: delay.map(|delay| n * 20_000 + delay),
            data: SPEECH,
            bytes: 3,
        })
        .collect()
}

/// The delays in a trace, in microseconds.
pub type Delays = Vec<Option<u64>>;

/// Packets of half a minute.
const PACKETS: u64 = 1_500;

/// A way that keeps the order: delays of a base, a spread of up to `jitter` and what `more` adds.
fn way(
    seed: u8,
    base: u64,
    jitter: u64,
    mut more: impl FnMut(u64, &mut Draw) -> Option<u64>,
) -> Delays {
    let mut draw = Draw::from_seed([seed; 32]);
    let mut last = 0;
    (0..PACKETS)
        .map(|n| {
            // small ones are common, large ones rare
            let spread = draw.below(jitter) * draw.below(jitter) / jitter.max(1);
            let more = more(n, &mut draw)?;
            let arrives = (n * 20_000 + base + spread + more).max(last);
            last = arrives;
            Some(arrives - n * 20_000)
        })
        .collect()
}

/// What every trace is called, and its delays.
pub fn all() -> Vec<(&'static str, Delays)> {
    let chance = |draw: &mut Draw, of: u64| draw.below(1_000) < of;
    let mut bad = false;
    let mut held = (0_u64, 0_u64);
    vec![
        ("steady", way(1, 20_000, 2_000, |_, _| Some(0))),
        (
            // the access point is busy for up to 120 ms about every two seconds
            "wifi",
            way(2, 8_000, 15_000, move |n, draw| {
                if n >= held.1 && chance(draw, 10) {
                    held = (n, n + 2 + draw.below(4));
                }
                Some(held.1.saturating_sub(n) * 20_000)
            }),
        ),
        (
            // each ten seconds another cell: 180 ms in which all is held, three packets lost
            "lte",
            way(3, 35_000, 25_000, |n, _| match n % 500 {
                250..=252 => None,
                at @ 253..=261 => Some((262 - at) * 20_000),
                _ => Some(0),
            }),
        ),
        (
            "random-5",
            way(4, 50_000, 4_000, move |_, draw| {
                (!chance(draw, 50)).then_some(0)
            }),
        ),
        (
            // Gilbert: bursts of two and a half packets on average
            "bursts-20",
            way(5, 50_000, 4_000, move |_, draw| {
                bad = if bad {
                    !chance(draw, 400)
                } else {
                    chance(draw, 100)
                };
                (!bad).then_some(0)
            }),
        ),
        (
            "blackout",
            way(6, 30_000, 4_000, |n, _| {
                (!(500..650).contains(&n)).then_some(0)
            }),
        ),
        (
            // nothing passes for two seconds, then all of it does
            "stall",
            way(7, 30_000, 4_000, |n, _| {
                Some(if (500..600).contains(&n) {
                    (600 - n) * 20_000
                } else {
                    0
                })
            }),
        ),
        (
            // unrest, then calm
            "calms",
            way(8, 20_000, 2_000, |n, draw| {
                Some(if n < 600 { draw.below(90_000) } else { 0 })
            }),
        ),
    ]
}

/// What nodes' logs told of sound that came over real sockets, a line a packet: its number, when it
/// was captured and how long it took, in microseconds from the first. How they were made is on top
/// of each.
const RECORDED: [(&str, &str); 3] = [
    ("recorded-wireless", include_str!("../traces/wireless.txt")),
    ("recorded-steps", include_str!("../traces/steps.txt")),
    ("recorded-storm", include_str!("../traces/storm.txt")),
];

/// The recorded traces: each one's name and its packets of speech, those that never came, too.
pub fn recorded() -> Vec<(&'static str, Vec<Sent>)> {
    let read = |text: &str| {
        let mut came = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let mut numbers = line.split(' ').map(str::parse::<i64>);
            if let [Some(Ok(sequence)), Some(Ok(captured)), Some(Ok(delay))] =
                [(); 3].map(|()| numbers.next())
            {
                // a copy of what is here tells nothing
                came.entry(sequence).or_insert((captured, delay));
            }
        }
        let mut sent = Vec::new();
        let mut before: Option<(i64, i64)> = None;
        for (sequence, (captured, delay)) in came {
            let (last, then) = before.unwrap_or((sequence - 1, captured));
            for lost in last + 1..sequence {
                // where in a pause it was captured nobody knows: right after the one before it
                sent.push((lost, then + (lost - last) * 20_000, None));
            }
            sent.push((sequence, captured, Some(captured + delay)));
            before = Some((sequence, captured));
        }
        let least = sent.iter().map(|sent| sent.2.unwrap_or(sent.1).min(sent.1));
        let zero = least.min().unwrap_or(0);
        let micros = |time: i64| u64::try_from(time - zero).unwrap_or(0);
        sent.into_iter()
            .map(|(sequence, captured, arrives)| Sent {
                sequence,
                captured: micros(captured),
                arrives: arrives.map(micros),
                data: SPEECH,
                bytes: 3,
            })
            .collect()
    };
    RECORDED.map(|(name, text)| (name, read(text))).into()
}

/// The same packets by a sender whose clock is faster by so many parts in a million.
pub fn drifting(packets: u64, parts: i64) -> Vec<Sent> {
    let delays: Vec<_> = (0..packets).map(|_| Some(30_000)).collect();
    let mut sent = speech(&delays);
    for packet in &mut sent {
        let shift = i64::try_from(packet.captured).unwrap_or(0) * parts / 1_000_000;
        packet.arrives = packet.arrives.and_then(|at| at.checked_add_signed(-shift));
    }
    sent
}

/// What decides on 20 ms.
pub trait Buffer {
    /// A packet came.
    fn push(&mut self, now: Now, packet: AudioPacket);
    /// The next piece; `left` is not yet played.
    fn pull(&mut self, now: Now, left: Duration) -> Step;
    /// What was to be stretched became longer, or shorter, by so many microseconds.
    fn stretched(&mut self, micros: i64);
}

impl Buffer for Jitter {
    fn push(&mut self, now: Now, packet: AudioPacket) {
        self.push(now, packet);
    }
    fn pull(&mut self, now: Now, left: Duration) -> Step {
        self.pull(now, left)
    }
    fn stretched(&mut self, micros: i64) {
        self.stretched(micros);
    }
}

/// A piece that was heard: what it was, and the time of its capture in microseconds.
pub type Piece = (&'static str, Option<i64>);

/// What a buffer made of a trace.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    /// All pieces in order.
    pub pieces: Vec<Piece>,
    /// When each packet was heard and how long after its capture, in microseconds.
    pub delays: Vec<(u64, i64)>,
}

impl Heard {
    /// Pieces of this name.
    pub fn count(&self, name: &str) -> usize {
        self.pieces.iter().filter(|piece| piece.0 == name).count()
    }

    /// The share of all that was to be heard which was made up, in per cent: pieces made up,
    /// and packets lost that nothing was made up for.
    pub fn made_up(&self, ledger: Option<Ledger>) -> f64 {
        match ledger {
            Some(ledger) => 100.0 * ledger.made_up(),
            None => {
                let heard = self.pieces.iter().filter(|piece| piece.0 != "nothing");
                100.0 * self.count("concealed") as f64 / heard.count().max(1) as f64
            }
        }
    }

    /// How long after its capture sound is heard, at this share of the packets that are
    /// heard from a moment on, in ms.
    pub fn delay(&self, from: Duration, share: f64) -> f64 {
        let from = u64::try_from(from.as_micros()).unwrap_or(u64::MAX);
        let later = self.delays.iter().filter(|(at, _)| *at >= from);
        let mut delays: Vec<_> = later.map(|(_, delay)| *delay).collect();
        delays.sort_unstable();
        let at = (delays.len() as f64 * share) as usize;
        let last = delays.len().saturating_sub(1);
        delays
            .get(at.min(last))
            .map_or(f64::NAN, |delay| *delay as f64 / 1_000.0)
    }
}

/// Lets a buffer play a trace until its last packet arrives, or where that is lost was captured, each 20 ms. Time is
/// stretched by 5 ms wherever that is wanted.
pub fn play(start: Now, sent: &[Sent], buffer: &mut dyn Buffer) -> Heard {
    let mut arrivals: Vec<_> = sent
        .iter()
        .filter_map(|packet| Some((packet.arrives?, packet)))
        .collect();
    arrivals.sort_by_key(|(at, _)| *at);
    let mut arrivals = arrivals.into_iter().peekable();
    let end = sent.last().map_or(0, |packet| {
        packet.arrives.unwrap_or(packet.captured + 20_000)
    });
    let mut heard = Heard::default();
    let mut left = Duration::ZERO;
    let mut at = 7_000;
    while at < end {
        let micros = Duration::from_micros;
        while let Some((then, packet)) = arrivals.next_if(|(then, _)| *then <= at) {
            buffer.push(
                start.after(micros(then)),
                AudioPacket {
                    sequence: packet.sequence,
                    captured: start.utc + micros(packet.captured),
                    data: Bytes::copy_from_slice(
                        packet.data.get(..packet.bytes).unwrap_or(&packet.data),
                    ),
                },
            );
        }
        let now = start.after(micros(at));
        while left < FRAME {
            let step = buffer.pull(now, left);
            let since =
                |captured: &suora_protocol::time::Timestamp| Some(captured.micros_since(start.utc));
            let mut change = 0_i64;
            let piece = match &step {
                Step::Play { captured, pace, .. } => {
                    change = match pace {
                        Pace::Even => 0,
                        Pace::Faster => -5_000,
                        Pace::Hurry => -10_000,
                        Pace::Slower => 5_000,
                    };
                    let played = now.utc + left;
                    heard.delays.push((at, played.micros_since(*captured)));
                    ("packet", since(captured))
                }
                Step::Rebuild { captured, .. } => ("rebuilt", since(captured)),
                Step::Conceal { captured } => ("concealed", since(captured)),
                Step::Quiet { captured } => ("quiet", captured.as_ref().and_then(since)),
                Step::Nothing => ("nothing", None),
            };
            heard.pieces.push(piece);
            let by = micros(change.unsigned_abs());
            left = if change < 0 {
                left + FRAME - by
            } else {
                left + FRAME + by
            };
            if change != 0 {
                buffer.stretched(change);
            }
        }
        left -= FRAME;
        at += 20_000;
    }
    heard
}
