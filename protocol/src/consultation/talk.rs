//! What both ends of a session do alike: chat, mute, the clock, and goodbye.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;
use serde::Serialize;

use super::clock::{Offset, Sync};
use super::{Output, Phase, violation};
use crate::fault::{Code, Fault};
use crate::limits;
use crate::time::{Now, Timestamp};
use crate::wire;
use crate::wire::guest::{Bye, Chat, Clock, ClockAnswer, FromHost, Media, Quality, ToHost};
use crate::wire::path::Path;

/// The messages that both ends know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Line {
    /// A line of text.
    Chat(Chat),
    /// What the sender sends.
    Media(Media),
    /// A question of the clock.
    Clock(Clock),
    /// Its answer.
    ClockAnswer(ClockAnswer),
    /// How the sender sees and hears the other end.
    Quality(Quality),
    /// Where the sender may be reached.
    Path(Path),
    /// Goodbye.
    Bye(Bye),
}

impl From<Line> for ToHost {
    fn from(line: Line) -> Self {
        match line {
            Line::Chat(line) => Self::Chat(line),
            Line::Media(line) => Self::Media(line),
            Line::Clock(line) => Self::Clock(line),
            Line::ClockAnswer(line) => Self::ClockAnswer(line),
            Line::Quality(line) => Self::Quality(line),
            Line::Path(line) => Self::Path(line),
            Line::Bye(line) => Self::Bye(line),
        }
    }
}

impl From<Line> for FromHost {
    fn from(line: Line) -> Self {
        match line {
            Line::Chat(line) => Self::Chat(line),
            Line::Media(line) => Self::Media(line),
            Line::Clock(line) => Self::Clock(line),
            Line::ClockAnswer(line) => Self::ClockAnswer(line),
            Line::Quality(line) => Self::Quality(line),
            Line::Path(line) => Self::Path(line),
            Line::Bye(line) => Self::Bye(line),
        }
    }
}

/// One end of a session, once a direction for its messages is chosen.
#[derive(Debug)]
pub struct Talk {
    /// Where the session stands.
    pub phase: Phase,
    to_host: bool,
    sync: Sync,
    chats: u64,
    heard: u64,
    media: Media,
    /// What was said last of quality, and when.
    quality: Option<(Quality, Instant)>,
    out: VecDeque<Output>,
}

impl Talk {
    /// The guest's end says [`ToHost`], the host's [`FromHost`].
    pub fn new(to_host: bool) -> Self {
        Self {
            phase: Phase::Proving,
            to_host,
            sync: Sync::default(),
            chats: 0,
            heard: 0,
            media: Media {
                audio: true,
                video: true,
            },
            quality: None,
            out: VecDeque::new(),
        }
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    pub(super) fn push(&mut self, output: Output) {
        self.out.push_back(output);
    }

    pub(super) fn send<M: Serialize>(&mut self, message: &M) -> Result<(), Fault> {
        let bytes: Bytes = wire::encode(message)?;
        self.out.push_back(Output::Send(bytes));
        Ok(())
    }

    fn line(&mut self, line: Line) -> Result<(), Fault> {
        if self.to_host {
            self.send(&ToHost::from(line))
        } else {
            self.send(&FromHost::from(line))
        }
    }

    fn proven(&self) -> bool {
        matches!(self.phase, Phase::Warm | Phase::Accepted)
    }

    /// Writes a line. Before both ends are proven nothing private is sent.
    pub fn chat(&mut self, now: Now, text: String) -> Result<(), Fault> {
        if !self.proven() {
            return Err(Fault::new(Code::ProtocolViolation).with("nobody is there yet"));
        }
        if text.is_empty() || text.len() > limits::CHAT_MAX {
            return Err(Fault::new(Code::TooLarge)
                .with(format!("a line is 1 to {} bytes", limits::CHAT_MAX)));
        }
        self.chats += 1;
        self.line(Line::Chat(Chat {
            id: self.chats,
            text,
            at: now.utc,
        }))
    }

    /// Tells the other end what this one sends, once both ends are proven.
    pub fn media(&mut self, media: Media) -> Result<(), Fault> {
        if self.proven() && self.media != media {
            self.media = media;
            return self.line(Line::Media(media));
        }
        Ok(())
    }

    /// Tells the other end how this one sees and hears it, where that is new, at most once in
    /// [`limits::QUALITY_INTERVAL`]: call it again with what is true then.
    pub fn quality(&mut self, now: Now, quality: Quality) -> Result<(), Fault> {
        let waits = |(last, at): (Quality, Instant)| {
            last == quality || now.mono.saturating_duration_since(at) < limits::QUALITY_INTERVAL
        };
        if self.phase != Phase::Accepted || self.quality.is_some_and(waits) {
            return Ok(());
        }
        self.quality = Some((quality, now.mono));
        self.line(Line::Quality(quality))
    }

    /// Tells the other end where this one may be reached, once both ends are proven.
    pub fn path(&mut self, path: Path) -> Result<(), Fault> {
        if self.proven() {
            return self.line(Line::Path(path));
        }
        Ok(())
    }

    /// Says goodbye and closes.
    pub fn bye(&mut self, code: Code) {
        if self.phase == Phase::Ended {
            return;
        }
        if self.proven() {
            // encoding a code cannot fail
            let _ = self.line(Line::Bye(Bye { code }));
        }
        self.end(Fault::new(code));
    }

    /// Closes.
    pub fn end(&mut self, fault: Fault) {
        if self.phase != Phase::Ended {
            self.phase = Phase::Ended;
            self.out.push_back(Output::Close(fault));
        }
    }

    /// Time passed: ask for the other end's clock.
    pub fn tick(&mut self, now: Now) -> Result<(), Fault> {
        if self.proven()
            && let Some(clock) = self.sync.ask(now)
        {
            self.line(Line::Clock(clock))?;
        }
        Ok(())
    }

    /// The other end's clock, as well as it is known now.
    pub fn clock(&self, now: Instant) -> Option<Offset> {
        self.sync.offset(now)
    }

    /// A message that both ends know came at `at`.
    pub fn heard(&mut self, now: Now, line: Line, at: Timestamp) -> Result<(), Fault> {
        if !self.proven() {
            return Err(violation("a message before the proof"));
        }
        match line {
            Line::Chat(chat) => {
                if chat.text.is_empty() || chat.text.len() > limits::CHAT_MAX {
                    return Err(Fault::new(Code::TooLarge).with("chat"));
                }
                if chat.id <= self.heard {
                    return Err(violation("chat lines count upward"));
                }
                self.heard = chat.id;
                self.out.push_back(Output::Chat(chat.text));
            }
            Line::Media(media) => self.out.push_back(Output::Media(media)),
            Line::Clock(clock) => self.line(Line::ClockAnswer(ClockAnswer {
                id: clock.id,
                t1: clock.t1,
                t2: at,
                t3: now.utc,
            }))?,
            Line::ClockAnswer(answer) => {
                if let Some(offset) = self.sync.answer(now.mono, answer, at) {
                    self.out.push_back(Output::Clock(offset));
                }
                self.tick(now)?;
            }
            Line::Quality(quality) => self.out.push_back(Output::Quality(quality)),
            Line::Path(path) => {
                path.check()?;
                self.out.push_back(Output::Path(path));
            }
            Line::Bye(bye) => self.end(Fault::new(bye.code)),
        }
        Ok(())
    }
}
