//! What waits on the streams of a connection of Yamux to be read, by the frames that came and what
//! was read of each stream. Pure.

use std::collections::BTreeMap;
use std::io;
use std::task::{Context, Waker};

use super::{STREAMS, UNREAD};

/// A frame's head: version, kind, flags, stream, length.
const HEAD: usize = 12;
/// The kinds that concern a stream.
const DATA: u8 = 0;
const WINDOW: u8 = 1;
/// The flag of a new stream.
const SYN: u16 = 1;

/// The count.
#[derive(Debug, Default)]
pub(super) struct Unread {
    head: Vec<u8>,
    /// The frame that comes: its stream, if there is one, and the bytes of it that came and are to come.
    stream: Option<u32>,
    came: usize,
    to_come: usize,
    streams: BTreeMap<u32, usize>,
    all: usize,
    waits: Option<Waker>,
}

fn refused(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

impl Unread {
    /// How many bytes may be read now; `None`: none, and this task is woken once that is over.
    pub(super) fn room(&mut self, cx: &Context<'_>) -> Option<usize> {
        if self.all < UNREAD {
            return Some(UNREAD - self.all);
        }
        self.waits = Some(cx.waker().clone());
        None
    }

    /// Bytes came.
    pub(super) fn came(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            if self.to_come == 0 {
                let missing = HEAD.saturating_sub(self.head.len());
                let (head, rest) = bytes.split_at(missing.min(bytes.len()));
                self.head.extend_from_slice(head);
                bytes = rest;
                if self.head.len() == HEAD {
                    self.begins()?;
                }
                continue;
            }
            let (body, rest) = bytes.split_at(self.to_come.min(bytes.len()));
            bytes = rest;
            self.to_come -= body.len();
            self.came += body.len();
            self.all += body.len();
            let held = self.stream.and_then(|stream| self.streams.get_mut(&stream));
            if let Some(held) = held {
                *held += body.len();
                self.came = 0;
            }
            if self.to_come == 0 {
                // of a stream that is gone: nobody keeps it
                self.less(self.came);
                self.came = 0;
            }
        }
        Ok(())
    }

    /// A head is whole.
    fn begins(&mut self) -> io::Result<()> {
        let head = std::mem::take(&mut self.head);
        let [_, kind, f0, f1, s0, s1, s2, s3, l0, l1, l2, l3] = *head.as_slice() else {
            return Ok(());
        };
        let flags = u16::from_be_bytes([f0, f1]);
        let stream = u32::from_be_bytes([s0, s1, s2, s3]);
        let length = u32::from_be_bytes([l0, l1, l2, l3]);
        if (kind == DATA || kind == WINDOW) && flags & SYN != 0 {
            self.opened(stream)?;
        }
        if kind == DATA {
            self.to_come = usize::try_from(length).unwrap_or(usize::MAX);
            if self.to_come > UNREAD {
                return Err(refused("a frame that is too long"));
            }
            self.stream = self.streams.contains_key(&stream).then_some(stream);
        }
        Ok(())
    }

    /// There is a new stream.
    pub(super) fn opened(&mut self, stream: u32) -> io::Result<()> {
        if self.streams.len() >= STREAMS {
            return Err(refused("too many streams"));
        }
        self.streams.entry(stream).or_default();
        Ok(())
    }

    /// So much of a stream was read.
    pub(super) fn read(&mut self, stream: u32, bytes: usize) {
        let Some(held) = self.streams.get_mut(&stream) else {
            return;
        };
        let read = bytes.min(*held);
        *held -= read;
        self.less(read);
    }

    /// A stream is gone, and with it what waited there.
    pub(super) fn gone(&mut self, stream: u32) {
        if let Some(held) = self.streams.remove(&stream) {
            self.less(held);
        }
    }

    fn less(&mut self, bytes: usize) {
        self.all = self.all.saturating_sub(bytes);
        if self.all < UNREAD
            && let Some(waits) = self.waits.take()
        {
            waits.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u16, stream: u32, length: u32) -> Vec<u8> {
        let mut frame = vec![0, kind];
        frame.extend(flags.to_be_bytes());
        frame.extend(stream.to_be_bytes());
        frame.extend(length.to_be_bytes());
        frame
    }

    fn data(flags: u16, stream: u32, length: usize) -> Vec<u8> {
        let mut frame = frame(DATA, flags, stream, u32::try_from(length).unwrap());
        frame.resize(frame.len() + length, 7);
        frame
    }

    fn room(unread: &mut Unread) -> usize {
        let cx = Context::from_waker(Waker::noop());
        unread.room(&cx).unwrap_or(0)
    }

    #[test]
    fn bytes_count_until_they_are_read_however_they_are_cut() {
        let all = [
            data(SYN, 1, 1_000),
            frame(WINDOW, SYN, 3, 0),
            frame(2, 0, 0, 77),
            data(0, 3, 50),
            data(0, 1, 200),
        ]
        .concat();
        for piece in [1, 5, 12, 13, 1_012, all.len()] {
            let mut unread = Unread::default();
            for bytes in all.chunks(piece) {
                unread.came(bytes).unwrap();
            }
            assert_eq!(room(&mut unread), UNREAD - 1_250, "{piece}");
            unread.read(1, 900);
            unread.read(3, 50);
            assert_eq!(room(&mut unread), UNREAD - 300, "{piece}");
            unread.gone(1);
            assert_eq!(room(&mut unread), UNREAD, "{piece}");
        }
    }

    // covers: SUORA-SEC-271
    #[test]
    fn a_full_connection_is_read_again_once_a_stream_was_read_or_is_gone() {
        let mut unread = Unread::default();
        unread.came(&data(SYN, 1, 50_000)).unwrap();
        unread.came(&data(SYN, 3, UNREAD - 50_000)).unwrap();
        assert_eq!(room(&mut unread), 0);
        unread.read(3, 10);
        assert_eq!(room(&mut unread), 10);
        unread.gone(1);
        assert_eq!(room(&mut unread), 50_010);
    }

    #[test]
    fn what_comes_for_a_stream_that_is_gone_is_kept_by_nobody() {
        let mut unread = Unread::default();
        unread.came(&data(SYN, 1, 10)).unwrap();
        unread.gone(1);
        let late = data(0, 1, 5_000);
        unread.came(&late[..2_012]).unwrap();
        assert_eq!(room(&mut unread), UNREAD - 2_000);
        unread.came(&late[2_012..]).unwrap();
        assert_eq!(room(&mut unread), UNREAD);
        // one that goes in the middle of its frame
        unread.came(&data(SYN, 5, 5_000)[..2_012]).unwrap();
        unread.gone(5);
        unread.came(&late[12..3_012]).unwrap();
        assert_eq!(room(&mut unread), UNREAD);
    }

    // covers: SUORA-SEC-271
    #[test]
    fn long_frames_and_too_many_streams_end_the_connection() {
        let mut unread = Unread::default();
        let most = u32::try_from(UNREAD).unwrap();
        assert!(unread.came(&frame(DATA, SYN, 1, most)).is_ok());
        let mut unread = Unread::default();
        assert!(unread.came(&frame(DATA, SYN, 1, most + 1)).is_err());
        let mut unread = Unread::default();
        let streams = 1..=u32::try_from(STREAMS).unwrap();
        for stream in streams.map(|number| 2 * number + 1) {
            unread.came(&frame(WINDOW, SYN, stream, 0)).unwrap();
        }
        assert!(unread.came(&frame(WINDOW, SYN, 99, 0)).is_err());
    }
}
