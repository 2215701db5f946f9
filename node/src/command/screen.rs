//! What a person at a terminal sees: events as lines, and under them one live status line.

use std::io::{IsTerminal, Write};

use suora_protocol::wire::officer::Status as OfficerStatus;
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::intent::Intent;
use crate::report::Outcome;
use crate::status::Status;
use crate::text::Texts;
use crate::view::{Stage, View};
use crate::worker::Post;

/// A terminal, or a plain stream of lines where standard error is none.
pub struct Screen<'a> {
    texts: &'a Texts,
    status: Status,
    officer: bool,
    live: bool,
    peer: String,
    drawn: bool,
}

impl<'a> Screen<'a> {
    /// The screen of a citizen or an officer.
    pub fn new(texts: &'a Texts, role: &str) -> Self {
        let officer = role == "officer";
        Self {
            texts,
            status: Status::new(officer),
            officer,
            live: std::io::stderr().is_terminal(),
            peer: String::new(),
            drawn: false,
        }
    }

    /// Shows a view.
    pub fn show(&mut self, view: &View) {
        self.status.take(view);
        if let Some(line) = self.event(view) {
            self.clear();
            eprintln!("{line}");
        }
        if self.live {
            self.clear();
            eprint!("{}", self.status.line(self.texts));
            let _ = std::io::stderr().flush();
            self.drawn = true;
        }
    }

    /// Nothing more is shown.
    pub fn end(&mut self) {
        self.clear();
    }

    fn clear(&mut self) {
        if std::mem::take(&mut self.drawn) {
            eprint!("\r\x1b[2K");
        }
    }

    /// The line of a view that a person should not miss.
    fn event(&mut self, view: &View) -> Option<String> {
        let texts = self.texts;
        Some(match view {
            View::Offer { waited } => {
                texts.with("event-offer", &[("seconds", &waited.to_string())])
            }
            View::Session {
                stage: Stage::Warm,
                peer: Some(peer),
                ..
            } => {
                self.peer = match &peer.verified_as {
                    Some(name) => name.clone(),
                    None => texts.get("peer-citizen"),
                };
                let id = if self.officer {
                    "event-warm-officer"
                } else {
                    "event-warm-citizen"
                };
                texts.with(id, &[("name", &self.peer)])
            }
            View::Session {
                stage: Stage::Accepted,
                ..
            } => texts.get("event-accepted"),
            View::Chat { from, text } => {
                let who = if *from == "me" {
                    texts.get("chat-me")
                } else {
                    self.peer.clone()
                };
                format!("{who}: {}", printable(text))
            }
            View::Fault { code, detail } => {
                let mut line = texts.sentence(*code);
                if let Some(detail) = detail {
                    line += &format!(" ({})", printable(detail));
                }
                format!("{line} [{code}]\n{}", texts.next(*code))
            }
            View::Report { report } if report.outcome == Outcome::Completed => {
                texts.get("event-completed")
            }
            _ => return None,
        })
    }
}

/// Another's text cannot move the cursor or colour the screen.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// Reads what a person types, when standard input is a terminal: a line is chat, a word
/// after a slash is an intent.
pub fn read_terminal(intents: Post<Intent>) {
    if !std::io::stdin().is_terminal() {
        return;
    }
    tokio::spawn(async move {
        let mut lines = BufReader::new(tokio::io::stdin()).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            if let Some(intent) = typed(&line)
                && !intents.send(intent).await
            {
                return;
            }
        }
    });
}

/// What a typed line means.
fn typed(line: &str) -> Option<Intent> {
    Some(match line.trim() {
        "" => return None,
        "/join" => Intent::Join,
        "/leave" => Intent::Leave,
        "/accept" => Intent::Accept,
        "/decline" => Intent::Decline,
        "/busy" => Intent::Status {
            status: OfficerStatus::Busy,
        },
        "/available" => Intent::Status {
            status: OfficerStatus::Available,
        },
        "/mute" => Intent::Mute { on: true },
        "/unmute" => Intent::Mute { on: false },
        "/camera off" => Intent::Camera { on: false },
        "/camera on" => Intent::Camera { on: true },
        "/bye" => Intent::HangUp,
        "/quit" => Intent::Quit,
        text => Intent::Chat { text: text.into() },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_chat_and_a_slash_is_an_intent() {
        assert_eq!(typed("  "), None);
        assert_eq!(typed("/accept"), Some(Intent::Accept));
        assert_eq!(
            typed("see page 3"),
            Some(Intent::Chat {
                text: "see page 3".into()
            })
        );
    }

    #[test]
    fn the_other_ends_text_is_only_text() {
        assert_eq!(printable("a\x1b[2Jb\n"), "a [2Jb ");
    }
}
