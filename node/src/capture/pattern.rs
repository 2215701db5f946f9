//! The test pattern: pictures and sound that a machine can read again. A band at the top
//! holds the picture's number in black and white cells, 24 bits and a check of 8; below
//! it colours, a moving box and noise keep an encoder busy. The first picture of each
//! whole second is white below the band, and with it a beep of 1 kHz and 100 ms begins.

use bytes::Bytes;
use suora_protocol::limits::SOUND_FRAME;

/// Numbers repeat after so many pictures.
pub const NUMBERS: u32 = 1 << 24;
/// The beep's length in samples at 48 kHz.
pub const BEEP: u64 = 4_800;
/// The beep's amplitude.
pub const LOUD: f32 = 16_000.0;

const BLACK: u8 = 16;
const WHITE: u8 = 235;
const GREY: u8 = 128;
const COLUMNS: u32 = 16;
/// Pictures through which a cell of noise stays.
const STEADY: u32 = 12;
const SAMPLES_A_SECOND: u64 = 48_000;

/// Left edge of a column of cells, in twentieths of the width.
const fn column(width: u32, at: u32) -> usize {
    (width * (2 + at) / 20) as usize
}

/// Upper edge of a row of cells, in 45ths of the height.
const fn row(height: u32, at: u32) -> usize {
    (height * (2 + 4 * at) / 45) as usize
}

/// Where the band ends.
const fn band(height: u32) -> usize {
    (height * 12 / 45) as usize & !1
}

/// CRC-8 (polynomial 0x07), begun so that neither all black nor all white is valid.
fn check(number: u32) -> u8 {
    number.to_be_bytes()[1..].iter().fold(0xa5, |crc, byte| {
        (0..8).fold(crc ^ byte, |crc: u8, _| {
            (crc << 1) ^ if crc & 0x80 == 0 { 0 } else { 0x07 }
        })
    })
}

/// Draws the pictures of one size.
#[derive(Debug)]
pub struct Pattern {
    width: u32,
    height: u32,
    fps: u32,
    still: Vec<u8>,
    flash: Vec<u8>,
}

impl Pattern {
    /// A pattern of even width and height, with a flash each `fps` pictures.
    pub fn new(width: u32, height: u32, fps: u32) -> Self {
        let (w, h) = (width as usize, height as usize);
        let mut still = vec![GREY; w * h * 3 / 2];
        let mut flash = still.clone();
        let (luma, chroma) = still.split_at_mut(w * h);
        for (y, line) in luma.chunks_exact_mut(w).enumerate() {
            for (x, pixel) in line.iter_mut().enumerate() {
                *pixel = if y < band(height) {
                    BLACK
                } else {
                    // slanted waves on a slope
                    let wave = ((x + 2 * y) % 64).abs_diff(32);
                    (40 + wave + 80 * x / w) as u8
                };
            }
        }
        let (blue, red) = chroma.split_at_mut(w * h / 4);
        for y in band(height) / 2..h / 2 {
            for x in 0..w / 2 {
                let bar = x * 16 / w;
                blue[y * (w / 2) + x] = 98 + 20 * (bar % 4) as u8;
                red[y * (w / 2) + x] = 158 - 20 * (bar / 2) as u8;
            }
        }
        flash[..w * band(height)].fill(BLACK);
        flash[w * band(height)..w * h].fill(WHITE);
        Self {
            width,
            height,
            fps,
            still,
            flash,
        }
    }

    /// Picture `n`.
    pub fn draw(&self, n: u64) -> Bytes {
        let number = u32::try_from(n % u64::from(NUMBERS)).unwrap_or(0);
        let flash = n.is_multiple_of(u64::from(self.fps));
        let mut data = if flash { &self.flash } else { &self.still }.clone();
        if !flash {
            self.noise(&mut data, number);
            self.mover(&mut data, number);
        }
        let bits = number << 8 | u32::from(check(number));
        for at in 0..2 * COLUMNS {
            if bits << at & 1 << 31 != 0 {
                let (c, r) = (at % COLUMNS, at / COLUMNS);
                let (left, right) = (column(self.width, c), column(self.width, c + 1));
                for y in row(self.height, r)..row(self.height, r + 1) {
                    let line = y * self.width as usize;
                    data[line + left..line + right].fill(WHITE);
                }
            }
        }
        data.into()
    }

    /// The lowest eighth: cells of 8×8 pixels, of which each picture changes one in [`STEADY`].
    fn noise(&self, data: &mut [u8], n: u32) {
        let (w, h) = (self.width as usize, self.height as usize);
        let mut cell = 0;
        for top in (h - h / 8..h).step_by(8) {
            for left in (0..w).step_by(8) {
                cell += 1;
                let age = (n + cell * 7) / STEADY;
                let mut state = (age ^ cell << 16).wrapping_mul(0x9e37_79b9) | 1;
                state ^= state << 13;
                state ^= state >> 17;
                state ^= state << 5;
                let right = (left + 8).min(w);
                for y in top..(top + 8).min(h) {
                    data[y * w + left..y * w + right].fill(64 + (state >> 25) as u8);
                }
            }
        }
    }

    /// A chequered box that travels between the band and the noise.
    fn mover(&self, data: &mut [u8], n: u32) {
        let (w, h) = (self.width as usize, self.height as usize);
        let side = h / 5;
        let (top, bottom) = (band(self.height), h - h / 8 - side);
        let n = n as usize;
        let left = bounce(n * w / 160, w - side);
        let upper = top + bounce(n * h / 240, bottom - top);
        for y in 0..side {
            for x in 0..side {
                let dark = (x * 6 / side + y * 6 / side) % 2 == 0;
                data[(upper + y) * w + left + x] = if dark { 50 } else { 190 };
            }
        }
    }
}

/// There and back between 0 and `span`.
fn bounce(at: usize, span: usize) -> usize {
    if span == 0 {
        return 0;
    }
    span - (at % (2 * span)).abs_diff(span)
}

/// What a picture says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reading {
    /// Its number modulo [`NUMBERS`]; `None` where the cells cannot be read.
    pub counter: Option<u32>,
    /// Whether it is white below the band.
    pub flash: bool,
}

/// Reads a picture that begins with `width × height` luma, after any scaling and coding.
pub fn read(width: u32, height: u32, luma: &[u8]) -> Reading {
    let w = width as usize;
    let mean = |x: std::ops::Range<usize>, y: std::ops::Range<usize>| -> u32 {
        let (mut sum, mut count) = (0, 0);
        for y in y {
            for pixel in luma.get(y * w + x.start..y * w + x.end).unwrap_or(&[]) {
                sum += u32::from(*pixel);
                count += 1;
            }
        }
        sum.checked_div(count).unwrap_or(0)
    };
    let mut bits = Some(0);
    for at in 0..2 * COLUMNS {
        let (c, r) = (at % COLUMNS, at / COLUMNS);
        let (left, right) = (column(width, c), column(width, c + 1));
        let (top, bottom) = (row(height, r), row(height, r + 1));
        // the inner half of the cell
        let (dx, dy) = ((right - left) / 4, (bottom - top) / 4);
        let bit = match mean(left + dx..right - dx, top + dy..bottom - dy) {
            0..=100 => Some(0),
            151.. => Some(1),
            _ => None,
        };
        bits = bits.zip(bit).map(|(bits, bit): (u32, u32)| bits << 1 | bit);
    }
    let counter = bits
        .map(|bits| (bits >> 8, bits & 0xff))
        .filter(|(number, sum)| u32::from(check(*number)) == *sum)
        .map(|(number, _)| number);
    Reading {
        counter,
        flash: mean(0..w, band(height) + 4..height as usize) > 200,
    }
}

/// Block `n` of 20 ms: silence, or a part of the beep.
pub fn beep(n: u64) -> Vec<i16> {
    let first = n * SOUND_FRAME as u64 % SAMPLES_A_SECOND;
    (first..first + SOUND_FRAME as u64)
        .map(|at| {
            if at < BEEP {
                // a cosine: it begins at full height
                let turn = (at % 48) as f32 / 48.0 * std::f32::consts::TAU;
                (LOUD * turn.cos()) as i16
            } else {
                0
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_flashes_are_read_again() {
        for (width, height) in [(640, 360), (320, 180), (160, 90), (1280, 720), (854, 480)] {
            let pattern = Pattern::new(width, height, 30);
            for n in [0, 1, 29, 30, 31, 12_345_678, 16_777_215] {
                let reading = read(width, height, &pattern.draw(n));
                assert_eq!(reading.counter, Some(n as u32), "{width}x{height} {n}");
                assert_eq!(reading.flash, n % 30 == 0);
            }
        }
    }

    #[test]
    fn nothing_is_read_out_of_other_pictures() {
        for luma in [0, BLACK, 90, GREY, WHITE, 255] {
            assert_eq!(read(640, 360, &vec![luma; 640 * 360]).counter, None);
        }
        assert_eq!(read(640, 360, &[]).counter, None);
        let mut torn = Pattern::new(640, 360, 30).draw(77).to_vec();
        torn[640 * 60..640 * 80].fill(BLACK);
        assert_eq!(read(640, 360, &torn).counter, None);
    }

    #[test]
    fn pictures_follow_each_other_and_differ() {
        let pattern = Pattern::new(320, 180, 30);
        assert_eq!(pattern.draw(7), pattern.draw(7));
        assert_ne!(pattern.draw(7)[320 * 60..], pattern.draw(8)[320 * 60..]);
        assert_eq!(pattern.draw(u64::MAX).len(), 320 * 180 * 3 / 2);
    }

    #[test]
    fn the_beep_begins_with_the_flash() {
        for second in [0, 1, 59] {
            let loud = |n| beep(n).iter().any(|sample| sample.abs() > 1_000);
            assert_eq!(beep(second * 50)[0], LOUD as i16);
            assert!((0..5).all(|block| loud(second * 50 + block)));
            assert!((5..50).all(|block| !loud(second * 50 + block)));
        }
    }
}
