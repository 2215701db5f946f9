//! RTCP: sender reports, picture loss indications, arrival reports.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use suora_node::clock::Clock;
use suora_protocol::fault::{Code, Fault};
use suora_protocol::limits::REPORT_PACKETS_MAX;
use suora_protocol::media::Kind;
use suora_protocol::media::rtcp::{self, Report};
use suora_protocol::media::rtp;

use super::super::raw::hex;
use super::super::verify::{Case, bytes};
use super::super::{Facts, Vectors, fields};
use super::{CAPTURED, PICTURE, REPORTS, SOUND, describe, refuse};

fn file(concept: &'static str) -> Vectors {
    let mut vectors = Vectors::new("media", concept, "spec/media.md, section 5");
    describe(&mut vectors);
    vectors.format.extend([
        ("rtcp", "one or more RTCP packets, as they follow the flow id of a datagram"),
        ("says", "what the packets that are used say, in order; times in microseconds, of sender reports since 1970, of arrivals before the report; `at` of arrivals in 1/65536 s"),
    ]);
    vectors.verification =
        vec!["Read rtcp; compare with says. Packets of other types and formats say nothing."];
    vectors
}

fn valid(vectors: &mut Vectors, name: &str, comment: &str, rtcp: &[u8]) -> Result<(), Fault> {
    let case = json!({"rtcp": hex(rtcp), "says": says(rtcp)?});
    vectors.valid(name, comment, case);
    Ok(())
}

fn report() -> Result<Vec<u8>, Fault> {
    let time = rtp::rtp_time(Kind::Audio, CAPTURED);
    rtcp::sender_report(SOUND, CAPTURED, time, 51, 4_080)
}

/// Sender reports and picture loss indications.
pub fn control() -> Result<Vectors, Fault> {
    let mut vectors = file("control-reports");
    let v = &mut vectors;
    let (report, loss) = (report()?, rtcp::picture_loss(REPORTS, PICTURE)?);
    valid(v, "sender-report", "51 packets of 80 bytes so far", &report)?;
    let wrapped = rtcp::sender_report(PICTURE, CAPTURED, u32::MAX, u32::MAX, 0)?;
    valid(
        v,
        "sender-report-wrapped",
        "counts that wrap at 32 bits",
        &wrapped,
    )?;
    valid(v, "picture-loss", "a keyframe of this track, please", &loss)?;
    valid(
        v,
        "two",
        "two packets in one datagram",
        &[&report[..], &loss].concat(),
    )?;
    let receiver = [0x80, 201, 0, 1, 0x33, 0x33, 0x33, 0x33];
    valid(
        v,
        "others",
        "a receiver report says nothing here",
        &receiver,
    )?;
    valid(
        v,
        "others-between",
        "nor between two others",
        &[&loss[..], &receiver, &loss].concat(),
    )?;
    let refresh = [&[0x84, 206][..], &loss[2..]].concat();
    valid(
        v,
        "another-format",
        "payload feedback of another format",
        &refresh,
    )?;
    refuse(v, "empty", "no byte", "rtcp", &[]);
    refuse(
        v,
        "cut",
        "a sender report without its last byte",
        "rtcp",
        &report[..report.len() - 1],
    );
    refuse(v, "cut-head", "three bytes", "rtcp", &report[..3]);
    let version = [&[0x40][..], &report[1..]].concat();
    refuse(v, "version-1", "version 1", "rtcp", &version);
    let long = [&report[..2], &[0, 200], &report[4..]].concat();
    refuse(v, "length", "a length of 201 words", "rtcp", &long);
    let behind = [&loss[..], &[0x80, 200, 0]].concat();
    refuse(
        v,
        "cut-second",
        "a second packet of three bytes",
        "rtcp",
        &behind,
    );
    Ok(vectors)
}

/// A track: its number, the first sequence number, and arrivals in microseconds before the report.
type Track<'a> = (u32, u16, &'a [Option<u64>]);

fn arrived(tracks: &[Track<'_>]) -> Vec<u8> {
    // only differences of this moment are written
    let now = Clock::start().now().mono + Duration::from_secs(3_600);
    let tracks: Vec<(u32, u16, Vec<Option<Instant>>)> = tracks
        .iter()
        .map(|(ssrc, begin, ages)| {
            let moment = |age: &Option<u64>| age.map(|age| now - Duration::from_micros(age));
            (*ssrc, *begin, ages.iter().map(moment).collect())
        })
        .collect();
    let tracks = tracks
        .iter()
        .map(|(ssrc, begin, packets)| (*ssrc, *begin, packets.as_slice()));
    rtcp::arrivals(REPORTS, now, CAPTURED, tracks)
}

/// An arrival report by hand: its blocks.
fn by_hand(blocks: &[u8]) -> Vec<u8> {
    let middle = rtp::to_ntp(CAPTURED).to_be_bytes();
    let words = u16::try_from((blocks.len() + 12) / 4 - 1).unwrap_or(0);
    let mut out = vec![0x8b, 205];
    out.extend_from_slice(&words.to_be_bytes());
    out.extend_from_slice(&REPORTS.to_be_bytes());
    out.extend_from_slice(blocks);
    out.extend_from_slice(&middle[2..6]);
    out
}

/// Arrival reports.
pub fn arrivals() -> Result<Vectors, Fault> {
    let mut vectors = file("arrivals");
    let v = &mut vectors;
    let even = [Some(60_000), Some(40_000), Some(20_000), Some(0)];
    valid(
        v,
        "four",
        "four packets of sound",
        &arrived(&[(SOUND, 100, &even)]),
    )?;
    let gaps = [Some(50_000), None, None, Some(0)];
    valid(
        v,
        "gaps",
        "two in the middle did not come",
        &arrived(&[(SOUND, 100, &gaps)]),
    )?;
    valid(
        v,
        "odd",
        "an odd number of entries is padded",
        &arrived(&[(SOUND, 100, &even[..3])]),
    )?;
    valid(v, "one", "one entry", &arrived(&[(SOUND, 100, &even[..1])]))?;
    valid(
        v,
        "wrap",
        "over the wrap of sequence numbers",
        &arrived(&[(SOUND, 65_534, &even)]),
    )?;
    let two: [Track<'_>; 2] = [(SOUND, 100, &even[..3]), (PICTURE, 7, &gaps)];
    valid(v, "two-tracks", "sound and picture", &arrived(&two))?;
    let ages = [
        Some(976),
        Some(977),
        Some(1_000_000),
        Some(7_998_046),
        Some(7_998_047),
    ];
    valid(
        v,
        "rounding",
        "units of 1/1024 s, rounded down",
        &arrived(&[(SOUND, 0, &ages)]),
    )?;
    valid(
        v,
        "long-ago",
        "more than can be told",
        &arrived(&[(SOUND, 0, &[Some(60_000_000)])]),
    )?;
    let most: Vec<Option<u64>> = (0..256u64)
        .map(|n| (n % 3 != 1).then_some(n * 300))
        .collect();
    valid(
        v,
        "most",
        "256 entries, the bound",
        &arrived(&[(SOUND, 65_400, &most)]),
    )?;
    valid(v, "none", "no track", &by_hand(&[]))?;
    let head = |count: u16| [&SOUND.to_be_bytes()[..], &[0, 100], &count.to_be_bytes()].concat();
    valid(v, "no-entry", "a block without entries", &by_hand(&head(0)))?;
    let unknown = [head(2), vec![0x9f, 0xff, 0xbf, 0xff]].concat();
    valid(
        v,
        "time-unknown",
        "0x1FFF reads as 7.999 s; the second entry has ECN bits, which are ignored",
        &by_hand(&unknown),
    )?;
    let both = [arrived(&[(SOUND, 100, &gaps)]), report()?].concat();
    valid(
        v,
        "with-sender-report",
        "told in the order of sections, arrivals last",
        &both,
    )?;
    refuse(
        v,
        "cut-head",
        "a block of four bytes",
        "rtcp",
        &by_hand(&SOUND.to_be_bytes()),
    );
    refuse(
        v,
        "cut-entries",
        "four entries, two are there",
        "rtcp",
        &by_hand(&[head(4), vec![0x80, 0, 0x80, 0]].concat()),
    );
    refuse(
        v,
        "no-time",
        "no room for the time of the report",
        "rtcp",
        &[0x8b, 205, 0, 1, 0x33, 0x33, 0x33, 0x33],
    );
    let over = [head(257), vec![0x80; 258 * 2]].concat();
    let case = json!({"rtcp": hex(&by_hand(&over))});
    v.invalid("over-the-bound", Code::TooLarge, "257 entries", case);
    let greatest = json!({"rtcp": hex(&by_hand(&head(u16::MAX)))});
    v.invalid(
        "greatest-count",
        Code::TooLarge,
        "65535 entries, none is there: refused by its count",
        greatest,
    );
    debug_assert_eq!(REPORT_PACKETS_MAX, 256);
    Ok(vectors)
}

fn says(bytes: &[u8]) -> Result<Vec<Value>, Fault> {
    let said = rtcp::read(bytes)?;
    Ok(said
        .into_iter()
        .map(|report| match report {
            Report::Sender {
                ssrc,
                at,
                time,
                packets,
                bytes,
            } => json!({"sender": {
                "ssrc": ssrc, "at": at.as_micros(), "time": time, "packets": packets, "bytes": bytes,
            }}),
            Report::PictureLoss { ssrc } => json!({"picture_loss": {"ssrc": ssrc}}),
            Report::Arrivals(report) => {
                let tracks: Vec<Value> = report
                    .tracks
                    .iter()
                    .map(|track| {
                        let ages: Vec<Option<u64>> = track
                            .ages
                            .iter()
                            .map(|age| age.map(|age| u64::try_from(age.as_micros()).unwrap_or(u64::MAX)))
                            .collect();
                        json!({"ssrc": track.ssrc, "begin": track.begin, "ages": ages})
                    })
                    .collect();
                json!({"at": report.at, "arrivals": tracks})
            }
        })
        .collect())
}

/// Verifies a case of either file.
pub fn verify(case: &Case) -> Result<Facts, Fault> {
    Ok(fields(json!({"says": says(&bytes(case, "rtcp")?)?})))
}
