//! DOOR: where decoded pictures and sound go: nowhere (they are counted only), to the
//! loudspeaker, or into a recording, which a thread of its own writes.

pub mod record;
pub mod sheet;
pub mod speaker;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use suora_protocol::fault::{Code, Fault};
use suora_protocol::media::EncodedFrame;
use suora_protocol::media::jitter::Ledger;
use suora_protocol::time::Timestamp;

use crate::Faults;
use crate::worker::{Mailbox, Post, Stop, Worker, mailbox};
use record::Writer;

/// Pictures and blocks of sound that wait for the disk: six seconds.
const WAITING: usize = 512;

/// What happened at the sink.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// A picture was decoded and handed over.
    Shown {
        /// Its capture time, by the sender's clock.
        captured: Timestamp,
        /// When it was handed over.
        at: Timestamp,
        /// Pixels.
        width: u32,
        /// Pixels.
        height: u32,
        /// False: decoded only, a later one was due as well.
        show: bool,
    },
    /// The decoder cannot go on without a keyframe.
    Undecodable,
    /// 20 ms of sound were handed over.
    Played {
        /// When its first sample was captured, by the sender's clock; `None` where nothing comes.
        captured: Option<Timestamp>,
        /// When it is played.
        at: Timestamp,
        /// Whose sound it is.
        kind: SoundKind,
        /// What became of the time so far.
        ledger: Ledger,
    },
    /// The sink broke; said once.
    Failed(Fault),
}

/// Where 20 ms of sound came from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SoundKind {
    /// A packet.
    Packet,
    /// Rebuilt from the redundancy of the next packet.
    Rebuilt,
    /// Made up.
    Concealed,
    /// A pause: comfort noise.
    Quiet,
    /// Nothing came yet.
    Silence,
}

/// Where decoded pictures and sound go.
#[derive(Clone, Debug, Default)]
pub struct Sink {
    recording: Option<Arc<Recording>>,
    speaker: Option<speaker::Out>,
}

#[derive(Debug)]
struct Recording {
    post: Post<Item>,
    state: Arc<Mutex<State>>,
    faults: Faults,
    pictures: AtomicU64,
    sounds: AtomicU64,
    heard: AtomicBool,
}

#[derive(Debug)]
enum Item {
    Picture {
        frame: EncodedFrame,
        at: Timestamp,
        show: bool,
    },
    Sound {
        samples: Vec<i16>,
        at: Timestamp,
    },
    /// Look whether to end.
    Wake,
}

#[derive(Debug, Default)]
struct State {
    failed: Option<Fault>,
    told: bool,
    done: Option<PathBuf>,
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sink {
    /// Counts only.
    pub fn none() -> Self {
        Self::default()
    }

    /// The same, and sound goes to a loudspeaker as well.
    #[must_use]
    pub fn with_speaker(mut self, speaker: speaker::Out) -> Self {
        self.speaker = Some(speaker);
        self
    }

    /// How long sound that is handed over now takes until it is heard.
    pub fn delay(&self) -> Duration {
        self.speaker
            .as_ref()
            .map_or(Duration::ZERO, speaker::Out::delay)
    }

    /// Records into an MP4 file: it is `file` with `.part` behind its name until
    /// [`Recorder::finish`]. A place that cannot be written is [`Code::BadFile`] at once.
    pub fn record(file: PathBuf, faults: Faults) -> Result<(Self, Recorder), Fault> {
        let writer = Writer::create(file)?;
        let (post, items) = mailbox(WAITING);
        let state = Arc::new(Mutex::new(State::default()));
        let shared = state.clone();
        let worker = Worker::start("recorder", move |stop| {
            write(&stop, items, writer, &shared);
        })?;
        let recording = Recording {
            post: post.clone(),
            state: state.clone(),
            faults,
            pictures: AtomicU64::new(0),
            sounds: AtomicU64::new(0),
            heard: AtomicBool::new(false),
        };
        let recorder = Recorder {
            post,
            state,
            worker: Some(worker),
        };
        let sink = Self {
            recording: Some(Arc::new(recording)),
            speaker: None,
        };
        Ok((sink, recorder))
    }

    /// Takes a picture that was decoded at `at`. An error is said once; nothing is recorded after it.
    pub fn picture(&self, frame: EncodedFrame, at: Timestamp, show: bool) -> Result<(), Fault> {
        let Some(recording) = &self.recording else {
            return Ok(());
        };
        let number = recording.pictures.fetch_add(1, Ordering::Relaxed) + 1;
        if let Some(every) = recording.faults.drop_every
            && number.is_multiple_of(u64::from(every))
        {
            return Ok(());
        }
        recording.put(Item::Picture { frame, at, show })
    }

    /// Takes 20 ms of sound that are heard at `at`, which counts [`Self::delay`]. Silence
    /// before the first packet is not recorded.
    pub fn sound(&self, samples: Vec<i16>, at: Timestamp, kind: SoundKind) -> Result<(), Fault> {
        if let Some(speaker) = &self.speaker {
            speaker.play(&samples);
        }
        let Some(recording) = &self.recording else {
            return Ok(());
        };
        if kind == SoundKind::Packet {
            recording.heard.store(true, Ordering::Relaxed);
        } else if !recording.heard.load(Ordering::Relaxed) {
            return Ok(());
        }
        let number = recording.sounds.fetch_add(1, Ordering::Relaxed) + 1;
        let silent = |every: u32| number.is_multiple_of(u64::from(every));
        let samples = match recording.faults.silence_every {
            Some(every) if silent(every) => vec![0; samples.len()],
            _ => samples,
        };
        recording.put(Item::Sound {
            samples,
            at: at + recording.faults.shift_sound,
        })
    }
}

impl Recording {
    fn put(&self, item: Item) -> Result<(), Fault> {
        let mut state = lock(&self.state);
        if state.failed.is_none() && self.post.post(item).is_err() && !self.post.is_closed() {
            state.failed =
                Some(Fault::new(Code::BadFile).with("the recording's disk does not keep up"));
        }
        match &state.failed {
            Some(fault) if !state.told => {
                let fault = fault.clone();
                state.told = true;
                Err(fault)
            }
            _ => Ok(()),
        }
    }
}

/// The writer behind a recording sink. Dropped without [`Self::finish`], it finishes too,
/// and only the log says what went wrong.
#[derive(Debug)]
pub struct Recorder {
    post: Post<Item>,
    state: Arc<Mutex<State>>,
    worker: Option<Worker>,
}

impl Recorder {
    /// Waits for what is still to be written, writes the index and gives the file its
    /// name; `None` when nothing came. Blocks for as long as the disk needs.
    pub fn finish(mut self) -> Result<Option<PathBuf>, Fault> {
        self.end();
        let mut state = lock(&self.state);
        match state.failed.take() {
            Some(fault) => Err(fault),
            None => Ok(state.done.take()),
        }
    }

    fn end(&mut self) {
        if let Some(worker) = self.worker.take() {
            worker.stop();
            // a full mailbox wakes the thread as well
            let _ = self.post.post(Item::Wake);
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.end();
        if let Some(fault) = &lock(&self.state).failed {
            tracing::warn!(%fault, "the recording is not whole");
        }
    }
}

fn write(stop: &Stop, mut items: Mailbox<Item>, mut writer: Writer, state: &Mutex<State>) {
    loop {
        let item = if stop.is_set() {
            items.take()
        } else {
            items.wait()
        };
        let written = match item {
            None => break,
            Some(Item::Wake) => Ok(()),
            _ if lock(state).failed.is_some() => Ok(()),
            Some(Item::Picture { frame, at, show }) => writer.picture(&frame, at, show),
            Some(Item::Sound { samples, at }) => writer.sound(&samples, at),
        };
        if let Err(fault) = written {
            lock(state).failed.get_or_insert(fault);
        }
    }
    if lock(state).failed.is_none() {
        match writer.finish() {
            Ok(done) => lock(state).done = done,
            Err(fault) => lock(state).failed = Some(fault),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_cannot_be_written_is_found_at_once() {
        let fault = Sink::record("/proc/no/such.mp4".into(), Faults::default()).unwrap_err();
        assert_eq!(fault.code, Code::BadFile);
    }

    #[test]
    fn nothing_came_nothing_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let (sink, recorder) = Sink::record(dir.path().join("a.mp4"), Faults::default()).unwrap();
        sink.sound(vec![0; 960], Timestamp::from_millis(0), SoundKind::Silence)
            .unwrap();
        assert_eq!(recorder.finish(), Ok(None));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_full_disk_is_said_once_and_again_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.mp4");
        std::os::unix::fs::symlink("/dev/full", dir.path().join("a.mp4.part")).unwrap();
        let (sink, recorder) = Sink::record(file, Faults::default()).unwrap();
        let mut said = 0;
        for n in 0..4_000 {
            let at = Timestamp::from_millis(20 * n);
            let samples = (0..960).map(|at| (at * n % 20_000) as i16).collect();
            said += usize::from(sink.sound(samples, at, SoundKind::Packet).is_err());
        }
        let fault = recorder.finish().unwrap_err();
        assert_eq!(fault.code, Code::BadFile);
        assert!(said <= 1);
    }
}
