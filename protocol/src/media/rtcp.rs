//! RTCP in reduced size (RFC 5506): sender reports, picture loss indications
//! (RFC 4585) and arrival reports (RFC 8888), as `spec/media.md`, section 5 uses them.
//! The library writes and reads the first two; the arrival report is ours.

use std::time::{Duration, Instant};

use rtcp_types::prelude::*;
use rtcp_types::{Compound, Packet, PayloadFeedback, Pli, SenderReport};

use super::rtp;
use crate::fault::{Code, Fault};
use crate::limits::REPORT_PACKETS_MAX;
use crate::time::Timestamp;

/// Transport feedback, and its format for arrival reports.
const RTPFB: u8 = 205;
const CCFB: u8 = 11;
/// The bits of an arrival offset.
const ATO: u16 = 0x1fff;
/// The longest offset that can be told; the next one says that the time is not known.
const ATO_MAX: u16 = 0x1ffe;
/// From this age on an offset says that a packet arrived, not when.
pub const AGE_MAX: Duration = Duration::from_micros(ATO_MAX as u64 * 1_000_000 / 1_024);

/// What an RTCP packet says; others are ignored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Report {
    /// A sender report.
    Sender {
        /// The track.
        ssrc: u32,
        /// When it was sent, by the sender's clock.
        at: Timestamp,
        /// The RTP time of that moment.
        time: u32,
        /// Packets sent so far.
        packets: u32,
        /// Payload bytes sent so far.
        bytes: u32,
    },
    /// The picture of this track is lost: a keyframe, please.
    PictureLoss {
        /// The track.
        ssrc: u32,
    },
    /// What arrived, and when.
    Arrivals(ArrivalReport),
}

/// An arrival report.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ArrivalReport {
    /// When it was made, by the clock of the one who reports: the middle 32 bits of NTP, in
    /// units of 1/65536 s, which wrap after 18 hours.
    pub at: u32,
    /// By track.
    pub tracks: Vec<Arrivals>,
}

/// What arrived of one track.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Arrivals {
    /// The track.
    pub ssrc: u32,
    /// The first sequence number of the report.
    pub begin: u16,
    /// For each packet from `begin`: how long before the report it arrived, or `None`.
    pub ages: Vec<Option<Duration>>,
}

/// Writes a sender report.
pub fn sender_report(
    ssrc: u32,
    at: Timestamp,
    time: u32,
    packets: u32,
    bytes: u32,
) -> Result<Vec<u8>, Fault> {
    let builder = SenderReport::builder(ssrc)
        .ntp_timestamp(rtp::to_ntp(at))
        .rtp_timestamp(time)
        .packet_count(packets)
        .octet_count(bytes);
    write(&builder)
}

/// Writes a picture loss indication for `media`, sent by `ssrc`.
pub fn picture_loss(ssrc: u32, media: u32) -> Result<Vec<u8>, Fault> {
    let pli = Pli::builder();
    write(
        &PayloadFeedback::builder(&pli)
            .sender_ssrc(ssrc)
            .media_ssrc(media),
    )
}

fn write(packet: &impl RtcpPacketWriter) -> Result<Vec<u8>, Fault> {
    let internal =
        |error: rtcp_types::RtcpWriteError| Fault::new(Code::Internal).with(format!("{error:?}"));
    let mut out = vec![0; packet.calculate_size().map_err(internal)?];
    packet.write_into(&mut out).map_err(internal)?;
    Ok(out)
}

/// Writes an arrival report at `now`: for each track its ssrc and arrivals by
/// sequence number, gaps included. More than the bound are cut off at the old end.
pub fn arrivals<'a>(
    ssrc: u32,
    now: Instant,
    at: Timestamp,
    tracks: impl Iterator<Item = (u32, u16, &'a [Option<Instant>])>,
) -> Vec<u8> {
    let mut out = vec![0x80 | CCFB, RTPFB, 0, 0];
    out.extend_from_slice(&ssrc.to_be_bytes());
    for (track, begin, packets) in tracks {
        let skip = packets.len().saturating_sub(REPORT_PACKETS_MAX);
        let packets = packets.get(skip..).unwrap_or_default();
        out.extend_from_slice(&track.to_be_bytes());
        out.extend_from_slice(
            &begin
                .wrapping_add(u16::try_from(skip).unwrap_or(0))
                .to_be_bytes(),
        );
        out.extend_from_slice(&u16::try_from(packets.len()).unwrap_or(0).to_be_bytes());
        for packet in packets {
            let block = packet.map_or(0, |arrived| {
                let ticks = now.saturating_duration_since(arrived).as_micros() * 1_024 / 1_000_000;
                0x8000 | u16::try_from(ticks).unwrap_or(ATO_MAX).min(ATO_MAX)
            });
            out.extend_from_slice(&block.to_be_bytes());
        }
        if packets.len() % 2 == 1 {
            out.extend_from_slice(&[0, 0]);
        }
    }
    let middle = u32::try_from(rtp::to_ntp(at) >> 16 & u64::from(u32::MAX)).unwrap_or(0);
    out.extend_from_slice(&middle.to_be_bytes());
    let words = u16::try_from(out.len() / 4 - 1).unwrap_or(0).to_be_bytes();
    for (to, from) in out.iter_mut().skip(2).zip(words) {
        *to = from;
    }
    out
}

/// Reads all packets of a compound or reduced-size RTCP datagram.
pub fn read(bytes: &[u8]) -> Result<Vec<Report>, Fault> {
    let malformed = |_| Fault::new(Code::Malformed).with("RTCP");
    let mut reports = Vec::new();
    for packet in Compound::parse(bytes).map_err(malformed)? {
        match packet.map_err(malformed)? {
            Packet::Sr(sr) => reports.push(Report::Sender {
                ssrc: sr.ssrc(),
                at: rtp::from_ntp(sr.ntp_timestamp()),
                time: sr.rtp_timestamp(),
                packets: sr.packet_count(),
                bytes: sr.octet_count(),
            }),
            Packet::PayloadFeedback(feedback) if feedback.parse_fci::<Pli>().is_ok() => {
                reports.push(Report::PictureLoss {
                    ssrc: feedback.media_ssrc(),
                });
            }
            _ => {}
        }
    }
    // The library skips formats that it does not know: walk the headers for arrival reports.
    let mut rest = bytes;
    while let [head, kind, high, low, ..] = rest {
        let len = (usize::from(u16::from_be_bytes([*high, *low])) + 1) * 4;
        let packet = rest
            .get(..len)
            .ok_or_else(|| Fault::new(Code::Malformed).with("RTCP"))?;
        if *kind == RTPFB && head & 0x1f == CCFB {
            reports.push(Report::Arrivals(read_arrivals(packet)?));
        }
        rest = rest.get(len..).unwrap_or_default();
    }
    Ok(reports)
}

fn read_arrivals(packet: &[u8]) -> Result<ArrivalReport, Fault> {
    let malformed = || Fault::new(Code::Malformed).with("arrival report");
    let (packet, at) = packet.split_last_chunk::<4>().ok_or_else(malformed)?;
    let mut body = packet.get(8..).ok_or_else(malformed)?;
    let mut tracks = Vec::new();
    while let [a, b, c, d, e, f, g, h, rest @ ..] = body {
        let count = usize::from(u16::from_be_bytes([*g, *h]));
        if count > REPORT_PACKETS_MAX {
            return Err(Fault::new(Code::TooLarge).with("arrival report"));
        }
        let blocks = rest.get(..count * 2).ok_or_else(malformed)?;
        let ages = blocks
            .as_chunks::<2>()
            .0
            .iter()
            .map(|block| {
                let block = u16::from_be_bytes(*block);
                (block & 0x8000 != 0)
                    .then(|| Duration::from_micros(u64::from(block & ATO) * 1_000_000 / 1_024))
            })
            .collect();
        tracks.push(Arrivals {
            ssrc: u32::from_be_bytes([*a, *b, *c, *d]),
            begin: u16::from_be_bytes([*e, *f]),
            ages,
        });
        body = rest.get((count + count % 2) * 2..).ok_or_else(malformed)?;
    }
    if body.is_empty() {
        let at = u32::from_be_bytes(*at);
        Ok(ArrivalReport { at, tracks })
    } else {
        Err(malformed())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::media::tests::base;

    // covers: SUORA-MED-009
    #[test]
    fn an_arrival_report_tells_each_packet_and_each_gap() {
        let now = base();
        let packets = [
            Some(now.mono - Duration::from_millis(50)),
            None,
            Some(now.mono),
        ];
        let bytes = arrivals(
            1,
            now.mono,
            now.utc,
            [(9, 65_535, &packets[..])].into_iter(),
        );
        assert_eq!(bytes.len() % 4, 0);
        let Ok([Report::Arrivals(report)]) = read(&bytes)
            .as_deref()
            .map(|r| <&[Report; 1]>::try_from(r).unwrap())
            .cloned()
        else {
            panic!()
        };
        let middle = rtp::to_ntp(now.utc) >> 16 & u64::from(u32::MAX);
        assert_eq!(u64::from(report.at), middle);
        let tracks = report.tracks;
        assert_eq!((tracks[0].ssrc, tracks[0].begin), (9, 65_535));
        assert_eq!(tracks[0].ages[1], None);
        assert!(
            tracks[0].ages[0]
                .unwrap()
                .abs_diff(Duration::from_millis(50))
                < Duration::from_millis(1)
        );
    }

    #[test]
    fn sender_reports_and_picture_losses_round_trip() {
        let at = Timestamp::from_micros(1_795_525_200_123_456);
        assert_eq!(
            read(&sender_report(5, at, 77, 3, 4).unwrap()),
            Ok(vec![Report::Sender {
                ssrc: 5,
                at,
                time: 77,
                packets: 3,
                bytes: 4
            }])
        );
        assert_eq!(
            read(&picture_loss(5, 6).unwrap()),
            Ok(vec![Report::PictureLoss { ssrc: 6 }])
        );
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = read(&bytes);
        }

        #[test]
        fn arbitrary_arrival_reports_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 12..100)) {
            bytes[0] = 0x8b;
            bytes[1] = 205;
            let _ = read(&bytes);
        }

        #[test]
        fn arbitrary_bodies_of_whole_packets_never_panic(
            packets in proptest::collection::vec(
                (
                    any::<u8>(),
                    prop_oneof![Just(RTPFB), 200u8..208],
                    proptest::collection::vec(prop_oneof![any::<u32>(), 0u32..600], 0..40),
                ),
                1..5,
            )
        ) {
            let mut bytes = Vec::new();
            for (head, kind, words) in packets {
                bytes.extend_from_slice(&[0x80 | head & 0x1f, kind]);
                bytes.extend_from_slice(&u16::try_from(words.len()).unwrap().to_be_bytes());
                words.iter().for_each(|word| bytes.extend_from_slice(&word.to_be_bytes()));
            }
            let reports = read(&bytes).unwrap_or_default();
            // no report is made of less than its own bytes
            prop_assert!(reports.len() * 12 <= bytes.len());
            for report in reports {
                if let Report::Arrivals(ArrivalReport { tracks, .. }) = report {
                    prop_assert!(tracks.len() * 8 <= bytes.len());
                    prop_assert!(tracks.iter().all(|track| track.ages.len() <= REPORT_PACKETS_MAX));
                }
            }
        }
    }
}
