//! PURE: what a wire of the lab does to an Ethernet frame beside its weather: reads whose it is,
//! lets it pass or not, counts it, changes its addresses for a translator, and mends checksums
//! that the kernel left to a network card.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

const ETHERNET: usize = 14;
const IPV4: [u8; 2] = [0x08, 0x00];
const IPV6: [u8; 2] = [0x86, 0xdd];
/// Protocol numbers.
pub const TCP: u8 = 6;
/// Protocol numbers.
pub const UDP: u8 = 17;
/// Flows that are told apart; those after them count as one.
const FLOWS_MAX: usize = 8_192;

/// Whose a packet is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Flow {
    /// TCP or UDP.
    pub protocol: u8,
    /// Where it comes from.
    pub from: SocketAddr,
    /// Where it goes.
    pub to: SocketAddr,
}

/// A packet of TCP or UDP, whole, as it lies in its frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Packet {
    /// Whose it is.
    pub flow: Flow,
    /// Where the header of TCP or UDP begins.
    head: usize,
    /// Where the payload begins.
    payload: usize,
    /// Where the IP packet ends.
    end: usize,
}

fn word(frame: &[u8], at: usize) -> Option<u16> {
    let bytes = frame.get(at..at + 2)?;
    Some(u16::from_be_bytes(bytes.try_into().ok()?))
}

/// Bytes of the IP packet in a frame; `None`: it holds none.
pub fn length(frame: &[u8]) -> Option<usize> {
    let ip = frame.get(ETHERNET..)?;
    match frame.get(12..ETHERNET)?.try_into().ok()? {
        IPV4 => Some(usize::from(word(ip, 2)?)),
        IPV6 => Some(usize::from(word(ip, 4)?) + 40),
        _ => None,
    }
}

/// The packet of TCP or UDP in a frame; `None`: it holds none, or a fragment.
pub fn read(frame: &[u8]) -> Option<Packet> {
    let ip = frame.get(ETHERNET..)?;
    let (protocol, from, to, header): (u8, IpAddr, IpAddr, usize) =
        match frame.get(12..ETHERNET)?.try_into().ok()? {
            IPV4 => {
                let header = usize::from(*ip.first()? & 0x0f) * 4;
                // more fragments, or a later one
                if word(ip, 6)? & 0x3fff != 0 {
                    return None;
                }
                let address = |at: usize| -> Option<IpAddr> {
                    let bytes: [u8; 4] = ip.get(at..at + 4)?.try_into().ok()?;
                    Some(Ipv4Addr::from(bytes).into())
                };
                (*ip.get(9)?, address(12)?, address(16)?, header)
            }
            IPV6 => {
                let address = |at: usize| -> Option<IpAddr> {
                    let bytes: [u8; 16] = ip.get(at..at + 16)?.try_into().ok()?;
                    Some(Ipv6Addr::from(bytes).into())
                };
                (*ip.get(6)?, address(8)?, address(24)?, 40)
            }
            _ => return None,
        };
    let head = ETHERNET + header;
    let payload = head
        + match protocol {
            UDP => 8,
            TCP => usize::from(*frame.get(head + 12)? >> 4) * 4,
            _ => return None,
        };
    let end = ETHERNET + length(frame)?;
    (payload <= end && end <= frame.len()).then_some(())?;
    Some(Packet {
        flow: Flow {
            protocol,
            from: SocketAddr::new(from, word(frame, head)?),
            to: SocketAddr::new(to, word(frame, head + 2)?),
        },
        head,
        payload,
        end,
    })
}

impl Packet {
    /// What it carries.
    pub fn payload<'a>(&self, frame: &'a [u8]) -> &'a [u8] {
        frame.get(self.payload..self.end).unwrap_or_default()
    }

    /// It may carry sound or picture: no STUN (RFC 9443), or one of TURN's indications; of TCP,
    /// whatever is not empty.
    pub fn media(&self, frame: &[u8]) -> bool {
        match (self.flow.protocol, self.payload(frame)) {
            (_, []) => false,
            (UDP, [0, 0x16 | 0x17, ..]) => true,
            (UDP, [first, ..]) => *first > 3,
            _ => true,
        }
    }
}

/// Gives an IPv4 packet other addresses. Checksums have to be mended after.
pub fn readdress(frame: &mut [u8], packet: &Packet, from: SocketAddrV4, to: SocketAddrV4) {
    let ends = [(12, 0, from), (16, 2, to)];
    for (address, port, socket) in ends {
        let at = ETHERNET + address;
        if let Some(bytes) = frame.get_mut(at..at + 4) {
            bytes.copy_from_slice(&socket.ip().octets());
        }
        let at = packet.head + port;
        if let Some(bytes) = frame.get_mut(at..at + 2) {
            bytes.copy_from_slice(&socket.port().to_be_bytes());
        }
    }
}

fn sum(bytes: &[u8]) -> u32 {
    bytes.chunks(2).fold(0, |sum: u32, pair| {
        let low = pair.get(1).copied().unwrap_or(0);
        sum.wrapping_add(u32::from(u16::from_be_bytes([pair[0], low])))
    })
}

fn folded(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// Computes the checksums of a packet anew (RFC 768, 791, 8200 section 8.1, 9293).
pub fn mend(frame: &mut [u8], packet: &Packet) {
    let (head, end) = (packet.head, packet.end);
    let at = head + if packet.flow.protocol == UDP { 6 } else { 16 };
    let six = packet.flow.from.is_ipv6();
    let addresses = if six {
        ETHERNET + 8..ETHERNET + 40
    } else {
        ETHERNET + 12..ETHERNET + 20
    };
    if let Some(field) = frame.get_mut(at..at + 2) {
        field.fill(0);
    }
    let (Some(addresses), Some(body)) = (frame.get(addresses), frame.get(head..end)) else {
        return;
    };
    let length = u32::try_from(end - head).unwrap_or(0);
    let pseudo =
        sum(addresses) + u32::from(packet.flow.protocol) + (length & 0xffff) + (length >> 16);
    let checksum = match folded(pseudo.wrapping_add(sum(body))) {
        // none is written as all ones
        0 if packet.flow.protocol == UDP => 0xffff,
        checksum => checksum,
    };
    if let Some(field) = frame.get_mut(at..at + 2) {
        field.copy_from_slice(&checksum.to_be_bytes());
    }
    if !six {
        let header = ETHERNET..head;
        if let Some(field) = frame.get_mut(ETHERNET + 10..ETHERNET + 12) {
            field.fill(0);
        }
        let checksum = folded(frame.get(header).map_or(0, sum));
        if let Some(field) = frame.get_mut(ETHERNET + 10..ETHERNET + 12) {
            field.copy_from_slice(&checksum.to_be_bytes());
        }
    }
}

/// What a wire lets pass.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Gate {
    /// Everything.
    #[default]
    Open,
    /// Nothing.
    Dark,
    /// Everything but UDP.
    NoUdp,
    /// UDP from and to these only, and everything else: a direct path dies without a word.
    Only(BTreeSet<IpAddr>),
}

impl Gate {
    /// Whether a frame passes; `packet` is what it holds.
    pub fn lets(&self, packet: Option<&Packet>) -> bool {
        let udp = packet
            .map(|packet| packet.flow)
            .filter(|flow| flow.protocol == UDP);
        match (self, udp) {
            (Self::Dark, _) => false,
            (Self::Open, _) | (_, None) => true,
            (Self::NoUdp, Some(_)) => false,
            (Self::Only(known), Some(flow)) => {
                known.contains(&flow.from.ip()) || known.contains(&flow.to.ip())
            }
        }
    }
}

/// What one flow did on a wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Count {
    /// Packets that passed.
    pub packets: u64,
    /// Bytes of their IP packets.
    pub bytes: u64,
    /// Of these, packets that may carry media.
    pub media: u64,
    /// When the last such passed.
    pub last_media: Option<Duration>,
}

/// What passed a wire.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// By flow.
    pub flows: BTreeMap<Flow, Count>,
    /// Bytes of the longest IP packet of each direction: from the end inside, and to it.
    pub longest: [usize; 2],
    /// Frames that the gate did not let pass.
    pub gated: u64,
    /// Frames that the weather lost.
    pub lost: u64,
    /// Frames that the translator on the wire did not let pass.
    pub refused: u64,
    /// Frames that the lab itself lost: too many under way, or not taken by the kernel.
    pub dropped: u64,
}

impl Tally {
    /// A frame passed in direction `side`.
    pub fn count(&mut self, now: Duration, side: usize, frame: &[u8], packet: Option<&Packet>) {
        let length = length(frame).unwrap_or(0);
        if let Some(longest) = self.longest.get_mut(side) {
            *longest = length.max(*longest);
        }
        let Some(packet) = packet else {
            return;
        };
        if !self.flows.contains_key(&packet.flow) && self.flows.len() >= FLOWS_MAX {
            return;
        }
        let count = self.flows.entry(packet.flow).or_default();
        count.packets += 1;
        count.bytes += length as u64;
        if packet.media(frame) {
            count.media += 1;
            count.last_media = Some(now);
        }
    }

    /// When the last media packet passed in a flow that fits.
    pub fn last_media(&self, fits: impl Fn(&Flow) -> bool) -> Option<Duration> {
        let flows = self.flows.iter().filter(|(flow, _)| fits(flow));
        flows.filter_map(|(_, count)| count.last_media).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A UDP packet from 192.168.1.2:5000 to 198.18.0.9:6000, as a kernel made it.
    fn udp(payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend(IPV4);
        let length = (28 + payload.len()) as u16;
        frame.extend([0x45, 0]);
        frame.extend(length.to_be_bytes());
        frame.extend([0, 1, 0x40, 0, 64, UDP, 0, 0, 192, 168, 1, 2, 198, 18, 0, 9]);
        frame.extend(5_000_u16.to_be_bytes());
        frame.extend(6_000_u16.to_be_bytes());
        frame.extend((8 + payload.len() as u16).to_be_bytes());
        frame.extend([0, 0]);
        frame.extend(payload);
        frame
    }

    /// What a receiver does: with the checksum in place everything adds up to all ones.
    fn adds_up(frame: &[u8]) -> bool {
        let packet = read(frame).unwrap();
        let body = &frame[packet.head..packet.end];
        let pseudo = sum(&frame[26..34]) + u32::from(UDP) + body.len() as u32;
        folded(sum(&frame[14..34])) == 0 && folded(pseudo + sum(body)) == 0
    }

    #[test]
    fn a_packet_is_read_mended_and_readdressed() {
        for payload in [&b"abc"[..], b"", b"even"] {
            let mut frame = udp(payload);
            // a short frame is padded; that is no part of it
            frame.resize(frame.len().max(60), 0);
            let packet = read(&frame).unwrap();
            assert_eq!(packet.flow.from, "192.168.1.2:5000".parse().unwrap());
            assert_eq!(packet.payload(&frame), payload);
            assert!(!adds_up(&frame));
            mend(&mut frame, &packet);
            assert!(adds_up(&frame));
            let to = "198.18.0.9:6000".parse().unwrap();
            readdress(&mut frame, &packet, "198.18.1.1:7000".parse().unwrap(), to);
            assert!(!adds_up(&frame));
            mend(&mut frame, &packet);
            assert!(adds_up(&frame));
            assert_eq!(
                read(&frame).unwrap().flow.from,
                "198.18.1.1:7000".parse().unwrap()
            );
        }
    }

    #[test]
    fn a_checksum_is_the_one_of_the_books() {
        // 198.18.0.1:1 to 198.18.0.2:2, one byte, reckoned by hand
        let mut frame = udp(&[0x80]);
        let packet = read(&frame).unwrap();
        readdress(
            &mut frame,
            &packet,
            "198.18.0.1:1".parse().unwrap(),
            "198.18.0.2:2".parse().unwrap(),
        );
        mend(&mut frame, &packet);
        // c612+0001+c612+0002+0011+0009 + 0001+0002+0009+8000 = 20c4d; folded 0c4f
        assert_eq!(word(&frame, packet.head + 6), Some(!0x0c4f));
    }

    #[test]
    fn bad_frames_are_nobodys() {
        let whole = udp(b"abc");
        for cut in 0..whole.len() {
            assert_eq!(read(&whole[..cut]), None);
        }
        let mut fragment = whole.clone();
        fragment[ETHERNET + 6] = 0x20;
        assert_eq!(read(&fragment), None);
        let mut short = whole;
        short[ETHERNET + 3] = 27;
        assert_eq!(read(&short), None);
    }

    #[test]
    fn stun_is_no_media_and_its_data_indications_are() {
        let media = |payload: &[u8]| {
            let frame = udp(payload);
            read(&frame).unwrap().media(&frame)
        };
        assert!(!media(&[]) && !media(&[0, 1, 0, 0]) && !media(&[1, 1]));
        assert!(media(&[0, 0x16]) && media(&[0, 0x17]) && media(&[0x40, 0]) && media(&[0x80]));
    }

    #[test]
    fn gates_let_pass_what_they_say() {
        let frame = udp(b"abc");
        let packet = read(&frame);
        let only = |ip: &str| Gate::Only(BTreeSet::from([ip.parse().unwrap()]));
        for (gate, udp, other) in [
            (Gate::Open, true, true),
            (Gate::Dark, false, false),
            (Gate::NoUdp, false, true),
            (only("198.18.0.9"), true, true),
            (only("198.18.0.8"), false, true),
        ] {
            assert_eq!(gate.lets(packet.as_ref()), udp, "{gate:?}");
            assert_eq!(gate.lets(None), other, "{gate:?}");
        }
    }

    #[test]
    fn a_tally_knows_when_the_last_media_passed() {
        let mut tally = Tally::default();
        let s = Duration::from_secs;
        for (at, payload) in [(1, &[0x80][..]), (2, &[0x80]), (3, &[0, 1])] {
            let frame = udp(payload);
            tally.count(s(at), 0, &frame, read(&frame).as_ref());
        }
        assert_eq!(tally.last_media(|flow| flow.to.port() == 6_000), Some(s(2)));
        assert_eq!(tally.last_media(|flow| flow.to.port() == 6_001), None);
        assert_eq!(tally.longest, [30, 0]);
    }
}
