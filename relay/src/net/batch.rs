//! DOOR: packets on their way out. They wait in one list until a batch has been judged, and leave in as few
//! system calls as the kernel allows: all of a socket in one `sendmmsg`, and those of one size to one
//! address in one message (GSO). Nothing is allocated and nothing copied here: a packet is a head,
//! bytes of a receive buffer, and padding.

use std::io::IoSlice;
use std::net::{SocketAddr, UdpSocket};
use std::ops::Range;
use std::os::fd::AsRawFd as _;

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, MultiHeaders, SockaddrStorage, sendmmsg};

use crate::turn::forward::Head;
use crate::turn::table::Slot;

/// Packets that wait at most.
pub const WAITING: usize = 2_048;

/// Messages in one call, and parts of packets in them.
const MESSAGES: usize = 32;
const PARTS: usize = 192;

/// Packets in one message, and their bytes together: what the kernel takes.
const SEGMENTS: usize = 64;
const TRAIN: usize = 65_000;

/// Which socket.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Socket {
    /// A listener, by its number.
    Listener(u8),
    /// An allocation's.
    Relayed(Slot),
}

/// A packet.
#[derive(Clone, Debug)]
pub struct Packet {
    /// From this socket.
    pub from: Socket,
    /// To this address.
    pub to: SocketAddr,
    /// What goes first.
    pub head: Option<Head>,
    /// Bytes of the receive buffers.
    pub bytes: Range<usize>,
}

impl Packet {
    fn len(&self) -> usize {
        let around = |head: &Head| head.bytes().len() + head.padding().len();
        self.bytes.len() + self.head.as_ref().map_or(0, around)
    }
}

/// What left, and what did not.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Left {
    /// System calls.
    pub calls: u64,
    /// Packets that the kernel did not take.
    pub lost: u64,
}

/// Packets on their way out.
#[derive(Debug)]
pub struct Batch {
    packets: Vec<(u32, Packet)>,
    singles: MultiHeaders<SockaddrStorage>,
    trains: MultiHeaders<SockaddrStorage>,
    /// Whether the kernel takes trains.
    gso: bool,
}

/// One message of a call: so many packets, each of this size but the last.
#[derive(Clone, Copy, Debug)]
struct Train {
    count: usize,
    size: usize,
}

impl Batch {
    /// None yet.
    pub fn new(gso: bool) -> Self {
        Self {
            packets: Vec::with_capacity(WAITING),
            singles: MultiHeaders::preallocate(MESSAGES, None),
            trains: MultiHeaders::preallocate(MESSAGES, Some(nix::cmsg_space!(u16))),
            gso,
        }
    }

    /// Whether it has to leave before one more comes.
    pub fn is_full(&self) -> bool {
        self.packets.len() >= WAITING
    }

    /// One more.
    pub fn push(&mut self, packet: Packet) {
        if !self.is_full() {
            let number = u32::try_from(self.packets.len()).unwrap_or(u32::MAX);
            self.packets.push((number, packet));
        }
    }

    /// Sends all, those of a socket together and in their order. A packet that the kernel does not take is lost,
    /// as on any way.
    pub fn leave<'s>(
        &mut self,
        buffers: &[u8],
        socket: impl Fn(Socket) -> Option<&'s UdpSocket>,
    ) -> Left {
        let mut left = Left::default();
        if self.packets.is_empty() {
            return left;
        }
        let mut packets = std::mem::take(&mut self.packets);
        packets.sort_unstable_by_key(|(number, packet)| (packet.from, *number));
        let mut rest = packets.as_slice();
        while let Some((_, first)) = rest.first() {
            let same = rest.iter().take_while(|(_, one)| one.from == first.from);
            let (run, next) = rest.split_at(same.count());
            rest = next;
            match socket(first.from) {
                Some(socket) => self.send(socket, run, buffers, &mut left),
                None => left.lost += run.len() as u64,
            }
        }
        packets.clear();
        self.packets = packets;
        left
    }

    fn send(&mut self, socket: &UdpSocket, run: &[(u32, Packet)], buffers: &[u8], left: &mut Left) {
        // one packet alone to a peer is the commonest case
        if let [
            (
                _,
                Packet {
                    to,
                    head: None,
                    bytes,
                    ..
                },
            ),
        ] = run
        {
            let bytes = buffers.get(bytes.clone()).unwrap_or_default();
            left.calls += 1;
            left.lost += u64::from(socket.send_to(bytes, to).is_err());
            return;
        }
        let (mut at, mut alone) = (0, 0);
        while at < run.len() {
            let most = if self.gso && at >= alone { SEGMENTS } else { 1 };
            match self.send_some(socket, (run, at, most), buffers, left) {
                // a train that does not fit through goes as single packets
                Err(count) => alone = at + count,
                Ok(count) => at += count,
            }
        }
    }

    /// Makes one call out of packets from `at` on, of at most so many a message, and says how many are done
    /// with, or how many are no train.
    fn send_some(
        &mut self,
        socket: &UdpSocket,
        (run, at, most): (&[(u32, Packet)], usize, usize),
        buffers: &[u8],
        left: &mut Left,
    ) -> Result<usize, usize> {
        let mut parts = [IoSlice::new(&[]); PARTS];
        let mut ends = [0_usize; MESSAGES];
        let mut trains = [Train { count: 0, size: 0 }; MESSAGES];
        let mut addresses = [None::<SockaddrStorage>; MESSAGES];
        let (mut messages, mut used, mut next) = (0, 0, at);
        let mut kind = None;
        while messages < MESSAGES && next < run.len() {
            let train = train(run, next, most);
            // one call has one segment size
            let size = (train.count > 1).then_some(train.size);
            if *kind.get_or_insert(size) != size {
                break;
            }
            let needs = 3 * train.count;
            if used + needs > PARTS {
                break;
            }
            for (_, packet) in run.iter().skip(next).take(train.count) {
                let head = packet.head.as_ref();
                let bytes = buffers.get(packet.bytes.clone()).unwrap_or_default();
                for part in [
                    head.map_or(&[][..], Head::bytes),
                    bytes,
                    head.map_or(&[][..], Head::padding),
                ] {
                    if !part.is_empty()
                        && let Some(place) = parts.get_mut(used)
                    {
                        *place = IoSlice::new(part);
                        used += 1;
                    }
                }
            }
            let to = run.get(next).map(|(_, packet)| packet.to.into());
            addresses[messages] = to;
            trains[messages] = train;
            ends[messages] = used;
            messages += 1;
            next += train.count;
        }
        let mut slices = [&parts[..0]; MESSAGES];
        let mut begin = 0;
        for (slice, end) in slices.iter_mut().zip(ends).take(messages) {
            *slice = parts.get(begin..end).unwrap_or_default();
            begin = end;
        }
        let slices = slices.get(..messages).unwrap_or_default();
        let addresses = addresses.get(..messages).unwrap_or_default();
        let (headers, size) = match kind.flatten() {
            Some(size) => (&mut self.trains, u16::try_from(size).unwrap_or(u16::MAX)),
            None => (&mut self.singles, 0),
        };
        let segments = [ControlMessage::UdpGsoSegments(&size)];
        let control = if size == 0 {
            &segments[..0]
        } else {
            &segments[..]
        };
        let (fd, flags) = (socket.as_raw_fd(), MsgFlags::MSG_DONTWAIT);
        left.calls += 1;
        match sendmmsg(fd, headers, slices, addresses, control, flags) {
            Ok(sent) => {
                // those behind one that failed are tried again
                let sent = sent.count().clamp(1, messages.max(1));
                Ok(trains.iter().take(sent).map(|train| train.count).sum())
            }
            Err(error @ (Errno::EIO | Errno::EINVAL | Errno::EMSGSIZE)) if size != 0 => {
                // a device that cannot, rather than a path that is too narrow
                self.gso &= error != Errno::EIO;
                Err(trains[0].count)
            }
            Err(_) => {
                let lost = trains[0].count.max(1);
                left.lost += lost as u64;
                Ok(lost)
            }
        }
    }
}

/// The packets from `at` on that can leave as one message: to one address and of one size, but that the last
/// one may be smaller.
fn train(run: &[(u32, Packet)], at: usize, most: usize) -> Train {
    let mut train = Train { count: 0, size: 0 };
    let (mut to, mut bytes) = (None, 0);
    for (_, packet) in run.iter().skip(at).take(most) {
        let len = packet.len();
        if *to.get_or_insert(packet.to) != packet.to {
            break;
        }
        if train.count == 0 {
            train.size = len;
        }
        bytes += len;
        if len > train.size || len == 0 && train.count > 0 || bytes > TRAIN && train.count > 0 {
            break;
        }
        train.count += 1;
        if len < train.size {
            break;
        }
    }
    train
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "door: sockets of the tests")]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::*;

    fn socket() -> UdpSocket {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let patience = Some(Duration::from_secs(5));
        socket.set_read_timeout(patience).unwrap();
        socket
    }

    fn packet(from: Socket, to: &UdpSocket, bytes: Range<usize>, channel: Option<u16>) -> Packet {
        Packet {
            from,
            to: to.local_addr().unwrap(),
            head: channel.and_then(|channel| Head::channel(channel, bytes.len())),
            bytes,
        }
    }

    fn received(socket: &UdpSocket) -> Vec<u8> {
        let mut buffer = [0; 2_048];
        let len = socket.recv(&mut buffer).unwrap();
        buffer[..len].to_vec()
    }

    /// From a listener to two clients, and from a relayed socket to a peer, all mixed.
    fn mixed(batch: &mut Batch, one: &UdpSocket, two: &UdpSocket) {
        let (listener, relayed) = (Socket::Listener(0), Socket::Relayed(Slot(3)));
        for number in 0..8 {
            batch.push(packet(
                listener,
                one,
                number * 10..number * 10 + 10,
                Some(0x4000),
            ));
            batch.push(packet(relayed, two, number..number + 1, None));
            batch.push(packet(listener, two, 0..number, Some(0x4001)));
        }
    }

    #[test]
    fn trains_and_single_packets_arrive_whole_and_in_order() {
        let buffers: Vec<u8> = (0..100).collect();
        for gso in [true, false] {
            let (from, one, two) = (socket(), socket(), socket());
            let mut batch = Batch::new(gso);
            mixed(&mut batch, &one, &two);
            let left = batch.leave(&buffers, |_| Some(&from));
            assert_eq!(left.lost, 0);
            for number in 0..8_u8 {
                let data: Vec<u8> = (number * 10..number * 10 + 10).collect();
                assert_eq!(received(&one), [&[0x40, 0, 0, 10][..], &data].concat());
            }
            // a socket's own packets keep their order among themselves
            for number in 0..8_u8 {
                let data: Vec<u8> = (0..number).collect();
                assert_eq!(received(&two), [&[0x40, 1, 0, number][..], &data].concat());
            }
            for number in 0..8_u8 {
                assert_eq!(received(&two), [number]);
            }
            println!("gso {gso}: 24 packets in {} calls", left.calls);
            assert!(left.calls <= if gso { 14 } else { 2 });
        }
    }

    #[test]
    fn a_batch_allocates_nothing() {
        let buffers = vec![7; 1_000];
        let (from, one, two) = (socket(), socket(), socket());
        let mut batch = Batch::new(true);
        let counted = allocation_counter::measure(|| {
            for _ in 0..10 {
                mixed(&mut batch, &one, &two);
                batch.leave(&buffers, |_| Some(&from));
            }
        });
        assert_eq!(counted.count_total, 0);
    }

    #[test]
    fn a_train_ends_with_a_smaller_packet_another_address_or_a_full_message() {
        let (one, two) = (socket(), socket());
        let numbered =
            |packets: Vec<Packet>| -> Vec<(u32, Packet)> { (0..).zip(packets).collect() };
        let of = |to, len| packet(Socket::Listener(0), to, 0..len, None);
        let run = numbered(vec![
            of(&one, 9),
            of(&one, 9),
            of(&one, 5),
            of(&one, 5),
            of(&two, 5),
        ]);
        let lengths = |run: &[(u32, Packet)], most| {
            let (mut at, mut all) = (0, Vec::new());
            while at < run.len() {
                let train = train(run, at, most);
                all.push((train.count, train.size));
                at += train.count;
            }
            all
        };
        assert_eq!(lengths(&run, SEGMENTS), [(3, 9), (1, 5), (1, 5)]);
        assert_eq!(lengths(&run, 1).len(), 5);
        let full = numbered(vec![of(&one, 1_200); 100]);
        assert_eq!(lengths(&full, SEGMENTS), [(54, 1_200), (46, 1_200)]);
        let small = numbered(vec![of(&one, 10); 100]);
        assert_eq!(lengths(&small, SEGMENTS), [(64, 10), (36, 10)]);
        let empty = numbered(vec![of(&one, 0); 3]);
        assert_eq!(lengths(&empty, SEGMENTS).len(), 3);
    }
}
