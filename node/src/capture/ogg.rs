//! Ogg Opus (RFC 7845): sound of a file as mono at 48 kHz.

use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::Path;

use ogg::PacketReader;

use super::file::SOUND_MAX;
use crate::decode::opus::Decoder;

/// The samples of a file.
pub fn read(path: &Path) -> Result<Vec<i16>, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    packets(BufReader::new(file))
}

fn packets(file: impl Read + Seek) -> Result<Vec<i16>, String> {
    let mut reader = PacketReader::new(file);
    let mut next = || reader.read_packet().map_err(|error| error.to_string());
    let head = next()?.ok_or("is empty")?;
    let (skip, gain) = header(&head.data)?;
    let serial = head.stream_serial();
    let mut sound = Collect::new(skip, gain)?;
    let mut tags = true;
    while let Some(packet) = next()? {
        if packet.stream_serial() != serial {
            continue;
        }
        if std::mem::take(&mut tags) {
            continue;
        }
        sound.add(&packet.data)?;
        if packet.last_in_stream() {
            // the last page says where sound ends
            let end = usize::try_from(packet.absgp_page()).unwrap_or(usize::MAX);
            sound.samples.truncate(end.max(skip));
        }
    }
    Ok(sound.finish())
}

/// Pre-skip in samples and gain, of an `OpusHead`.
fn header(bytes: &[u8]) -> Result<(usize, i16), String> {
    let field = |at: usize| {
        let pair = bytes.get(at..at + 2)?;
        Some([pair[0], pair[1]])
    };
    let fields = field(10).zip(field(16));
    match (bytes.get(..8), bytes.get(8..10), fields, bytes.get(18)) {
        (Some(b"OpusHead"), Some([0..=15, 1 | 2]), Some((skip, gain)), Some(0)) => {
            Ok((usize::from(u16::from_le_bytes(skip)), i16::from_le_bytes(gain)))
        }
        _ => Err(
            "is no Opus of one or two channels; convert it (ffmpeg -i IN -c:a libopus -ac 1 OUT.ogg)"
                .into(),
        ),
    }
}

/// Decodes packets one after the other.
pub struct Collect {
    decoder: Decoder,
    skip: usize,
    gain: f32,
    samples: Vec<i16>,
}

impl Collect {
    /// Leaves out `skip` samples at the begin; `gain` is in 1/256 dB.
    pub fn new(skip: usize, gain: i16) -> Result<Self, String> {
        Ok(Self {
            decoder: Decoder::new().map_err(|fault| fault.to_string())?,
            skip,
            gain: 10_f32.powf(f32::from(gain) / (20.0 * 256.0)),
            samples: Vec::new(),
        })
    }

    /// Adds a packet; an error says what to do about the file.
    pub fn add(&mut self, packet: &[u8]) -> Result<(), String> {
        let samples = self
            .decoder
            .any(packet)
            .ok_or("has damaged sound; make it again")?;
        self.samples.extend(samples);
        if self.samples.len() > SOUND_MAX + self.skip {
            return Err("is longer than ten minutes; cut it".into());
        }
        Ok(())
    }

    /// The sound so far.
    pub fn finish(mut self) -> Vec<i16> {
        self.samples.drain(..self.skip.min(self.samples.len()));
        if (self.gain - 1.0).abs() > 1e-3 {
            for sample in &mut self.samples {
                *sample = (f32::from(*sample) * self.gain).clamp(-32_768.0, 32_767.0) as i16;
            }
        }
        self.samples
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use ogg::writing::{PacketWriteEndInfo, PacketWriter};
    use proptest::prelude::*;

    use super::*;
    use crate::capture::pattern;
    use crate::encode::opus::Encoder;

    fn file(blocks: u64, end: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut writer = PacketWriter::new(Cursor::new(&mut bytes));
        let mut head = b"OpusHead\x01\x01\x38\x01\x80\xbb\x00\x00\x00\x00\x00".to_vec();
        let page = PacketWriteEndInfo::EndPage;
        writer
            .write_packet(std::mem::take(&mut head), 7, page, 0)
            .unwrap();
        writer
            .write_packet(b"OpusTags".to_vec(), 7, page, 0)
            .unwrap();
        let mut encoder = Encoder::new().unwrap();
        for n in 0..blocks {
            let packet = encoder.encode(&pattern::beep(n)).unwrap();
            let (info, granule) = if n + 1 == blocks {
                (PacketWriteEndInfo::EndStream, end)
            } else {
                (page, (n + 1) * 960)
            };
            writer.write_packet(packet, 7, info, granule).unwrap();
        }
        drop(writer);
        bytes
    }

    #[test]
    fn sound_begins_after_the_pre_skip_and_ends_where_the_last_page_says() {
        let samples = packets(Cursor::new(file(10, 9_000))).unwrap();
        assert_eq!(samples.len(), 9_000 - 312);
        // the beep's first sample is there at once
        assert!(samples[..240].iter().any(|sample| sample.abs() > 8_000));
        assert!(samples[6_000..].iter().all(|sample| sample.abs() < 1_000));
    }

    #[test]
    fn what_is_not_opus_says_what_to_do() {
        let mut bytes = file(3, 2_880);
        bytes[28] = b'X';
        assert!(packets(Cursor::new(bytes)).is_err());
        assert!(
            header(b"OpusHead\x01\x06\x38\x01\x80\xbb\x00\x00\x00\x00\x01")
                .unwrap_err()
                .contains("ffmpeg")
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn damaged_files_do_no_harm(at: usize, byte: u8, cut in 0_usize..400) {
            let mut bytes = file(3, 2_880);
            let len = bytes.len();
            bytes[at % len] = byte;
            bytes.truncate(len.saturating_sub(cut));
            let _ = packets(Cursor::new(bytes));
        }
    }
}
