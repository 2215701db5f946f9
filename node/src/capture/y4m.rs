//! YUV4MPEG2: raw pictures, read from the disk one at a time.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use suora_protocol::fault::Fault;

use super::file::bad;
use crate::fit::Frame;

/// Longest header line.
const LINE_MAX: u64 = 1_024;
/// What stands before each picture.
const FRAME: &[u8; 6] = b"FRAME\n";

/// A Y4M file, opened and checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Raw {
    path: PathBuf,
    width: u32,
    height: u32,
    /// Pictures a second, as a fraction.
    rate: (u32, u32),
    /// Where the first picture's `FRAME` stands.
    start: u64,
    count: u64,
}

impl Raw {
    /// Opens and checks a file; one that names no rate shows `fps` pictures a second.
    pub fn open(path: &Path, fps: u32) -> Result<Self, String> {
        let file = File::open(path).map_err(|error| error.to_string())?;
        let bytes = file.metadata().map_err(|error| error.to_string())?.len();
        let mut file = BufReader::new(file);
        let mut line = Vec::new();
        (&mut file)
            .take(LINE_MAX)
            .read_until(b'\n', &mut line)
            .map_err(|error| error.to_string())?;
        let mut raw = header(&line, fps)?;
        raw.path = path.into();
        raw.start = line.len() as u64;
        raw.count = (bytes - raw.start.min(bytes)) / raw.stride();
        if raw.count == 0 {
            return Err("has no whole picture".into());
        }
        let mut mark = [0; FRAME.len()];
        for n in 0..raw.count {
            file.seek(SeekFrom::Start(raw.place(n)))
                .and_then(|_| file.read_exact(&mut mark))
                .map_err(|error| error.to_string())?;
            if mark != *FRAME {
                return Err(format!("is damaged at picture {n}; make it again"));
            }
        }
        Ok(raw)
    }

    fn stride(&self) -> u64 {
        (FRAME.len() + Frame::size(self.width, self.height)) as u64
    }

    fn place(&self, n: u64) -> u64 {
        self.start + n * self.stride()
    }

    /// How long it is, in microseconds.
    pub fn period(&self) -> u64 {
        let micros =
            u128::from(self.count) * u128::from(self.rate.1) * 1_000_000 / u128::from(self.rate.0);
        u64::try_from(micros).unwrap_or(u64::MAX).max(1)
    }

    /// The picture that is shown at a time in microseconds, counted through all rounds.
    fn number(&self, time: u64) -> u64 {
        let number =
            u128::from(time) * u128::from(self.rate.0) / (u128::from(self.rate.1) * 1_000_000);
        u64::try_from(number).unwrap_or(u64::MAX)
    }

    /// Begins to read it.
    pub fn reader(&self) -> Result<Reader, Fault> {
        Ok(Reader {
            file: File::open(&self.path).map_err(|error| bad(&self.path, error))?,
            raw: self.clone(),
            shown: None,
            frame: Frame {
                width: self.width,
                height: self.height,
                data: vec![0; Frame::size(self.width, self.height)],
            },
        })
    }
}

fn header(line: &[u8], fps: u32) -> Result<Raw, String> {
    let text = line
        .strip_suffix(b"\n")
        .and_then(|line| std::str::from_utf8(line).ok())
        .and_then(|line| line.strip_prefix("YUV4MPEG2 "))
        .ok_or("has no Y4M header")?;
    let number = |text: &str| {
        text.parse::<u32>()
            .map_err(|_| format!("{text}: no number"))
    };
    let (mut width, mut height, mut rate) = (0, 0, (fps, 1));
    for field in text.split(' ').filter(|field| !field.is_empty()) {
        let (key, value) = field.split_at(field.chars().next().map_or(0, char::len_utf8));
        match key {
            "W" => width = number(value)?,
            "H" => height = number(value)?,
            "F" => {
                let (top, bottom) = value.split_once(':').ok_or("has no frame rate")?;
                let named = (number(top)?, number(bottom)?);
                if named != (0, 0) {
                    rate = named;
                }
            }
            "C" if !matches!(value, "420" | "420jpeg" | "420mpeg2" | "420paldv") => {
                return Err(format!(
                    "has colours of kind {value}; convert it (ffmpeg -i IN -pix_fmt yuv420p OUT.y4m)"
                ));
            }
            _ => {}
        }
    }
    if !(2..=4_096).contains(&width) || !(2..=4_096).contains(&height) {
        return Err(format!("is {width}x{height}; 2x2 to 4096x4096 can be used"));
    }
    if rate.0 == 0 || rate.1 == 0 || rate.0.div_ceil(rate.1) > 240 || rate.1 / rate.0 > 10 {
        return Err(format!(
            "has {}/{} pictures a second; 0.1 to 240 can be used",
            rate.0, rate.1
        ));
    }
    Ok(Raw {
        path: PathBuf::new(),
        width,
        height,
        rate,
        start: 0,
        count: 0,
    })
}

/// Reads a file round and round.
#[derive(Debug)]
pub struct Reader {
    raw: Raw,
    file: File,
    shown: Option<u64>,
    frame: Frame,
}

impl Reader {
    /// See [`super::file::Reader::at`].
    pub fn at(&mut self, time: u64) -> Option<&Frame> {
        let number = self.raw.number(time);
        if self.shown == Some(number) {
            return None;
        }
        self.shown = Some(number);
        let place = self.raw.place(number % self.raw.count) + FRAME.len() as u64;
        let read = self
            .file
            .seek(SeekFrom::Start(place))
            .and_then(|_| self.file.read_exact(&mut self.frame.data));
        match read {
            Ok(()) => Some(&self.frame),
            Err(error) => {
                tracing::warn!(%error, "cannot read the camera's file any more");
                None
            }
        }
    }
}
