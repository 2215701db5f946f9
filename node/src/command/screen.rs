//! What a person at a terminal sees: events as lines, and under them one live status line.

use std::io::{IsTerminal, Write};

use suora_protocol::fault::Code;
use suora_protocol::wire::officer::Status as OfficerStatus;
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::intent::Intent;
use crate::report::Peer;
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
            View::Link { up: true, .. } => texts.get("progress-link"),
            View::Link { up: false, code } => {
                texts.sentence(code.unwrap_or(Code::RelayUnreachable))
            }
            View::Queue { position } => {
                let number = (position + 1).to_string();
                texts.with("progress-waiting", &[("number", &number)])
            }
            View::Attending { waiting } => {
                texts.with("progress-attending", &[("waiting", &waiting.to_string())])
            }
            View::Offer { waited } => {
                texts.with("progress-offer", &[("seconds", &waited.to_string())])
            }
            View::Session { stage, peer, .. } => self.stage(*stage, peer.as_ref())?,
            View::Chat { from, text } => {
                let text = printable(text);
                if *from == "me" {
                    texts.with("progress-chat-me", &[("text", &text)])
                } else {
                    texts.with(
                        "progress-chat-peer",
                        &[("name", &self.peer), ("text", &text)],
                    )
                }
            }
            View::PeerMedia { audio, video } => texts.get(match (audio, video) {
                (true, true) => "progress-media-both",
                (true, false) => "progress-media-voice",
                (false, true) => "progress-media-picture",
                (false, false) => "progress-media-none",
            }),
            View::Fault { code, detail } => {
                let mut line = texts.sentence(*code);
                if let Some(detail) = detail {
                    line += &format!(" ({})", printable(detail));
                }
                format!("{line} [{code}]\n{}", texts.next(*code))
            }
            View::Report { .. } => texts.get("progress-over"),
            View::Stats(_) => return None,
        })
    }

    fn stage(&mut self, stage: Stage, peer: Option<&Peer>) -> Option<String> {
        let texts = self.texts;
        match stage {
            Stage::Idle => None,
            Stage::Connecting => Some(texts.get("progress-connecting")),
            Stage::Warm => {
                let name = peer.and_then(|peer| peer.verified_as.as_deref());
                self.peer = name.map_or_else(|| texts.get("progress-other-end"), printable);
                let shown = match name {
                    Some(name) => texts.with("peer-verified", &[("name", &printable(name))]),
                    None => texts.get("peer-unidentified"),
                };
                let id = if self.officer {
                    "progress-warm-officer"
                } else {
                    "progress-warm-citizen"
                };
                Some(texts.with(id, &[("peer", &shown)]))
            }
            Stage::Accepted => Some(texts.get(if self.officer {
                "progress-accepted-officer"
            } else {
                "progress-accepted-citizen"
            })),
        }
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
