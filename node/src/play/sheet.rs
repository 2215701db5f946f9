//! DOOR: contact sheets: evenly spaced pictures of a recording in one PNG.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use suora_protocol::fault::{Code, Fault};
use yuv::{YuvPlanarImage, YuvRange, YuvStandardMatrix, yuv420_to_rgb};

use crate::capture::file::{self, Clip};
use crate::capture::mp4;
use crate::fit::{Fit, Frame, inside};

/// Width and height that a picture of the sheet fits into.
const CELL: (u32, u32) = (320, 320);
/// Pixels between pictures.
const GAP: usize = 4;

/// Writes `columns × rows` pictures of a recording, 1 to 16 each way, into a PNG file.
/// Places where nothing can be decoded stay grey.
pub fn contact_sheet(recording: &Path, png: &Path, columns: u32, rows: u32) -> Result<(), Fault> {
    let (columns, rows) = (columns.clamp(1, 16), rows.clamp(1, 16));
    let movie =
        mp4::read(&file::bytes(recording)?).map_err(|reason| file::bad(recording, reason))?;
    let units = movie
        .video
        .ok_or_else(|| file::bad(recording, "has no pictures"))?;
    let begin = units.first().map_or(0, |first| first.at);
    let clip = Clip::unchecked(units).ok_or_else(|| file::bad(recording, "has no pictures"))?;
    let lasts = clip.period() - begin;
    let mut reader = clip.reader()?;
    let mut sheet: Option<Sheet> = None;
    let mut missing = 0;
    for at in 0..u64::from(columns * rows) {
        let time = begin + lasts * (2 * at + 1) / (2 * u64::from(columns * rows));
        match (reader.at(time), &mut sheet) {
            (Some(frame), Some(sheet)) => sheet.add(frame),
            (Some(frame), none) => {
                let sheet = none.insert(Sheet::new(frame, columns, rows));
                sheet.next = missing;
                sheet.add(frame);
            }
            (None, Some(sheet)) => sheet.again(),
            (None, None) => missing += 1,
        }
    }
    sheet
        .ok_or_else(|| file::bad(recording, "has no picture that can be decoded"))?
        .write(png)
}

struct Sheet {
    columns: usize,
    width: usize,
    height: usize,
    cell: (u32, u32),
    fit: Fit,
    /// The last picture, as RGB.
    last: Vec<u8>,
    next: usize,
    rgb: Vec<u8>,
}

impl Sheet {
    fn new(frame: &Frame, columns: u32, rows: u32) -> Self {
        let cell = inside((frame.width, frame.height), CELL.0, CELL.1);
        let side = |cell: u32, count: u32| (cell as usize + GAP) * count as usize + GAP;
        let (width, height) = (side(cell.0, columns), side(cell.1, rows));
        Self {
            columns: columns as usize,
            width,
            height,
            cell,
            fit: Fit::new(cell.0, cell.1),
            last: vec![128; cell.0 as usize * cell.1 as usize * 3],
            next: 0,
            rgb: vec![128; width * height * 3],
        }
    }

    fn add(&mut self, frame: &Frame) {
        let (width, height) = self.cell;
        let fitted = Frame {
            width,
            height,
            data: self.fit.fit(frame).into(),
        };
        let [(y, ..), (u, ..), (v, ..)] = fitted.planes();
        let image = YuvPlanarImage {
            y_plane: y,
            y_stride: width,
            u_plane: u,
            u_stride: width / 2,
            v_plane: v,
            v_stride: width / 2,
            width,
            height,
        };
        let (range, matrix) = (YuvRange::Limited, YuvStandardMatrix::Bt601);
        if let Err(error) = yuv420_to_rgb(&image, &mut self.last, width * 3, range, matrix) {
            tracing::warn!(%error, "a picture of the sheet stays as it was");
        }
        self.again();
    }

    fn again(&mut self) {
        let (width, height) = (self.cell.0 as usize, self.cell.1 as usize);
        let left = GAP + self.next % self.columns * (width + GAP);
        let top = GAP + self.next / self.columns * (height + GAP);
        let lines = self.rgb.chunks_exact_mut(self.width * 3).skip(top);
        for (line, from) in lines.zip(self.last.chunks_exact(width * 3)) {
            line[left * 3..(left + width) * 3].copy_from_slice(from);
        }
        self.next += 1;
    }

    fn write(&self, png: &Path) -> Result<(), Fault> {
        let write = || -> Result<(), Box<dyn std::error::Error>> {
            let out = BufWriter::new(File::create(png)?);
            let (width, height) = (u32::try_from(self.width)?, u32::try_from(self.height)?);
            let mut encoder = png::Encoder::new(out, width, height);
            encoder.set_color(png::ColorType::Rgb);
            encoder.set_depth(png::BitDepth::Eight);
            let mut writer = encoder.write_header()?;
            writer.write_image_data(&self.rgb)?;
            writer.finish()?;
            Ok(())
        };
        write()
            .map_err(|error| Fault::new(Code::BadFile).with(format!("{}: {error}", png.display())))
    }
}
