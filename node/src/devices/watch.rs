//! DOOR: keeps a kind of device open as its [`Seat`] says: a thread looks about once a
//! second what is plugged in, opens, closes, and tells what the person should know.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use suora_protocol::fault::{Code, Fault};

use super::choice::{self, Wish};
use super::seat::{self, Input, Output, Said, Seat};
use super::{Backend, Kind, List, Named, Opened, State, Trouble, Why};
use crate::clock::Clock;
use crate::worker::{self, Post, Slot, Stop, Worker};

/// How often the thread looks whether a device was lost.
const LOOK: Duration = Duration::from_millis(200);
/// It lists what is there at the first of so many looks.
const LIST: u64 = 5;
/// A device that gave nothing for so many looks is broken: five seconds, as a sound server
/// may take two to wake up.
const QUIET: u32 = 25;

/// How long a device may take to close. A driver or a sound server may hang; then its thread
/// is left behind, and everybody else goes on.
const CLOSE: Duration = Duration::from_secs(1);

/// What a person should know of a device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Notice {
    /// Of which kind.
    pub kind: Kind,
    /// What.
    pub said: Said,
    /// Whether one of this kind is in use now.
    pub running: bool,
}

/// What is wished for by its whole name, and what the person should know before it is
/// opened. A name that nobody has, or more than one, is [`Code::BadConfig`].
pub fn find(
    kind: Kind,
    wish: &Wish,
    listed: &Result<List, Trouble>,
    found: &mut Vec<Notice>,
) -> Result<Wish, Fault> {
    let devices = listed.as_ref().map_or(&[][..], |list| list.of(kind));
    let (named, resolved) = match wish {
        Wish::Default => (devices.first(), Wish::Default),
        Wish::Name(text) => {
            let named = match (choice::choose(devices, text), listed) {
                (Ok(named), _) => named,
                (Err(reason), Ok(_)) => return Err(Fault::new(Code::BadConfig).with(reason)),
                (Err(_), Err(trouble)) => {
                    let detail = format!("“{text}”: {}", trouble.detail);
                    return Err(Fault::new(Code::BadConfig).with(detail));
                }
            };
            (Some(named), Wish::Name(named.name.clone()))
        }
    };
    let (state, detail) = match (named, listed) {
        (Some(_), _) => (State::Using, None),
        (None, Ok(_)) => (State::Missing, None),
        (None, Err(trouble)) => (seat::unlisted(trouble.why), Some(trouble.detail.clone())),
    };
    found.push(Notice {
        kind,
        running: named.is_some(),
        said: Said {
            state,
            name: named.map(|named| named.name.clone()),
            detail,
        },
    });
    Ok(resolved)
}

/// Where a device that was opened says that it is lost.
#[derive(Clone, Debug)]
pub struct Line {
    number: u64,
    current: Arc<AtomicU64>,
    alive: Arc<AtomicBool>,
    lost: Slot<Trouble>,
}

impl Line {
    /// The device gave something: whether it is still the one in use. What another gives is
    /// dropped.
    pub fn takes(&self) -> bool {
        let current = self.is_current();
        if current {
            self.alive.store(true, Ordering::Relaxed);
        }
        current
    }

    fn is_current(&self) -> bool {
        self.current.load(Ordering::Acquire) == self.number
    }

    /// The device gives nothing more.
    pub fn lost(&self, trouble: Trouble) {
        if self.is_current() {
            self.lost.put(trouble);
        }
    }
}

/// Opens a device of one kind, for as long as its line is current.
pub type Opener = Box<dyn FnMut(&Named, Line) -> Result<Opened, Trouble> + Send>;

/// Keeps a device of a kind open until it is dropped.
pub fn watch(
    kind: Kind,
    wish: Wish,
    backend: Arc<dyn Backend>,
    clock: Clock,
    notices: Post<Notice>,
    mut open: Opener,
) -> Result<Worker, Fault> {
    let name = match kind {
        Kind::Camera => "camera watch",
        Kind::Microphone => "mic watch",
        Kind::Speaker => "speaker watch",
    };
    Worker::start(name, move |stop| {
        let mut seat = Seat::new(wish);
        let current = Arc::new(AtomicU64::new(0));
        let alive = Arc::new(AtomicBool::new(false));
        let lost = Slot::default();
        let mut device: Option<Opened> = None;
        let mut quiet = 0;
        let mut lines = 0;
        for look in 0.. {
            if let Some(trouble) = lost.take() {
                seat.handle_input(clock.now().mono, Input::Lost(trouble));
            }
            quiet = match (&device, alive.swap(false, Ordering::Relaxed)) {
                (Some(_), false) => quiet + 1,
                _ => 0,
            };
            if quiet == QUIET {
                let trouble = Trouble::new(Why::Broken, "gives nothing");
                seat.handle_input(clock.now().mono, Input::Lost(trouble));
            }
            if look % LIST == 0 {
                let listed = backend.list().map(|list| list.of(kind).to_vec());
                seat.handle_input(clock.now().mono, Input::Listed(listed));
            }
            while let Some(output) = seat.poll_output() {
                match output {
                    Output::Open(named) => {
                        lines += 1;
                        // from its first moment on what it gives counts
                        let replaced = current.swap(lines, Ordering::AcqRel);
                        let line = Line {
                            number: lines,
                            current: current.clone(),
                            alive: alive.clone(),
                            lost: lost.clone(),
                        };
                        let answer = match open(&named, line) {
                            Ok(opened) => {
                                close(device.replace(opened), clock);
                                quiet = 0;
                                Input::Opened
                            }
                            Err(trouble) => {
                                current.store(replaced, Ordering::Release);
                                Input::Failed(trouble)
                            }
                        };
                        seat.handle_input(clock.now().mono, answer);
                    }
                    Output::Close => close(device.take(), clock),
                    Output::Say(said) => {
                        let notice = Notice {
                            kind,
                            said,
                            running: seat.running().is_some(),
                        };
                        // nobody blocks here: who stops the thread may be who reads
                        if let Err(notice) = notices.post(notice) {
                            tracing::warn!(?notice, "nobody reads what happens to devices");
                        }
                    }
                }
            }
            if stop.wait_until(clock.now().mono + LOOK) {
                break;
            }
        }
        close(device, clock);
    })
}

fn close(device: Option<Opened>, clock: Clock) {
    let Some(device) = device else { return };
    let closed = Stop::default();
    let told = closed.clone();
    let closing = worker::detach("device close", move || {
        drop(device);
        told.set();
    });
    if closing.is_err() || !closed.wait_until(clock.now().mono + CLOSE) {
        tracing::warn!("a device does not close");
    }
}
