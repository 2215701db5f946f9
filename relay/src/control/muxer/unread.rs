//! What waits on the streams of a connection of Yamux to be read, by the frames that came and what
//! was read of each stream. Pure.

use std::collections::BTreeMap;
use std::io;
use std::task::{Context, Waker};

use super::{FRAMES, STREAMS, UNREAD};

/// A frame's head: version, kind, flags, stream, length.
const HEAD: usize = 12;
/// The kinds that concern a stream.
const DATA: u8 = 0;
const WINDOW: u8 = 1;
/// The flag of a new stream.
const SYN: u16 = 1;

/// What waits on a stream.
#[derive(Debug, Default)]
struct Held {
    bytes: usize,
    /// Frames that came whole since there was nothing.
    frames: usize,
}

/// The count.
#[derive(Debug, Default)]
pub(super) struct Unread {
    head: Vec<u8>,
    /// The frame that comes: its stream, if there is one, and the bytes of it that came and are to come.
    stream: Option<u32>,
    came: usize,
    to_come: usize,
    streams: BTreeMap<u32, Held>,
    all: usize,
    frames: usize,
    waits: Option<Waker>,
}

fn refused(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

impl Unread {
    /// How many bytes may be read now; `None`: none, and this task is woken once that is over.
    pub(super) fn room(&mut self, cx: &Context<'_>) -> Option<usize> {
        if self.is_full() {
            self.waits = Some(cx.waker().clone());
            return None;
        }
        Some(UNREAD - self.all)
    }

    /// Whether nothing may be read now.
    pub(super) const fn is_full(&self) -> bool {
        // a frame that began has to end: nobody can read a part of it
        let too_many = self.frames >= FRAMES && self.to_come == 0;
        self.all >= UNREAD || too_many
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
                held.bytes += body.len();
                self.came = 0;
                if self.to_come == 0 {
                    held.frames += 1;
                    self.frames += 1;
                }
            }
            if self.to_come == 0 {
                // of a stream that is gone: nobody keeps it
                self.less(self.came, 0);
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
        let read = bytes.min(held.bytes);
        held.bytes -= read;
        let frames = match held.bytes {
            0 => std::mem::take(&mut held.frames),
            _ => 0,
        };
        self.less(read, frames);
    }

    /// A stream is gone, and with it what waited there.
    pub(super) fn gone(&mut self, stream: u32) {
        if let Some(held) = self.streams.remove(&stream) {
            self.less(held.bytes, held.frames);
        }
    }

    fn less(&mut self, bytes: usize, frames: usize) {
        self.all = self.all.saturating_sub(bytes);
        self.frames = self.frames.saturating_sub(frames);
        if !self.is_full()
            && let Some(waits) = self.waits.take()
        {
            waits.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Asks for room where there is none; how often this was woken since.
    fn wait(unread: &mut Unread) -> impl Fn() -> usize + use<> {
        let woken = Arc::new(Woken::default());
        let waker = woken.clone().into();
        assert_eq!(unread.room(&Context::from_waker(&waker)), None);
        move || woken.0.load(Ordering::Relaxed)
    }

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

    // covers: SUORA-SEC-271
    #[test]
    fn who_waits_for_room_is_woken_once_when_there_is_some() {
        let mut unread = Unread::default();
        unread.came(&data(SYN, 1, 50_000)).unwrap();
        unread.came(&data(SYN, 3, UNREAD - 50_000)).unwrap();
        let woken = wait(&mut unread);
        unread.read(3, 0);
        assert_eq!(woken(), 0);
        unread.read(3, 1);
        unread.read(3, 1);
        assert_eq!(woken(), 1);
        unread.came(&data(0, 1, 2)).unwrap();
        let woken = wait(&mut unread);
        unread.gone(1);
        unread.gone(3);
        assert_eq!(woken(), 1);
        // and where there are too many frames
        unread.came(&data(SYN, 5, 1)).unwrap();
        for _ in 1..FRAMES {
            unread.came(&data(SYN, 7, 1)).unwrap();
        }
        let woken = wait(&mut unread);
        unread.read(5, 1);
        assert_eq!(woken(), 1);
        unread.came(&data(0, 5, 1)).unwrap();
        let woken = wait(&mut unread);
        unread.gone(7);
        assert_eq!(woken(), 1);
    }

    // covers: SUORA-SEC-271
    #[test]
    fn short_frames_wait_in_small_number_but_each_that_began_ends() {
        let mut unread = Unread::default();
        unread.came(&data(SYN, 1, 1)).unwrap();
        // those without bytes take no room
        for _ in 0..2 * FRAMES {
            unread.came(&data(0, 1, 0)).unwrap();
        }
        for _ in 2..FRAMES {
            unread.came(&data(0, 1, 1)).unwrap();
        }
        assert_eq!(room(&mut unread), UNREAD - (FRAMES - 1));
        let last = data(SYN, 3, 100);
        unread.came(&last[..50]).unwrap();
        unread.came(&data(SYN, 3, 100)[50..]).unwrap();
        assert_eq!(room(&mut unread), 0);
        // a stream counts until all that waits there was read
        unread.read(1, FRAMES - 2);
        assert_eq!(room(&mut unread), 0);
        unread.read(1, 1);
        assert_eq!(room(&mut unread), UNREAD - 100);
        // in the middle of a frame it is read on
        for _ in 1..FRAMES {
            unread.came(&data(0, 1, 1)).unwrap();
        }
        assert_eq!(room(&mut unread), 0);
        unread.came(&last[..50]).unwrap();
        assert!(room(&mut unread) > 50);
        unread.came(&last[50..]).unwrap();
        assert_eq!(room(&mut unread), 0);
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
