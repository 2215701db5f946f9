//! DOOR: media files as sources: Y4M, MP4 and Annex B with H.264 constrained baseline,
//! WAV, Ogg Opus. What a file is, its first bytes say. Encoded bytes are held, pictures
//! are decoded one at a time when they are due, sound is decoded once, at most
//! [`SOUND_MAX`] of it. Everything loops without a gap.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use shiguredo_mp4::bitstream::h264::parse_sps;
use suora_protocol::fault::{Code, Fault};
use suora_protocol::limits::SOUND_FRAME;
use suora_protocol::media::h264::{is_keyframe, unit_type};

use super::{mp4, ogg, wav, y4m};
use crate::decode::h264::Decoder;
use crate::fit::Frame;

/// Longest sound of a file, in samples: ten minutes.
pub const SOUND_MAX: usize = 10 * 60 * 48_000;
/// Largest file that is held in memory.
pub const BYTES_MAX: u64 = 512 << 20;
/// Pictures that are decoded when a file is opened, to see that it can be used.
const TRIED: usize = 300;

/// A file that cannot be used, and why or what to do.
pub fn bad(path: &Path, reason: impl std::fmt::Display) -> Fault {
    Fault::new(Code::BadMediaFile).with(format!("{}: {reason}", path.display()))
}

/// What a file holds.
#[derive(Debug)]
pub struct Media {
    /// Its pictures.
    pub pictures: Option<Clip>,
    /// Its sound.
    pub sound: Option<Track>,
}

/// Opens and checks a file. Annex B names no times: it shows `fps` pictures a second. Sound
/// that nobody wants is not read.
pub fn open(path: &Path, fps: u32, want_sound: bool) -> Result<Media, Fault> {
    let mut head = [0; 12];
    let mut file = File::open(path).map_err(|error| bad(path, error))?;
    let mut len = 0;
    while len < head.len() {
        match file
            .read(&mut head[len..])
            .map_err(|error| bad(path, error))?
        {
            0 => break,
            more => len += more,
        }
    }
    let only = |pictures, sound| Media { pictures, sound };
    let coded = |coded: Coded| {
        coded
            .check(path)
            .map(|coded| Clip(Kind::Coded(Arc::new(coded))))
    };
    match head {
        [
            b'Y',
            b'U',
            b'V',
            b'4',
            b'M',
            b'P',
            b'E',
            b'G',
            b'2',
            b' ',
            ..,
        ] => {
            let raw = y4m::Raw::open(path, fps).map_err(|reason| bad(path, reason))?;
            Ok(only(Some(Clip(Kind::Raw(raw))), None))
        }
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'A', b'V', b'E'] => {
            let samples = wav::read(path).map_err(|reason| bad(path, reason))?;
            Ok(only(None, Some(Track::new(path, samples)?)))
        }
        [b'O', b'g', b'g', b'S', ..] => {
            let samples = ogg::read(path).map_err(|reason| bad(path, reason))?;
            Ok(only(None, Some(Track::new(path, samples)?)))
        }
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => {
            let movie = mp4::read(&bytes(path)?).map_err(|reason| bad(path, reason))?;
            let sound = match movie.sound {
                Some(sound) if want_sound => {
                    let samples = sound.decode().map_err(|reason| bad(path, reason))?;
                    Some(Track::new(path, samples)?)
                }
                _ if want_sound && movie.foreign_sound => {
                    return Err(bad(
                        path,
                        "its sound is not Opus; convert it (ffmpeg -i IN -c:v copy -c:a libopus OUT.mp4) or name another microphone",
                    ));
                }
                _ => None,
            };
            if movie.foreign_pictures && movie.video.is_none() {
                return Err(bad(path, BASELINE));
            }
            let pictures = movie
                .video
                .map(|units| coded(Coded::new(units)))
                .transpose()?;
            if pictures.is_none() && sound.is_none() {
                return Err(bad(path, "has neither pictures nor sound"));
            }
            Ok(only(pictures, sound))
        }
        [0, 0, 1, ..] | [0, 0, 0, 1, ..] => {
            let units = annex_b(&bytes(path)?, fps);
            Ok(only(Some(coded(Coded::new(units))?), None))
        }
        _ => Err(bad(
            path,
            "is neither Y4M, MP4, Annex B H.264, WAV nor Ogg Opus; convert it (ffmpeg -i IN -c:v libx264 -profile:v baseline -c:a libopus OUT.mp4)",
        )),
    }
}

const BASELINE: &str = "its pictures are not H.264 constrained baseline; convert it (ffmpeg -i IN -c:v libx264 -profile:v baseline -c:a libopus OUT.mp4)";

/// A whole file, if it is not too large.
pub fn bytes(path: &Path) -> Result<Bytes, Fault> {
    let file = File::open(path).map_err(|error| bad(path, error))?;
    let mut bytes = Vec::new();
    file.take(BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| bad(path, error))?;
    if bytes.len() as u64 > BYTES_MAX {
        return Err(bad(path, "is larger than 512 MiB; cut it"));
    }
    Ok(bytes.into())
}

/// One access unit of a clip.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unit {
    /// When it is shown, in microseconds from the clip's begin.
    pub at: u64,
    /// For how long, in microseconds.
    pub lasts: u64,
    /// Annex B, with the parameter sets it needs.
    pub data: Bytes,
    /// Whether decoding can start here.
    pub keyframe: bool,
}

/// H.264 pictures in memory.
#[derive(Debug)]
pub struct Coded {
    units: Vec<Unit>,
    period: u64,
}

impl Coded {
    fn new(units: Vec<Unit>) -> Self {
        let period = units.last().map_or(0, |last| last.at + last.lasts);
        Self { units, period }
    }

    /// Finds what cannot be used before anybody needs it.
    fn check(self, path: &Path) -> Result<Self, Fault> {
        let first = self
            .units
            .first()
            .filter(|first| first.keyframe && self.period > 0)
            .ok_or_else(|| bad(path, "has no picture that decoding can begin with"))?;
        let sps = suora_protocol::media::h264::split(&first.data)
            .into_iter()
            .find(|unit| unit_type(unit) == 7)
            .ok_or_else(|| bad(path, "has no parameter set of H.264"))?;
        // the profile is told in front, in a form that all profiles share
        if sps.get(1) != Some(&66) {
            return Err(bad(path, BASELINE));
        }
        let sps = parse_sps(sps).map_err(|_| bad(path, "has no parameter set of H.264"))?;
        if sps.width > 4_096 || sps.height > 4_096 {
            return Err(bad(path, "has pictures of more than 4096 pixels a side"));
        }
        let mut decoder = Decoder::new()?;
        for (number, unit) in self.units.iter().take(TRIED).enumerate() {
            if !matches!(decoder.decode(&unit.data, unit.keyframe), Ok(Some(_))) {
                return Err(bad(
                    path,
                    format!("is damaged at picture {number}; make it again"),
                ));
            }
        }
        Ok(self)
    }

    /// The unit that is shown at a time, in microseconds.
    fn index(&self, time: u64) -> usize {
        self.units
            .partition_point(|unit| unit.at <= time)
            .saturating_sub(1)
    }

    /// The keyframe that a unit needs.
    fn keyframe(&self, index: usize) -> usize {
        let before = self.units.get(..=index).unwrap_or(&[]);
        before.iter().rposition(|unit| unit.keyframe).unwrap_or(0)
    }
}

#[derive(Clone, Debug)]
enum Kind {
    Raw(y4m::Raw),
    Coded(Arc<Coded>),
}

/// The pictures of a file, opened and checked.
#[derive(Clone, Debug)]
pub struct Clip(Kind);

impl Clip {
    /// A clip that may be damaged, such as a recording; `None` without pictures.
    pub(crate) fn unchecked(units: Vec<Unit>) -> Option<Self> {
        let coded = Coded::new(units);
        (coded.period > 0).then(|| Self(Kind::Coded(Arc::new(coded))))
    }

    /// How long it is, in microseconds; more than 0.
    pub fn period(&self) -> u64 {
        match &self.0 {
            Kind::Raw(raw) => raw.period(),
            Kind::Coded(coded) => coded.period,
        }
    }

    /// Begins to read it.
    pub fn reader(&self) -> Result<Reader, Fault> {
        Ok(match &self.0 {
            Kind::Raw(raw) => Reader::Raw(raw.reader()?),
            Kind::Coded(coded) => Reader::Coded(CodedReader {
                coded: coded.clone(),
                decoder: Decoder::new()?,
                round: 0,
                next: 0,
                frame: Frame::default(),
            }),
        })
    }
}

/// Reads a clip round and round.
#[derive(Debug)]
pub enum Reader {
    /// Y4M, from the disk.
    Raw(y4m::Reader),
    /// H.264, from memory.
    Coded(CodedReader),
}

impl Reader {
    /// The picture at a time in microseconds that never falls; `None`: still the one
    /// before, or nothing that can be shown.
    pub fn at(&mut self, time: u64) -> Option<&Frame> {
        match self {
            Self::Raw(reader) => reader.at(time),
            Self::Coded(reader) => reader.at(time),
        }
    }
}

/// Decodes forward, or on from the nearest keyframe.
#[derive(Debug)]
pub struct CodedReader {
    coded: Arc<Coded>,
    decoder: Decoder,
    round: u64,
    /// The unit that the decoder has not seen yet in this round.
    next: usize,
    frame: Frame,
}

impl CodedReader {
    fn at(&mut self, time: u64) -> Option<&Frame> {
        let (round, target) = (
            time / self.coded.period,
            self.coded.index(time % self.coded.period),
        );
        if round == self.round && target < self.next {
            return None;
        }
        let keyframe = self.coded.keyframe(target);
        if round != self.round || keyframe > self.next {
            self.next = keyframe;
            self.round = round;
        }
        let mut shown = false;
        for unit in self.coded.units.get(self.next..=target).unwrap_or(&[]) {
            let picture = self.decoder.decode(&unit.data, unit.keyframe);
            shown = false;
            // what is passed over needs no copy; a damaged picture leaves the one before
            if let Ok(Some(picture)) = picture {
                shown = true;
                if std::ptr::eq(unit, &raw const self.coded.units[target]) {
                    self.frame = picture.frame();
                }
            }
        }
        self.next = target + 1;
        shown.then_some(&self.frame)
    }
}

/// Access units of an Annex B stream, `fps` a second.
fn annex_b(bytes: &Bytes, fps: u32) -> Vec<Unit> {
    let mut starts = Vec::new();
    let mut has_slice = true;
    let mut at = 0;
    while let Some(found) = find_start(bytes, at) {
        let unit = &bytes[found + 3..];
        let kind = unit_type(unit);
        // a slice whose first macroblock is 0 begins a picture, what stands before it belongs to it
        let first_slice = matches!(kind, 1 | 5) && unit.get(1).is_some_and(|byte| byte & 0x80 != 0);
        if has_slice && (first_slice || (6..=9).contains(&kind)) {
            let zero = found.checked_sub(1).filter(|zero| bytes[*zero] == 0);
            starts.push(zero.unwrap_or(found));
            has_slice = false;
        }
        has_slice |= matches!(kind, 1 | 5);
        at = found + 3;
    }
    let ends = starts.iter().skip(1).copied().chain([bytes.len()]);
    let time = |n: usize| n as u64 * 1_000_000 / u64::from(fps.max(1));
    starts
        .iter()
        .zip(ends)
        .enumerate()
        .map(|(n, (start, end))| {
            let data = bytes.slice(*start..end);
            Unit {
                at: time(n),
                lasts: time(n + 1) - time(n),
                keyframe: is_keyframe(&data),
                data,
            }
        })
        .collect()
}

fn find_start(bytes: &[u8], from: usize) -> Option<usize> {
    let rest = bytes.get(from..)?;
    let found = rest.windows(3).position(|window| window == [0, 0, 1])?;
    Some(from + found)
}

/// Decoded sound, mono, 48 kHz, round and round.
#[derive(Clone)]
pub struct Track {
    samples: Arc<[i16]>,
    period: u64,
}

impl std::fmt::Debug for Track {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Track")
            .field("samples", &self.samples.len())
            .field("period", &self.period)
            .finish()
    }
}

impl Track {
    fn new(path: &Path, samples: Vec<i16>) -> Result<Self, Fault> {
        let period = samples.len() as u64 * 1_000 / 48;
        if period == 0 {
            return Err(bad(path, "has no sound in it"));
        }
        Ok(Self {
            samples: samples.into(),
            period,
        })
    }

    /// The same track in rounds of so many microseconds, as long as the pictures it belongs
    /// to: cut, or followed by silence.
    #[must_use]
    pub fn last(self, period: u64) -> Self {
        Self {
            period: period.max(1),
            ..self
        }
    }

    /// Block `n` of 20 ms.
    pub fn block(&self, n: u64) -> Vec<i16> {
        let first = n.saturating_mul(SOUND_FRAME as u64);
        (0..SOUND_FRAME as u64)
            .map(|at| self.sample(first.saturating_add(at)))
            .collect()
    }

    fn sample(&self, at: u64) -> i16 {
        let at = u128::from(at);
        let period = u128::from(self.period);
        let round = at * 1_000 / 48 / period;
        let start = (round * period * 48).div_ceil(1_000);
        usize::try_from(at - start)
            .ok()
            .and_then(|at| self.samples.get(at).copied())
            .unwrap_or(0)
    }
}

#[cfg(test)]
mod tests;
