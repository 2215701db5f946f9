//! DOOR: recordings: an MP4 file of the access units as they were received, at the times
//! at which they were shown, and of the sound as it was played, encoded again as Opus.
//! The file's time begins with whatever came first. Sound that comes later begins with
//! silence, pictures that come later with an edit list, so that both stand to each other
//! as they did at the sink. The index is written at the end: a process that is killed
//! leaves a `.part` file without one.

use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use shiguredo_mp4::bitstream::h264::parse_sps;
use shiguredo_mp4::boxes::{
    AudioSampleEntryFields, Avc1Box, AvccBox, DopsBox, EdtsBox, ElstBox, ElstEntry, HdlrBox,
    MoovBox, OpusBox, SampleEntry, VisualSampleEntryFields,
};
use shiguredo_mp4::mux::{Mp4FileMuxer, Sample};
use shiguredo_mp4::{Encode, FixedPointNumber, TrackKind, Uint};
use suora_protocol::fault::{Code, Fault};
use suora_protocol::limits::SOUND_FRAME;
use suora_protocol::media::{EncodedFrame, h264};
use suora_protocol::time::Timestamp;

use crate::encode::opus::Encoder;

const PICTURES: NonZeroU32 = NonZeroU32::new(90_000).unwrap();
const SOUND: NonZeroU32 = NonZeroU32::new(48_000).unwrap();
/// Sound that begins within this many samples of the end of the last follows it; other
/// sound is put where it belongs, with silence before it or its begin cut off.
const STEADY: i64 = 480;
/// From here on silence is not encoded but written.
const LONG: i64 = 48_000;
/// An Opus packet of 20 ms of silence.
const SILENCE: &[u8] = &[0xf8, 0xff, 0xfe];
/// Pictures that wait for the next that is shown.
const HELD_MAX: usize = 64;

/// Writes one recording.
pub(super) struct Writer {
    file: PathBuf,
    part: PathBuf,
    out: BufWriter<File>,
    position: u64,
    muxer: Mp4FileMuxer,
    origin: Option<Timestamp>,
    pictures: Pictures,
    sound: Option<Sound>,
}

#[derive(Default)]
struct Pictures {
    entry: Option<Avc1Box>,
    /// When the first is shown, in ticks.
    first: u64,
    /// One that is shown, and those behind it that are not.
    held: Vec<Held>,
    /// How long the last one was shown, in ticks.
    lasted: u32,
}

struct Held {
    at: u64,
    data: Vec<u8>,
    keyframe: bool,
    entry: Option<SampleEntry>,
}

struct Sound {
    encoder: Encoder,
    waiting: Vec<i16>,
    /// Where the next sample belongs, in samples from the begin of the file.
    next: i64,
    begun: bool,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer")
            .field("file", &self.file)
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}

impl Writer {
    /// Makes the `.part` file.
    pub(super) fn create(file: PathBuf) -> Result<Self, Fault> {
        let mut part = file.clone().into_os_string();
        part.push(".part");
        Self::create_at(file, part.into())
    }

    fn create_at(file: PathBuf, part: PathBuf) -> Result<Self, Fault> {
        let muxer = Mp4FileMuxer::new().map_err(|error| muxing(&error))?;
        let mut out = BufWriter::new(File::create(&part).map_err(|error| bad(&part, &error))?);
        out.write_all(muxer.initial_boxes_bytes())
            .map_err(|error| bad(&part, &error))?;
        Ok(Self {
            position: muxer.initial_boxes_bytes().len() as u64,
            file,
            part,
            out,
            muxer,
            origin: None,
            pictures: Pictures::default(),
            sound: None,
        })
    }

    /// Writes a picture that was shown, or only decoded, at a time.
    pub(super) fn picture(
        &mut self,
        frame: &EncodedFrame,
        at: Timestamp,
        show: bool,
    ) -> Result<(), Fault> {
        let mut entry = None;
        if frame.keyframe {
            // a keyframe without parameter sets goes on with those before
            if let Some(avc1) = avc1(&frame.data)
                && self.pictures.entry.as_ref() != Some(&avc1)
            {
                entry = Some(SampleEntry::Avc1(avc1.clone()));
                self.pictures.entry = Some(avc1);
            }
        }
        if self.pictures.entry.is_none() {
            return Ok(());
        }
        let micros = at.micros_since(*self.origin.get_or_insert(at));
        let at = u64::try_from(micros).unwrap_or(0) * 9 / 100;
        if self.pictures.held.is_empty() {
            self.pictures.first = at;
        } else if show || self.pictures.held.len() == HELD_MAX {
            self.release(at)?;
        }
        self.pictures.held.push(Held {
            at: self
                .pictures
                .held
                .last()
                .map_or(at, |last| at.max(last.at + 1)),
            data: length_prefixed(&frame.data),
            keyframe: frame.keyframe,
            entry,
        });
        Ok(())
    }

    /// Writes the pictures that are held; the next one is shown at `until`.
    fn release(&mut self, until: u64) -> Result<(), Fault> {
        let mut held = std::mem::take(&mut self.pictures.held);
        let Some(begin) = held.first().map(|shown| shown.at) else {
            return Ok(());
        };
        // those that are not shown get one tick each, right before the next
        let count = held.len() as u64;
        for (index, picture) in (0..).zip(&mut held).skip(1) {
            picture.at = until.saturating_sub(count - index).max(begin + index);
        }
        let until = until.max(begin + count);
        let ends: Vec<u64> = held
            .iter()
            .skip(1)
            .map(|next| next.at)
            .chain([until])
            .collect();
        for (picture, end) in held.into_iter().zip(ends) {
            self.pictures.lasted = u32::try_from(end - picture.at).unwrap_or(u32::MAX);
            self.sample(
                Sample {
                    track_kind: TrackKind::Video,
                    sample_entry: picture.entry,
                    keyframe: picture.keyframe,
                    timescale: PICTURES,
                    duration: self.pictures.lasted,
                    composition_time_offset: None,
                    data_offset: self.position,
                    data_size: picture.data.len(),
                },
                &picture.data,
            )?;
        }
        Ok(())
    }

    /// Writes 20 ms of sound that are played at a time.
    pub(super) fn sound(&mut self, samples: &[i16], at: Timestamp) -> Result<(), Fault> {
        let micros = at.micros_since(*self.origin.get_or_insert(at));
        let mut sound = match self.sound.take() {
            Some(sound) => sound,
            None => {
                let mut encoder = Encoder::new()?;
                // what the encoder lags behind is left out at the begin: then all lies where it was played
                let next = i64::try_from(encoder.lookahead()).unwrap_or(0);
                Sound {
                    encoder,
                    waiting: Vec::with_capacity(SOUND_FRAME),
                    next,
                    begun: false,
                }
            }
        };
        let gap = micros.saturating_mul(48) / 1_000 - sound.next;
        let exact = !std::mem::replace(&mut sound.begun, true);
        let mut samples = samples;
        if exact || gap.abs() > STEADY {
            self.silence(&mut sound, gap)?;
            let cut = usize::try_from(-gap).unwrap_or(0).min(samples.len());
            samples = &samples[cut..];
        }
        let written = self.feed(&mut sound, samples);
        self.sound = Some(sound);
        written
    }

    fn silence(&mut self, sound: &mut Sound, mut samples: i64) -> Result<(), Fault> {
        const BLOCK: i64 = SOUND_FRAME as i64;
        while samples > 0 {
            if samples > LONG && sound.waiting.is_empty() {
                self.packet(SILENCE)?;
                sound.next += BLOCK;
                samples -= BLOCK;
                continue;
            }
            let room = SOUND_FRAME - sound.waiting.len();
            let some = samples.min(i64::try_from(room).unwrap_or(BLOCK));
            self.feed(
                sound,
                &[0; SOUND_FRAME][..usize::try_from(some).unwrap_or(0)],
            )?;
            samples -= some;
        }
        Ok(())
    }

    fn feed(&mut self, sound: &mut Sound, mut samples: &[i16]) -> Result<(), Fault> {
        sound.next += i64::try_from(samples.len()).unwrap_or(0);
        while !samples.is_empty() {
            let room = (SOUND_FRAME - sound.waiting.len()).min(samples.len());
            sound.waiting.extend_from_slice(&samples[..room]);
            samples = &samples[room..];
            if sound.waiting.len() == SOUND_FRAME {
                let packet = sound.encoder.encode(&sound.waiting);
                sound.waiting.clear();
                self.packet(packet.as_deref().unwrap_or(SILENCE))?;
            }
        }
        Ok(())
    }

    fn packet(&mut self, packet: &[u8]) -> Result<(), Fault> {
        self.sample(
            Sample {
                track_kind: TrackKind::Audio,
                sample_entry: Some(opus()),
                keyframe: true,
                timescale: SOUND,
                duration: SOUND_FRAME as u32,
                composition_time_offset: None,
                data_offset: self.position,
                data_size: packet.len(),
            },
            packet,
        )
    }

    fn sample(&mut self, sample: Sample, data: &[u8]) -> Result<(), Fault> {
        self.out
            .write_all(data)
            .map_err(|error| bad(&self.part, &error))?;
        self.muxer
            .append_sample(&sample)
            .map_err(|error| muxing(&error))?;
        self.position += data.len() as u64;
        Ok(())
    }

    /// Writes what is held and the index, and gives the file its name; `None`, and no
    /// file, when nothing came.
    pub(super) fn finish(mut self) -> Result<Option<PathBuf>, Fault> {
        if let Some(last) = self.pictures.held.last() {
            let lasts = if self.pictures.lasted == 0 {
                PICTURES.get() / 30
            } else {
                self.pictures.lasted.min(PICTURES.get())
            };
            self.release(last.at + u64::from(lasts))?;
        }
        if let Some(mut sound) = self.sound.take() {
            // and what still is in the encoder
            let lag = sound.encoder.lookahead() + sound.waiting.len();
            let whole = lag.next_multiple_of(SOUND_FRAME) - sound.waiting.len();
            self.silence(&mut sound, i64::try_from(whole).unwrap_or(0))?;
        }
        if self.origin.is_none() {
            drop(self.out);
            std::fs::remove_file(&self.part).map_err(|error| bad(&self.part, &error))?;
            return Ok(None);
        }
        let finalized = self.muxer.finalize().map_err(|error| muxing(&error))?;
        let mut moov = finalized.moov_box().clone();
        delay(&mut moov, self.pictures.first);
        let moov = moov.encode_to_vec().map_err(|error| muxing(&error))?;
        let mut write = || -> std::io::Result<()> {
            for (offset, bytes) in finalized.offset_and_bytes_pairs() {
                self.out.seek(SeekFrom::Start(offset))?;
                let index = offset == self.position;
                self.out.write_all(if index { &moov } else { bytes })?;
            }
            self.out.flush()
        };
        write()
            .and_then(|()| std::fs::rename(&self.part, &self.file))
            .map_err(|error| bad(&self.part, &error))?;
        Ok(Some(self.file))
    }
}

/// Lets pictures begin so many ticks after the file.
fn delay(moov: &mut MoovBox, ticks: u64) {
    let scale = u64::from(moov.mvhd_box.timescale.get());
    let empty = (ticks * scale + 45_000) / 90_000;
    for trak in &mut moov.trak_boxes {
        if trak.mdia_box.hdlr_box.handler_type != HdlrBox::HANDLER_TYPE_VIDE || empty == 0 {
            continue;
        }
        let edit = |edit_duration, media_time| ElstEntry {
            edit_duration,
            media_time,
            media_rate: FixedPointNumber::new(1, 0),
        };
        trak.edts_box = Some(EdtsBox {
            elst_box: Some(ElstBox {
                entries: vec![edit(empty, -1), edit(trak.tkhd_box.duration, 0)],
            }),
            unknown_boxes: Vec::new(),
        });
        trak.tkhd_box.duration += empty;
        moov.mvhd_box.duration = moov.mvhd_box.duration.max(trak.tkhd_box.duration);
    }
}

/// The sample entry for an access unit with parameter sets.
fn avc1(annex_b: &[u8]) -> Option<Avc1Box> {
    let sets = |kind| -> Vec<Vec<u8>> {
        let units = h264::split(annex_b).into_iter();
        units
            .filter(|unit| h264::unit_type(unit) == kind)
            .map(Vec::from)
            .collect()
    };
    let (sps_list, pps_list) = (sets(7), sets(8));
    let sps = parse_sps(sps_list.first()?).ok()?;
    // the fields after these exist for other profiles only, and ours is constrained baseline
    if pps_list.is_empty() || !matches!(sps.profile_level_id.profile_idc, 66 | 77 | 88) {
        return None;
    }
    Some(Avc1Box {
        visual: VisualSampleEntryFields {
            data_reference_index: VisualSampleEntryFields::DEFAULT_DATA_REFERENCE_INDEX,
            width: sps.width,
            height: sps.height,
            horizresolution: VisualSampleEntryFields::DEFAULT_HORIZRESOLUTION,
            vertresolution: VisualSampleEntryFields::DEFAULT_VERTRESOLUTION,
            frame_count: VisualSampleEntryFields::DEFAULT_FRAME_COUNT,
            compressorname: VisualSampleEntryFields::NULL_COMPRESSORNAME,
            depth: VisualSampleEntryFields::DEFAULT_DEPTH,
        },
        avcc_box: AvccBox {
            avc_profile_indication: sps.profile_level_id.profile_idc,
            profile_compatibility: sps.profile_level_id.profile_iop,
            avc_level_indication: sps.profile_level_id.level_idc,
            length_size_minus_one: Uint::new(3),
            sps_list,
            pps_list,
            chroma_format: None,
            bit_depth_luma_minus8: None,
            bit_depth_chroma_minus8: None,
            sps_ext_list: Vec::new(),
        },
        unknown_boxes: Vec::new(),
    })
}

/// An access unit as MP4 holds it; the parameter sets are in the sample entry.
fn length_prefixed(annex_b: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(annex_b.len() + 16);
    for unit in h264::split(annex_b) {
        if (7..=9).contains(&h264::unit_type(unit)) {
            continue;
        }
        out.extend_from_slice(&u32::try_from(unit.len()).unwrap_or(0).to_be_bytes());
        out.extend_from_slice(unit);
    }
    out
}

/// Mono. There is nothing to skip: see [`Writer::sound`].
fn opus() -> SampleEntry {
    SampleEntry::Opus(OpusBox {
        audio: AudioSampleEntryFields {
            data_reference_index: AudioSampleEntryFields::DEFAULT_DATA_REFERENCE_INDEX,
            channelcount: 1,
            samplesize: AudioSampleEntryFields::DEFAULT_SAMPLESIZE,
            samplerate: FixedPointNumber::new(48_000, 0),
        },
        dops_box: DopsBox {
            output_channel_count: 1,
            pre_skip: 0,
            input_sample_rate: 48_000,
            output_gain: 0,
        },
        unknown_boxes: Vec::new(),
    })
}

fn bad(file: &Path, error: &std::io::Error) -> Fault {
    Fault::new(Code::BadFile).with(format!("{}: {error}", file.display()))
}

fn muxing(error: &dyn std::fmt::Display) -> Fault {
    Fault::new(Code::Internal).with(format!("recording: {error}"))
}

#[cfg(test)]
mod tests;
