//! DOOR: devices of a list that somebody wrote, for tests and for people without hardware:
//! `SUORA_DEVICES` holds the list as JSON, or the path of a file that does. The file is
//! read again at every look, so a line that is taken out is a device that is pulled out.
//! A camera shows a moving pattern or a clip, a microphone hears a file (and, in a room, a
//! loudspeaker), a loudspeaker writes a WAV file.

pub mod list;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use suora_protocol::fault::{Code, Fault};

use self::list::{Answer, Camera, Microphone, Speaker, Written, parse};
use super::resample::Resample;
use super::{
    Backend, Event, Fill, Heard, List, Named, Open, Opened, Pictures, Shape, Shot, Sounds, Trouble,
    Wanted, Why,
};
use crate::capture::file::{self, Track};
use crate::capture::pattern::{self, Pattern};
use crate::clock::Clock;
use crate::fit::Frame;
use crate::worker::{Stop, Worker};

/// The variable that names the list.
pub const VARIABLE: &str = "SUORA_DEVICES";

/// Devices of a list.
#[derive(Debug)]
pub struct Fake {
    path: Option<PathBuf>,
    shared: Arc<Shared>,
}

/// The room in which microphones hear loudspeakers: the last second of each, by the time at
/// which it is heard.
#[derive(Debug)]
struct Shared {
    clock: Clock,
    start: Instant,
    written: Mutex<Written>,
    air: Mutex<BTreeMap<String, Air>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a loudspeaker said last: its samples, and the number behind the last of them.
#[derive(Debug)]
struct Air {
    ring: Vec<f32>,
    end: u64,
}

/// Samples of the air: a second.
const AIR: u64 = 48_000;

impl Shared {
    /// The sample of the room's time that belongs to a moment.
    fn sample(&self, at: Instant) -> u64 {
        let nanos = at.saturating_duration_since(self.start).as_nanos();
        u64::try_from(nanos * u128::from(AIR) / 1_000_000_000).unwrap_or(0)
    }

    fn sound(&self, speaker: &str, from: u64, samples: &[f32]) {
        let mut air = lock(&self.air);
        let air = air.entry(speaker.into()).or_insert_with(|| Air {
            ring: vec![0.0; AIR as usize],
            end: from,
        });
        for (at, sample) in (from..).zip(samples) {
            if let Some(place) = air.ring.get_mut((at % AIR) as usize) {
                *place = *sample;
            }
        }
        air.end = from + samples.len() as u64;
    }

    fn hear(&self, speaker: &str, from: u64, part: f32, samples: &mut [f32]) {
        let air = lock(&self.air);
        if let Some(Air { ring, end }) = air.get(speaker) {
            for (at, sample) in (from..).zip(samples) {
                if (end.saturating_sub(AIR)..*end).contains(&at) {
                    *sample += part * ring.get((at % AIR) as usize).copied().unwrap_or(0.0);
                }
            }
        }
    }

    fn has(&self, there: impl Fn(&Written) -> bool) -> bool {
        there(&lock(&self.written))
    }
}

impl Fake {
    /// The devices of `SUORA_DEVICES`; `None` where the variable is not set.
    pub fn from_env() -> Result<Option<Self>, Fault> {
        let Some(value) = std::env::var_os(VARIABLE) else {
            return Ok(None);
        };
        let text = value.to_string_lossy();
        if text.trim_start().starts_with('{') {
            let written = parse(&text).map_err(|reason| bad(&reason))?;
            return Ok(Some(Self::new(written)));
        }
        let path = PathBuf::from(&value);
        let written = read(&path).map_err(|reason| bad(&reason))?;
        let mut fake = Self::new(written);
        fake.path = Some(path);
        Ok(Some(fake))
    }

    /// The devices of a list.
    pub fn new(written: Written) -> Self {
        let clock = Clock::start();
        Self {
            path: None,
            shared: Arc::new(Shared {
                clock,
                start: clock.now().mono,
                written: Mutex::new(written),
                air: Mutex::default(),
            }),
        }
    }

    /// From now on the list is this one: what is no longer in it is pulled out.
    pub fn set(&self, written: Written) {
        *lock(&self.shared.written) = written;
    }
}

fn bad(reason: &str) -> Fault {
    Fault::new(Code::BadConfig).with(format!("{VARIABLE}: {reason}"))
}

fn read(path: &std::path::Path) -> Result<Written, String> {
    let text =
        std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    parse(&text).map_err(|reason| format!("{}: {reason}", path.display()))
}

fn gone() -> Trouble {
    Trouble::new(Why::Gone, format!("no longer in {VARIABLE}"))
}

impl Backend for Fake {
    fn list(&self) -> Result<List, Trouble> {
        if let Some(path) = &self.path {
            match read(path) {
                Ok(written) => self.set(written),
                // somebody is writing it: what was there stays
                Err(reason) => tracing::warn!(reason, "the list of devices cannot be read"),
            }
        }
        let written = lock(&self.shared.written);
        let named = |name: &String, id: String| Named {
            name: name.clone(),
            id,
        };
        Ok(List {
            cameras: written
                .cameras
                .iter()
                .map(|device| named(&device.name, device.source.clone()))
                .collect(),
            microphones: written
                .microphones
                .iter()
                .map(|device| named(&device.name, device.source.clone()))
                .collect(),
            speakers: written
                .speakers
                .iter()
                .map(|device| {
                    let file = device.file.as_ref();
                    let id = file.map_or("nowhere".into(), |file| file.display().to_string());
                    named(&device.name, id)
                })
                .collect(),
        })
    }

    fn camera(&self, device: &Named, shape: Shape, out: Pictures) -> Result<Opened, Trouble> {
        let written = lock(&self.shared.written);
        let found = written.cameras.iter().find(|c| c.name == device.name);
        let camera = found.cloned().ok_or_else(gone)?;
        drop(written);
        if let Some(answer) = instead(camera.answer) {
            return answer;
        }
        let shots = Shots::new(&camera, shape)?;
        let shared = self.shared.clone();
        start("fake camera", move |stop| {
            take_pictures(&stop, &shared, &camera.name, shape, shots, out);
        })
    }

    fn microphone(&self, device: &Named, out: Sounds) -> Result<Opened, Trouble> {
        let written = lock(&self.shared.written);
        let found = written.microphones.iter().find(|m| m.name == device.name);
        let microphone = found.cloned().ok_or_else(gone)?;
        drop(written);
        if let Some(answer) = instead(microphone.answer) {
            return answer;
        }
        let voice = Voice::new(&microphone)?;
        let shared = self.shared.clone();
        start("fake microphone", move |stop| {
            hear(&stop, &shared, &microphone, voice, out);
        })
    }

    fn speaker(&self, device: &Named, fill: Fill) -> Result<Opened, Trouble> {
        let written = lock(&self.shared.written);
        let found = written.speakers.iter().find(|s| s.name == device.name);
        let speaker = found.cloned().ok_or_else(gone)?;
        drop(written);
        if let Some(answer) = instead(speaker.answer) {
            return answer;
        }
        let file = speaker.file.as_ref().map(|path| {
            let spec = hound::WavSpec {
                channels: 1,
                sample_rate: speaker.rate,
                bits_per_sample: 16,
                sample_format: hound::SampleFormat::Int,
            };
            hound::WavWriter::create(path, spec)
                .map_err(|error| Trouble::new(Why::Broken, format!("{}: {error}", path.display())))
        });
        let file = file.transpose()?;
        let to_air = Resample::new(speaker.rate, 48_000)
            .map_err(|reason| Trouble::new(Why::Broken, reason))?;
        let shared = self.shared.clone();
        start("fake speaker", move |stop| {
            play(&stop, &shared, &speaker, file, to_air, fill);
        })
    }

    fn cleans(&self, microphone: &Named) -> bool {
        let written = lock(&self.shared.written);
        let found = written
            .microphones
            .iter()
            .find(|m| m.name == microphone.name);
        found.is_some_and(|microphone| microphone.clean)
    }
}

/// What a device answers instead of working: it refuses, or opens and does nothing.
fn instead(answer: Option<Answer>) -> Option<Result<Opened, Trouble>> {
    let answer = answer?;
    Some(match answer.trouble() {
        Some(trouble) => Err(trouble),
        None if answer == Answer::Stuck => Ok(Box::new(Stuck)),
        None => start("fake silence", |stop| {
            let clock = Clock::start();
            while !stop.wait_until(clock.now().mono + Duration::from_secs(60)) {}
        }),
    })
}

struct Running(#[expect(dead_code, reason = "ends its thread when it is dropped")] Worker);

impl Open for Running {}

struct Stuck;

impl Open for Stuck {}

impl Drop for Stuck {
    fn drop(&mut self) {
        Stop::default().wait_until(Clock::start().now().mono + Duration::from_secs(60));
    }
}

fn start(name: &str, body: impl FnOnce(Stop) + Send + 'static) -> Result<Opened, Trouble> {
    match Worker::start(name, body) {
        Ok(worker) => Ok(Box::new(Running(worker))),
        Err(fault) => Err(Trouble::new(Why::Broken, fault)),
    }
}

fn unusable(fault: Fault) -> Trouble {
    Trouble::new(Why::Broken, fault)
}

/// What a camera sees.
enum Shots {
    Pattern(Pattern),
    Clip(Box<file::Reader>),
}

impl Shots {
    fn new(camera: &Camera, shape: Shape) -> Result<Self, Trouble> {
        if camera.source == "pattern" {
            return Ok(Self::Pattern(Pattern::new(
                shape.width,
                shape.height,
                shape.fps,
            )));
        }
        let path = PathBuf::from(&camera.source);
        let media = file::open(&path, shape.fps, false).map_err(unusable)?;
        let clip = media
            .pictures
            .ok_or_else(|| Trouble::new(Why::Broken, format!("{}: no pictures", path.display())))?;
        Ok(Self::Clip(Box::new(clip.reader().map_err(unusable)?)))
    }
}

fn take_pictures(
    stop: &Stop,
    shared: &Shared,
    name: &str,
    shape: Shape,
    mut shots: Shots,
    mut out: Pictures,
) {
    let start = shared.clock.now().mono;
    let mut last = None;
    for n in 0_u32.. {
        let due = start + Duration::from_secs(1) * n / shape.fps;
        if stop.wait_until(due) {
            return;
        }
        if !shared.has(|written| written.cameras.iter().any(|device| device.name == name)) {
            out(Event::Lost(gone()));
            return;
        }
        let frame = match &mut shots {
            Shots::Pattern(pattern) => Some(Frame {
                width: shape.width,
                height: shape.height,
                data: pattern.draw(n.into()).to_vec(),
            }),
            Shots::Clip(reader) => {
                if let Some(frame) = reader.at(u64::from(n) * 1_000_000 / u64::from(shape.fps)) {
                    last = Some(frame.clone());
                }
                last.clone()
            }
        };
        if let Some(frame) = frame {
            out(Event::Got(Shot {
                frame,
                captured: due,
            }));
        }
    }
}

/// What a microphone hears beside loudspeakers: 20 ms of 48 kHz at a time.
enum Voice {
    Beep,
    Silence,
    Track(Track),
}

impl Voice {
    fn new(microphone: &Microphone) -> Result<Self, Trouble> {
        match microphone.source.as_str() {
            "beep" => Ok(Self::Beep),
            "silence" => Ok(Self::Silence),
            path => {
                let path = PathBuf::from(path);
                let media = file::open(&path, 30, true).map_err(unusable)?;
                media.sound.map(Self::Track).ok_or_else(|| {
                    Trouble::new(Why::Broken, format!("{}: no sound", path.display()))
                })
            }
        }
    }

    fn block(&self, n: u64) -> Vec<i16> {
        match self {
            Self::Beep => pattern::beep(n),
            Self::Silence => vec![0; 960],
            Self::Track(track) => track.block(n),
        }
    }
}

const BLOCK: Duration = Duration::from_millis(20);

fn hear(stop: &Stop, shared: &Shared, device: &Microphone, voice: Voice, mut out: Sounds) {
    let Ok(mut resample) = Resample::new(48_000, device.rate) else {
        return;
    };
    let start = shared.clock.now().mono;
    for n in 0_u32.. {
        // like a microphone: a block is there when its last sample was heard
        if stop.wait_until(start + BLOCK * (n + 1)) {
            return;
        }
        let there = |written: &Written| {
            let mut all = written.microphones.iter();
            all.any(|other| other.name == device.name)
        };
        if !shared.has(there) {
            out(Event::Lost(gone()));
            return;
        }
        let block = voice.block(n.into());
        let mut samples: Vec<f32> = block.iter().map(|s| f32::from(*s) / 32_768.0).collect();
        let captured = start + BLOCK * n;
        if let Some(hears) = &device.hears {
            let way = u64::from(hears.delay_ms) * AIR / 1_000;
            let from = (shared.sample(captured) + AIR).saturating_sub(way);
            shared.hear(&hears.speaker, from, hears.part, &mut samples);
        }
        let mut resampled = Vec::new();
        resample.push(&samples, &mut resampled);
        let behind =
            Duration::from_secs(1) * u32::try_from(resample.delay()).unwrap_or(0) / device.rate;
        if !resampled.is_empty() {
            out(Event::Got(Heard {
                samples: &resampled,
                rate: device.rate,
                captured: captured.checked_sub(behind).unwrap_or(captured),
            }));
        }
    }
}

type Wav = hound::WavWriter<std::io::BufWriter<std::fs::File>>;

fn play(
    stop: &Stop,
    shared: &Shared,
    device: &Speaker,
    mut file: Option<Wav>,
    mut to_air: Resample,
    mut fill: Fill,
) {
    let period = Duration::from_millis(10);
    let delay = Duration::from_millis(device.buffer_ms.into());
    let start = shared.clock.now().mono;
    let mut heard = shared.sample(start + delay) + AIR;
    let mut samples = vec![0.0; (device.rate / 100) as usize];
    let mut air = Vec::new();
    for n in 0_u32.. {
        if stop.wait_until(start + period * n) {
            break;
        }
        let there = |written: &Written| {
            let mut all = written.speakers.iter();
            all.any(|other| other.name == device.name)
        };
        if !shared.has(there) {
            fill(Event::Lost(gone()));
            break;
        }
        samples.fill(0.0);
        fill(Event::Got(Wanted {
            samples: &mut samples,
            rate: device.rate,
            delay,
        }));
        air.clear();
        to_air.push(&samples, &mut air);
        shared.sound(&device.name, heard, &air);
        heard += air.len() as u64;
        let mut written = Ok(());
        if let Some(file) = &mut file {
            for sample in &samples {
                let whole = (sample * 32_767.0).clamp(-32_768.0, 32_767.0) as i16;
                written = written.and_then(|()| file.write_sample(whole));
            }
            // whole even if the program is killed
            if n % 50 == 49 {
                written = written.and_then(|()| file.flush());
            }
        }
        if let Err(error) = written {
            fill(Event::Lost(Trouble::new(Why::Broken, error)));
            return;
        }
    }
    if let Some(Err(error)) = file.map(Wav::finalize) {
        tracing::warn!(%error, "the fake loudspeaker's file is not whole");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_with_its_usual_values() {
        let written = parse(
            r#"{"cameras": [{"name": "Front"}, {"name": "Clip", "source": "a.mp4", "answer": "busy"}],
                "microphones": [{"name": "Headset", "rate": 44100}],
                "speakers": [{"name": "Desk"}]}"#,
        )
        .unwrap();
        let list = Fake::new(written).list().unwrap();
        assert_eq!(list.cameras[0].name, "Front");
        assert_eq!(list.cameras[1].id, "a.mp4");
        assert_eq!((list.microphones.len(), list.speakers.len()), (1, 1));
    }

    #[test]
    fn a_device_that_refuses_says_why() {
        let written = parse(
            r#"{"cameras": [{"name": "a", "answer": "busy"}],
                "microphones": [{"name": "b", "answer": "denied"}],
                "speakers": [{"name": "c", "answer": "broken"}]}"#,
        )
        .unwrap();
        let fake = Fake::new(written);
        let list = fake.list().unwrap();
        let shape = Shape {
            width: 64,
            height: 64,
            fps: 10,
        };
        let why = |opened: Result<Opened, Trouble>| opened.err().map(|trouble| trouble.why);
        let camera = fake.camera(&list.cameras[0], shape, Box::new(|_| {}));
        assert_eq!(why(camera), Some(Why::Busy));
        let microphone = fake.microphone(&list.microphones[0], Box::new(|_| {}));
        assert_eq!(why(microphone), Some(Why::Denied));
        let speaker = fake.speaker(&list.speakers[0], Box::new(|_| {}));
        assert_eq!(why(speaker), Some(Why::Broken));
    }
}
