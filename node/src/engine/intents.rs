//! What the person at this node asks, as far as it can be done now.

use suora_protocol::consultation::Phase;
use suora_protocol::fault::{Code, Fault};
use suora_protocol::time::Now;
use suora_protocol::wire::guest::Media;
use suora_protocol::wire::officer::Status;

use super::ports::{Output, SessionCommand};
use super::{Engine, Side};
use crate::intent::Intent;
use crate::view::View;

impl Engine {
    pub(super) fn intent(&mut self, now: Now, intent: Intent) -> Result<(), Fault> {
        match intent {
            Intent::Join => {
                self.begin(now);
                Ok(())
            }
            Intent::Leave | Intent::Quit if self.session.is_none() => {
                self.leave(now);
                Ok(())
            }
            Intent::HangUp | Intent::Leave | Intent::Quit => {
                if intent == Intent::Quit {
                    self.stop_serving();
                }
                self.hang_up(&intent);
                Ok(())
            }
            Intent::Accept => self.accept(now),
            Intent::Decline => {
                self.decline(Code::Declined);
                Ok(())
            }
            Intent::Status { status } => {
                self.set_status(status);
                Ok(())
            }
            Intent::Chat { text } => {
                let session = self.session.as_mut().ok_or_else(|| {
                    Fault::new(Code::ProtocolViolation).with("nobody is there yet")
                })?;
                session.talk().chat(now, text.clone())?;
                session.facts.chat.sent += 1;
                self.out
                    .push_back(Output::View(View::Chat { from: "me", text }));
                Ok(())
            }
            Intent::Mute { on } => self.set_media(Media {
                audio: !on,
                ..self.media
            }),
            Intent::Camera { on } => self.set_media(Media {
                video: on,
                ..self.media
            }),
        }
    }

    /// The person ends the session. Before the accept this gives a ticket up only at its owner's end.
    fn hang_up(&mut self, intent: &Intent) {
        let Some(session) = &mut self.session else {
            return;
        };
        if session.phase() == Phase::Accepted {
            session.talk().bye(Code::Ended);
            return;
        }
        if let Side::Officer(_) = self.side
            && *intent != Intent::Quit
        {
            self.decline(Code::Declined);
            return;
        }
        if let Side::Citizen(contact) = &mut self.side {
            contact.leaving = true;
        }
        session.talk().bye(Code::Cancelled);
    }

    fn set_media(&mut self, media: Media) -> Result<(), Fault> {
        self.media = media;
        self.tell_media()
    }

    /// Tells the other end, and the uplink, what is sent from now on.
    pub(super) fn tell_media(&mut self) -> Result<(), Fault> {
        let media = super::both(self.media, self.capture);
        if let Some(session) = &mut self.session {
            session.talk().media(media)?;
            let command = SessionCommand::Media {
                audio: media.audio,
                video: media.video,
            };
            self.out.push_back(Output::Session(session.id, command));
        }
        Ok(())
    }

    fn set_status(&mut self, status: Status) {
        if let Side::Officer(attendance) = &mut self.side {
            let message = attendance.officer.set_status(status);
            self.say_officer(message);
        }
    }
}
