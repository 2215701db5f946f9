//! What is heard of packets of sound that arrive in some order, or do not: the normative
//! part by the order of what is heard, and what the reference makes of longer traces.

use serde_json::{Value, json};
use suora_node::clock::Clock;
use suora_protocol::fault::{Code, Fault};
use suora_protocol::media::jitter::Jitter;
use suora_protocol::media::opus;
use suora_protocol::media::rtp::Extend;

use super::super::verify::{Case, lacks, text};
use super::super::{Facts, Vectors, fields};
use super::describe;
use crate::traces::{self, Heard, Sent};

/// A packet of a case: number, captured and arriving in ms, and its first bytes.
type Packet<'a> = (u16, u64, Option<u64>, &'a [u8]);

/// Speech with and without a copy of the frame before it, and a mark of a pause.
const SPEECH: &[u8] = &[0x78, 0xc0, 1];
const PLAIN: &[u8] = &[0x78, 0x80, 1];
const MARK: &[u8] = &[0x78];

fn written(packets: &[Packet<'_>]) -> Vec<Value> {
    let packets = packets.iter();
    packets
        .map(|(sequence, captured, arrives, data)| {
            json!({"sequence": sequence, "captured": captured, "arrives": arrives, "packet": super::hex(data)})
        })
        .collect()
}

/// Every 20 ms from `from` on, 30 ms on the way.
fn train(first: u16, from: u64, data: &[&'static [u8]]) -> Vec<Packet<'static>> {
    (0_u16..)
        .zip(data)
        .map(|(n, data)| {
            let captured = from + u64::from(n) * 20;
            (first.wrapping_add(n), captured, Some(captured + 30), *data)
        })
        .collect()
}

/// What is heard of a few packets, for any target that the specification allows; and what
/// the reference makes of traces of networks.
pub fn make() -> Result<Vectors, Fault> {
    let mut vectors = Vectors::new("media", "playout", "spec/media.md, section 8");
    describe(&mut vectors);
    vectors.format.extend([
        ("packets", "packets of one track: sequence number, times of capture and of arrival in ms since the begin (null: never), and the first bytes of the Opus packet; both clocks agree"),
        ("heard", "what is heard in order: packet, rebuilt or concealed, each with its sequence number; pauses, stretching, and what is made up while no later packet is there left out"),
        ("delays", "a trace: of packets of speech every 20 ms, each with in-band FEC, from capture to arrival in ms; - is lost"),
        ("reference", "informative: ms that the reference played, rebuilt, concealed, was quiet, saved and won by stretching, and let go, its target at the end, and its delay from capture to ear at 50 and 95 per cent of the packets"),
    ]);
    vectors.verification = vec![
        "Where there are packets: give them at their times of arrival to a receiver that plays until 500 ms after the last; compare what it plays with heard.",
        "Where there are delays: play the trace. A receiver SHOULD NOT conceal more than a fifth more than the reference, nor have more than 60 ms more delay at 95 per cent.",
    ];
    let all = |first, count| train(first, 0, &vec![SPEECH; count]);
    let lose = |mut packets: Vec<Packet<'static>>, lost: &[usize]| {
        for at in lost {
            if let Some(packet) = packets.get_mut(*at) {
                packet.2 = None;
            }
        }
        packets
    };
    let mut swapped = all(100, 10);
    if let Some(packet) = swapped.get_mut(4) {
        packet.2 = Some(80 + 30 + 25);
    }
    let mut doubled = all(100, 10);
    if let Some(packet) = doubled.get(4).copied() {
        doubled.insert(7, (packet.0, packet.1, Some(170), packet.3));
    }
    let mut pause = train(100, 0, &[SPEECH; 10]);
    pause.extend(train(110, 200, &[MARK, MARK]));
    pause.extend(train(112, 600, &[PLAIN, MARK, MARK]));
    pause.extend(train(115, 1_000, &[SPEECH; 10]));
    let mut muted = train(100, 0, &[SPEECH; 10]);
    muted.extend(train(110, 260, &[SPEECH; 10]));
    let plain = lose(train(100, 0, &[PLAIN; 12]), &[5]);
    let cases = [
        ("all", "nothing is lost", all(100, 10)),
        ("wrap", "numbers wrap at 65536", all(65_530, 12)),
        (
            "one-lost",
            "rebuilt from the next",
            lose(all(100, 12), &[5]),
        ),
        (
            "two-lost",
            "the first is concealed, the second rebuilt",
            lose(all(100, 12), &[5, 6]),
        ),
        (
            "no-redundancy",
            "concealed where the next brings no copy",
            plain,
        ),
        (
            "out-of-order",
            "one comes behind the next, in time",
            swapped,
        ),
        ("copy", "a copy is heard once", doubled),
        (
            "pause",
            "marks, a refreshing packet with marks, speech",
            pause,
        ),
        (
            "gap-of-time",
            "no number is missing: a pause of 60 ms, not a loss",
            muted,
        ),
    ];
    for (name, comment, packets) in cases {
        let packets = written(&packets);
        let heard = listen(&packets)?;
        vectors.valid(name, comment, json!({"packets": packets, "heard": heard}));
    }
    let packets = written(&[(100, 0, Some(30), &[0x7b, 0])]);
    let case = json!({"packets": packets});
    let reason = "frames by a count of none: no Opus packet, and dropped";
    vectors.invalid("no-opus", Code::Malformed, reason, case);
    traces(&mut vectors)?;
    Ok(vectors)
}

/// What the reference plays of these packets.
fn listen(packets: &[Value]) -> Result<Vec<Value>, Fault> {
    let mut extend = Extend::default();
    let mut sent = Vec::new();
    for packet in packets {
        let number = |name: &str| packet.get(name).and_then(Value::as_u64);
        let bytes = packet.get("packet").and_then(Value::as_str);
        let bytes = bytes
            .and_then(super::super::raw::unhex)
            .ok_or_else(|| lacks("packet"))?;
        opus::samples(&bytes).ok_or_else(|| Fault::new(Code::Malformed).with("no Opus packet"))?;
        let mut data = [0; 3];
        data.iter_mut()
            .zip(&bytes)
            .for_each(|(to, from)| *to = *from);
        let sequence = number("sequence").and_then(|n| u16::try_from(n).ok());
        sent.push(Sent {
            sequence: extend.extend(sequence.ok_or_else(|| lacks("sequence"))?),
            captured: number("captured").ok_or_else(|| lacks("captured"))? * 1_000,
            arrives: number("arrives").map(|ms| ms * 1_000),
            data,
            bytes: bytes.len().min(3),
        });
    }
    let by_time: Vec<_> = sent
        .iter()
        .map(|packet| (packet.captured, packet.sequence))
        .collect();
    let end = sent.iter().map(|packet| packet.captured).max().unwrap_or(0);
    // so that it plays for 500 ms more
    sent.push(Sent {
        sequence: i64::MAX,
        captured: end + 500_000,
        arrives: None,
        data: [0; 3],
        bytes: 3,
    });
    let heard = traces::play(Clock::start().now(), &sent, &mut Jitter::new());
    let last = heard
        .pieces
        .iter()
        .rposition(|piece| matches!(piece.0, "packet" | "rebuilt"));
    let pieces = heard.pieces.iter().take(last.map_or(0, |last| last + 1));
    Ok(pieces
        .filter(|piece| matches!(piece.0, "packet" | "rebuilt" | "concealed"))
        .filter_map(|(name, captured)| {
            let captured = captured.and_then(|at| u64::try_from(at).ok());
            let sequence = by_time
                .iter()
                .find(|(at, _)| Some(*at) == captured)
                .map(|(_, sequence)| sequence & 0xffff)?;
            Some(json!({ *name: sequence }))
        })
        .collect())
}

/// Verifies a case.
pub fn verify(case: &Case) -> Result<Facts, Fault> {
    if case.contains_key("delays") {
        let reference = reference(text(case, "delays")?)?;
        return Ok(fields(json!({ "reference": reference })));
    }
    let packets = case.get("packets").and_then(Value::as_array);
    let heard = listen(packets.ok_or_else(|| lacks("packets"))?)?;
    Ok(fields(json!({ "heard": heard })))
}

fn traces(vectors: &mut Vectors) -> Result<(), Fault> {
    for (name, delays) in traces::all() {
        let texts: Vec<_> = delays
            .iter()
            .map(|delay| delay.map_or("-".into(), |delay| (delay / 1_000).to_string()))
            .collect();
        let delays = texts.join(" ");
        let reference = reference(&delays)?;
        let comment = match name {
            "steady" => "a wire",
            "wifi" => "a wireless network at home, busy now and then",
            "lte" => "a mobile network with changes of the cell",
            "random-5" => "5 % lost at random",
            "bursts-20" => "20 % lost in bursts",
            "blackout" => "three seconds of nothing, all lost",
            "stall" => "two seconds of nothing, then all at once",
            _ => "unrest, then calm",
        };
        vectors.valid(
            name,
            comment,
            json!({"delays": delays, "reference": reference}),
        );
    }
    Ok(())
}

fn reference(delays: &str) -> Result<Value, Fault> {
    let delays: Option<Vec<Option<u64>>> = delays
        .split(' ')
        .map(|word| match word {
            "-" => Some(None),
            word => word.parse().ok().map(|ms: u64| Some(ms * 1_000)),
        })
        .collect();
    let sent = traces::speech(&delays.ok_or_else(|| lacks("delays"))?);
    let mut jitter = Jitter::new();
    let heard: Heard = traces::play(Clock::start().now(), &sent, &mut jitter);
    let ledger = jitter.ledger();
    let ms = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let delay = |share| heard.delay(std::time::Duration::ZERO, share).round() as u64;
    Ok(json!({
        "played": ms(ledger.played),
        "rebuilt": ms(ledger.rebuilt),
        "concealed": ms(ledger.concealed),
        "quiet": ms(ledger.quiet),
        "saved": ms(ledger.faster),
        "won": ms(ledger.slower),
        "let_go": ms(ledger.skipped),
        "target": ms(jitter.target()),
        "delay": [delay(0.5), delay(0.95)],
    }))
}
