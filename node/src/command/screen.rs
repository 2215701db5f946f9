//! What a person at a terminal sees: events as lines, and under them one live status line.

use std::io::{IsTerminal, Write};

use suora_protocol::wire::officer::Status as OfficerStatus;
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::intent::Intent;
use crate::status::Status;
use crate::status::progress::Progress;
use crate::text::Texts;
use crate::view::View;
use crate::worker::Post;

/// A terminal, or a plain stream of lines where standard error is none.
pub struct Screen<'a> {
    texts: &'a Texts,
    status: Status,
    progress: Progress,
    live: bool,
    drawn: bool,
}

impl<'a> Screen<'a> {
    /// The screen of a citizen or an officer.
    pub fn new(texts: &'a Texts, role: &str) -> Self {
        let officer = role == "officer";
        Self {
            texts,
            status: Status::new(officer),
            progress: Progress::new(officer),
            live: std::io::stderr().is_terminal(),
            drawn: false,
        }
    }

    /// Shows a view.
    pub fn show(&mut self, view: &View) {
        self.status.take(view);
        if let Some(line) = self.progress.take(view, self.texts) {
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
}
