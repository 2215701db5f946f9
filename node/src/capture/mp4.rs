//! MP4: access units and Opus packets with their times, edit lists included. Reads whole
//! files with an index; so it serves sources, contact sheets and the recording checker.

use std::num::NonZeroU32;

use bytes::Bytes;
use shiguredo_mp4::aux::SampleTableAccessor;
use shiguredo_mp4::boxes::{AvccBox, ElstEntry, HdlrBox, MoovBox, SampleEntry, StblBox, TrakBox};
use shiguredo_mp4::{BoxHeader, Decode};
use suora_protocol::media::h264::unit_type;

use super::file::Unit;
use super::ogg::Collect;

/// Most samples of a track.
const SAMPLES_MAX: u32 = 4_000_000;

/// What a file holds.
#[derive(Debug, Default)]
pub struct Movie {
    /// The H.264 pictures, in order.
    pub video: Option<Vec<Unit>>,
    /// The Opus sound.
    pub sound: Option<Sound>,
    /// There are pictures that are not H.264.
    pub foreign_pictures: bool,
    /// There is sound that is not Opus of one or two channels.
    pub foreign_sound: bool,
}

/// An Opus track.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sound {
    /// When the first decoded sample is played, in samples from the begin; below 0: left out.
    pub start: i64,
    /// The packets.
    pub packets: Vec<Bytes>,
    /// In 1/256 dB.
    gain: i16,
}

impl Sound {
    /// All samples from the begin of the movie, mono at 48 kHz.
    pub fn decode(&self) -> Result<Vec<i16>, String> {
        let skip = usize::try_from(-self.start).unwrap_or(0);
        let lead = usize::try_from(self.start).unwrap_or(0);
        let mut sound = Collect::new(skip, self.gain)?;
        for packet in &self.packets {
            sound.add(packet)?;
        }
        let mut samples = vec![0; lead.min(super::file::SOUND_MAX)];
        samples.extend(sound.finish());
        Ok(samples)
    }
}

/// Reads a file; an error says what is wrong with it.
pub fn read(file: &Bytes) -> Result<Movie, String> {
    let moov = moov(file)?;
    let timescale = moov.mvhd_box.timescale;
    let mut movie = Movie::default();
    for trak in moov.trak_boxes {
        match trak.mdia_box.hdlr_box.handler_type {
            HdlrBox::HANDLER_TYPE_VIDE if movie.video.is_none() => {
                movie.video = video(file, trak, timescale)?;
                movie.foreign_pictures |= movie.video.is_none();
            }
            HdlrBox::HANDLER_TYPE_SOUN if movie.sound.is_none() => {
                movie.sound = sound(file, trak, timescale)?;
                movie.foreign_sound |= movie.sound.is_none();
            }
            _ => {}
        }
    }
    Ok(movie)
}

fn moov(file: &[u8]) -> Result<MoovBox, String> {
    let mut at = 0_usize;
    loop {
        let rest = file
            .get(at..)
            .filter(|rest| !rest.is_empty())
            .ok_or("has no index: it was not finished, or is cut off")?;
        let (header, _) = BoxHeader::decode(rest).map_err(|error| error.to_string())?;
        let size = match header.box_size.get() {
            0 => rest.len(),
            size => usize::try_from(size).map_err(|error| error.to_string())?,
        };
        let whole = rest
            .get(..size)
            .filter(|whole| whole.len() >= BoxHeader::MIN_SIZE)
            .ok_or("is cut off; make it again")?;
        if header.box_type == MoovBox::TYPE {
            return MoovBox::decode(whole)
                .map(|(moov, _)| moov)
                .map_err(|error| error.to_string());
        }
        at += size;
    }
}

struct Table {
    samples: SampleTableAccessor<StblBox>,
    timescale: NonZeroU32,
    /// When media time 0 is shown, in microseconds; `None`: no edit list says so.
    shift: Option<i64>,
}

impl Table {
    fn new(trak: TrakBox, movie: NonZeroU32) -> Result<Self, String> {
        let timescale = trak.mdia_box.mdhd_box.timescale;
        let edits = trak.edts_box.and_then(|edts| edts.elst_box);
        let shift = edits.map(|edits| shift(&edits.entries, movie, timescale));
        let samples = SampleTableAccessor::new(trak.mdia_box.minf_box.stbl_box)
            .map_err(|error| error.to_string())?;
        if samples.sample_count() > SAMPLES_MAX {
            return Err("is too long; cut it".into());
        }
        Ok(Self {
            samples,
            timescale,
            shift,
        })
    }

    fn micros(&self, ticks: u64) -> u64 {
        let micros = u128::from(ticks) * 1_000_000 / u128::from(self.timescale.get());
        u64::try_from(micros).unwrap_or(u64::MAX >> 1)
    }
}

fn shift(edits: &[ElstEntry], movie: NonZeroU32, media: NonZeroU32) -> i64 {
    let micros = |ticks: i128, scale: NonZeroU32| {
        i64::try_from(ticks * 1_000_000 / i128::from(scale.get())).unwrap_or(0)
    };
    let mut empty = 0;
    for edit in edits {
        if edit.media_time >= 0 {
            return micros(empty, movie) - micros(i128::from(edit.media_time), media);
        }
        empty += i128::from(edit.edit_duration);
    }
    0
}

fn bytes(file: &Bytes, offset: u64, size: u32) -> Result<Bytes, String> {
    let start = usize::try_from(offset).map_err(|error| error.to_string())?;
    start
        .checked_add(size as usize)
        .filter(|end| *end <= file.len())
        .map(|end| file.slice(start..end))
        .ok_or_else(|| "is cut off; make it again".into())
}

fn video(file: &Bytes, trak: TrakBox, movie: NonZeroU32) -> Result<Option<Vec<Unit>>, String> {
    let table = Table::new(trak, movie)?;
    let mut units = Vec::new();
    for sample in table.samples.samples() {
        let SampleEntry::Avc1(entry) = sample.chunk().sample_entry() else {
            return Ok(None);
        };
        let data = bytes(file, sample.data_offset(), sample.data_size())?;
        let start = table.micros(sample.timestamp());
        let keyframe = sample.is_sync_sample();
        units.push(Unit {
            at: start.saturating_add_signed(table.shift.unwrap_or(0)),
            lasts: table.micros(sample.timestamp() + u64::from(sample.duration())) - start,
            data: annex_b(&data, &entry.avcc_box, keyframe)?,
            keyframe,
        });
    }
    Ok(Some(units).filter(|units| !units.is_empty()))
}

/// An access unit of an MP4 file as Annex B; a keyframe gets the parameter sets of its entry.
fn annex_b(mut sample: &[u8], avcc: &AvccBox, keyframe: bool) -> Result<Bytes, String> {
    let prefix = usize::from(avcc.length_size_minus_one.get()) + 1;
    let mut units = Vec::new();
    while !sample.is_empty() {
        let (len, rest) = sample
            .split_at_checked(prefix)
            .ok_or("has a damaged picture; make it again")?;
        let len = len
            .iter()
            .fold(0, |len, byte| len << 8 | usize::from(*byte));
        let (unit, rest) = rest
            .split_at_checked(len)
            .ok_or("has a damaged picture; make it again")?;
        units.push(unit);
        sample = rest;
    }
    let mut out = Vec::new();
    let inside = units.iter().any(|unit| unit_type(unit) == 7);
    let sets = avcc
        .sps_list
        .iter()
        .chain(&avcc.pps_list)
        .map(Vec::as_slice);
    for unit in sets.filter(|_| keyframe && !inside).chain(units) {
        suora_protocol::media::h264::join(&mut out, unit);
    }
    Ok(out.into())
}

fn sound(file: &Bytes, trak: TrakBox, movie: NonZeroU32) -> Result<Option<Sound>, String> {
    let table = Table::new(trak, movie)?;
    let mut packets = Vec::new();
    let mut head = None;
    for sample in table.samples.samples() {
        let SampleEntry::Opus(entry) = sample.chunk().sample_entry() else {
            return Ok(None);
        };
        if !(1..=2).contains(&entry.dops_box.output_channel_count) {
            return Ok(None);
        }
        head = Some((entry.dops_box.pre_skip, entry.dops_box.output_gain));
        packets.push(bytes(file, sample.data_offset(), sample.data_size())?);
    }
    Ok(head.map(|(pre_skip, gain)| Sound {
        // an edit list says what to leave out; without one the pre-skip does
        start: table.shift.map_or(-i64::from(pre_skip), |micros| {
            micros.saturating_mul(48) / 1_000
        }),
        packets,
        gain,
    }))
}
