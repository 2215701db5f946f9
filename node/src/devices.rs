//! DOOR: cameras, microphones and loudspeakers of this machine. A [`Backend`] lists them
//! and opens them; everything above it is the same for the real ones ([`real`]) and for
//! those of a list that somebody wrote ([`fake`]). A device hands its pictures and sound
//! to a callback, on a thread of its own, until it is dropped or says that it is lost.

#[cfg(feature = "devices")]
mod camera;
pub mod choice;
pub mod fake;
#[cfg(feature = "devices")]
mod pixels;
pub mod reference;
pub mod resample;
pub mod seat;
#[cfg(feature = "devices")]
mod sound;
pub mod watch;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::fit::Frame;
pub use crate::view::{Device as Kind, DeviceState as State};

/// A device that can be chosen.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Named {
    /// What `--camera`, `--mic` and `--speaker` take; no two of a kind have the same.
    pub name: String,
    /// What the system calls it.
    pub id: String,
}

/// The devices that are there, of each kind; the first is the default.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct List {
    /// Cameras.
    pub cameras: Vec<Named>,
    /// Microphones.
    pub microphones: Vec<Named>,
    /// Loudspeakers.
    pub speakers: Vec<Named>,
}

impl List {
    /// Those of a kind.
    pub fn of(&self, kind: Kind) -> &[Named] {
        match kind {
            Kind::Camera => &self.cameras,
            Kind::Microphone => &self.microphones,
            Kind::Speaker => &self.speakers,
        }
    }
}

/// Names of devices with the same name get a number, so that each can be chosen.
#[cfg(feature = "devices")]
fn distinct(devices: &mut [Named]) {
    for at in 0..devices.len() {
        let (before, rest) = devices.split_at_mut(at);
        let Some(device) = rest.first_mut() else {
            return;
        };
        let plain = device.name.clone();
        let mut number = 1;
        while before.iter().any(|other| other.name == device.name) {
            number += 1;
            device.name = format!("{plain} ({number})");
        }
    }
}

/// Why a device cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Why {
    /// It is not there, or no longer.
    Gone,
    /// Another program uses it.
    Busy,
    /// This account may not use it.
    Denied,
    /// It does not work, or gives nothing that can be used.
    Broken,
    /// This program was built without devices.
    Unbuilt,
}

/// A device that cannot be used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trouble {
    /// Why.
    pub why: Why,
    /// What the system says, for the one who mends it.
    pub detail: String,
}

impl Trouble {
    /// A trouble and what the system says.
    pub fn new(why: Why, detail: impl fmt::Display) -> Self {
        Self {
            why,
            detail: detail.to_string(),
        }
    }

    /// What an error of a device file means.
    pub fn of_io(error: &std::io::Error) -> Self {
        use std::io::ErrorKind;
        let why = match error.kind() {
            ErrorKind::NotFound => Why::Gone,
            ErrorKind::PermissionDenied => Why::Denied,
            ErrorKind::ResourceBusy => Why::Busy,
            _ if matches!(error.raw_os_error(), Some(libc::ENODEV | libc::ENXIO)) => Why::Gone,
            _ => Why::Broken,
        };
        Self::new(why, error)
    }
}

/// What a device tells while it runs.
#[derive(Debug)]
pub enum Event<T> {
    /// A picture, or some sound.
    Got(T),
    /// Nothing more comes.
    Lost(Trouble),
}

/// A picture of a camera.
#[derive(Debug)]
pub struct Shot {
    /// I420, limited range, BT.601.
    pub frame: Frame,
    /// When it was taken.
    pub captured: Instant,
}

/// Some sound of a microphone.
#[derive(Debug)]
pub struct Heard<'a> {
    /// Mono, −1 to 1, in the device's rate; at most a second of it.
    pub samples: &'a [f32],
    /// Samples a second, 8000 to 192 000.
    pub rate: u32,
    /// When the first of them was heard.
    pub captured: Instant,
}

/// What a loudspeaker asks for.
#[derive(Debug)]
pub struct Wanted<'a> {
    /// To fill: mono, −1 to 1, in the device's rate; at most a second of it.
    pub samples: &'a mut [f32],
    /// Samples a second, 8000 to 192 000.
    pub rate: u32,
    /// How long from now until the first of them is heard.
    pub delay: Duration,
}

/// The size and rate that a camera should have; it gives what comes nearest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Pictures a second.
    pub fps: u32,
}

/// Takes pictures of a camera.
pub type Pictures = Box<dyn FnMut(Event<Shot>) + Send>;
/// Takes sound of a microphone.
pub type Sounds = Box<dyn for<'a> FnMut(Event<Heard<'a>>) + Send>;
/// Fills what a loudspeaker plays.
pub type Fill = Box<dyn for<'a> FnMut(Event<Wanted<'a>>) + Send>;

/// A device that runs until this is dropped; dropping waits for its thread.
pub trait Open: Send {}

/// An open device of any backend.
pub type Opened = Box<dyn Open>;

/// Where devices come from. No call takes longer than a second.
pub trait Backend: Send + Sync + fmt::Debug {
    /// Those that are there now. None of them begins to capture or to play.
    fn list(&self) -> Result<List, Trouble>;
    /// Opens a camera.
    fn camera(&self, device: &Named, shape: Shape, out: Pictures) -> Result<Opened, Trouble>;
    /// Opens a microphone.
    fn microphone(&self, device: &Named, out: Sounds) -> Result<Opened, Trouble>;
    /// Opens a loudspeaker.
    fn speaker(&self, device: &Named, fill: Fill) -> Result<Opened, Trouble>;
    /// Whether what this microphone hears is to be cleaned of echo and noise.
    fn cleans(&self, microphone: &Named) -> bool;
}

/// The devices of this machine; in a build without them, none and the reason.
pub fn real() -> Arc<dyn Backend> {
    Arc::new(Real::default())
}

#[derive(Debug, Default)]
struct Real {
    #[cfg(feature = "devices")]
    cameras: camera::Cameras,
}

#[cfg(feature = "devices")]
impl Backend for Real {
    fn list(&self) -> Result<List, Trouble> {
        let (mut microphones, mut speakers) = sound::list()?;
        let mut cameras = self.cameras.list();
        distinct(&mut cameras);
        distinct(&mut microphones);
        distinct(&mut speakers);
        Ok(List {
            cameras,
            microphones,
            speakers,
        })
    }

    fn camera(&self, device: &Named, shape: Shape, out: Pictures) -> Result<Opened, Trouble> {
        camera::open(&device.id, shape, out)
    }

    fn microphone(&self, device: &Named, out: Sounds) -> Result<Opened, Trouble> {
        sound::microphone(&device.id, out)
    }

    fn speaker(&self, device: &Named, fill: Fill) -> Result<Opened, Trouble> {
        sound::speaker(&device.id, fill)
    }

    fn cleans(&self, _: &Named) -> bool {
        true
    }
}

#[cfg(not(feature = "devices"))]
impl Backend for Real {
    fn list(&self) -> Result<List, Trouble> {
        Err(unbuilt())
    }

    fn camera(&self, _: &Named, _: Shape, _: Pictures) -> Result<Opened, Trouble> {
        Err(unbuilt())
    }

    fn microphone(&self, _: &Named, _: Sounds) -> Result<Opened, Trouble> {
        Err(unbuilt())
    }

    fn speaker(&self, _: &Named, _: Fill) -> Result<Opened, Trouble> {
        Err(unbuilt())
    }

    fn cleans(&self, _: &Named) -> bool {
        false
    }
}

#[cfg(not(feature = "devices"))]
fn unbuilt() -> Trouble {
    Trouble::new(Why::Unbuilt, "built without the feature `devices`")
}

#[cfg(all(test, feature = "devices"))]
mod tests {
    use super::*;

    #[test]
    fn devices_of_one_name_get_numbers() {
        let mut devices = ["Webcam", "Webcam", "Webcam (2)", "Webcam", "Other"].map(|name| Named {
            name: name.into(),
            id: String::new(),
        });
        distinct(&mut devices);
        let names: Vec<_> = devices.iter().map(|device| device.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "Webcam",
                "Webcam (2)",
                "Webcam (2) (2)",
                "Webcam (3)",
                "Other"
            ]
        );
    }

    #[test]
    fn errors_of_a_device_file_say_who_is_at_fault() {
        let why = |errno| Trouble::of_io(&std::io::Error::from_raw_os_error(errno)).why;
        assert_eq!(why(libc::ENOENT), Why::Gone);
        assert_eq!(why(libc::ENODEV), Why::Gone);
        assert_eq!(why(libc::EACCES), Why::Denied);
        assert_eq!(why(libc::EBUSY), Why::Busy);
        assert_eq!(why(libc::EIO), Why::Broken);
    }
}
