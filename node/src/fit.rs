//! Pictures in the size that was asked for: scaled, aspect kept, black bars around; or
//! [shrunk](Shrink) to any size.

use bytes::Bytes;
use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};

/// A decoded picture, I420 without padding; odd sizes have chroma rounded up.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Frame {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// The planes.
    pub data: Vec<u8>,
}

impl Frame {
    /// Bytes of a picture of this size.
    pub const fn size(width: u32, height: u32) -> usize {
        let chroma = width.div_ceil(2) as usize * height.div_ceil(2) as usize;
        width as usize * height as usize + 2 * chroma
    }

    /// The planes with their width and height.
    pub fn planes(&self) -> [(&[u8], u32, u32); 3] {
        let (w, h) = (self.width.div_ceil(2), self.height.div_ceil(2));
        let luma = self.width as usize * self.height as usize;
        let chroma = w as usize * h as usize;
        let (y, rest) = self.data.split_at(luma.min(self.data.len()));
        let (u, v) = rest.split_at(chroma.min(rest.len()));
        [(y, self.width, self.height), (u, w, h), (v, w, h)]
    }
}

/// The largest size of this aspect, even, within `width × height`.
pub fn inside(of: (u32, u32), width: u32, height: u32) -> (u32, u32) {
    let (w, h) = (u64::from(of.0.max(1)), u64::from(of.1.max(1)));
    let (width, height) = (u64::from(width), u64::from(height));
    let even = |pixels: u64, most: u64| {
        let pixels = (pixels + 1) & !1;
        u32::try_from(pixels.clamp(2, most.max(2))).unwrap_or(2)
    };
    if w * height >= h * width {
        (even(width, width), even(width * h / w, height))
    } else {
        (even(height * w / h, width), even(height, height))
    }
}

/// Fits pictures into one size.
#[derive(Debug)]
pub struct Fit {
    width: u32,
    height: u32,
    resizer: Resizer,
}

impl Fit {
    /// Into pictures of even width and height.
    pub fn new(width: u32, height: u32) -> Self {
        Self {
            width,
            height,
            resizer: Resizer::new(),
        }
    }

    /// The picture in this size.
    pub fn fit(&mut self, frame: &Frame) -> Bytes {
        if (frame.width, frame.height) == (self.width, self.height) {
            return Bytes::copy_from_slice(&frame.data);
        }
        let (width, height) = inside((frame.width, frame.height), self.width, self.height);
        let (left, top) = ((self.width - width) / 4 * 2, (self.height - height) / 4 * 2);
        let mut data = Vec::with_capacity(Frame::size(self.width, self.height));
        for (index, (plane, w, h)) in frame.planes().into_iter().enumerate() {
            let (part, black) = if index == 0 { (1, 16) } else { (2, 128) };
            let scaled = self.scale((plane, w, h), width / part, height / part);
            let stride = (self.width / part) as usize;
            let start = data.len();
            data.resize(start + stride * (self.height / part) as usize, black);
            let lines = data[start..].chunks_exact_mut(stride);
            let (left, top) = ((left / part) as usize, (top / part) as usize);
            let width = (width / part) as usize;
            for (line, from) in lines.skip(top).zip(scaled.chunks_exact(width)) {
                line[left..left + width].copy_from_slice(from);
            }
        }
        data.into()
    }

    /// A plane in another size; grey if it cannot be read.
    fn scale(&mut self, (plane, w, h): (&[u8], u32, u32), width: u32, height: u32) -> Vec<u8> {
        let mut to = Image::new(width, height, PixelType::U8);
        let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear));
        match ImageRef::new(w, h, plane, PixelType::U8) {
            Ok(from) if self.resizer.resize(&from, &mut to, &options).is_ok() => to.into_vec(),
            _ => vec![128; width as usize * height as usize],
        }
    }
}

/// Scales pictures whole, into room that is used again.
#[derive(Debug, Default)]
pub struct Shrink {
    resizer: Resizer,
    data: Vec<u8>,
}

impl Shrink {
    /// An I420 picture of even size in another even size; grey where it cannot be read.
    pub fn shrink(&mut self, data: &[u8], from: (u32, u32), to: (u32, u32)) -> &[u8] {
        let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear));
        self.data.resize(Frame::size(to.0, to.1), 128);
        let (mut read, mut rest) = (data, self.data.as_mut_slice());
        for part in [1, 2, 2] {
            let (w, h, width, height) = (from.0 / part, from.1 / part, to.0 / part, to.1 / part);
            let (plane, further) = read.split_at((w as usize * h as usize).min(read.len()));
            let (room, left) =
                rest.split_at_mut((width as usize * height as usize).min(rest.len()));
            (read, rest) = (further, left);
            let from = ImageRef::new(w, h, plane, PixelType::U8);
            let to = Image::from_slice_u8(width, height, room, PixelType::U8);
            let (Ok(from), Ok(mut to)) = (from, to) else {
                continue;
            };
            if self.resizer.resize(&from, &mut to, &options).is_err() {
                to.buffer_mut().fill(128);
            }
        }
        &self.data
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::pattern::{self, Pattern};

    fn frame(width: u32, height: u32, n: u64) -> Frame {
        Frame {
            width,
            height,
            data: Pattern::new(width, height, 30).draw(n).to_vec(),
        }
    }

    #[test]
    fn a_picture_of_this_size_stays_as_it_is() {
        let frame = frame(320, 180, 5);
        assert_eq!(Fit::new(320, 180).fit(&frame), frame.data);
    }

    #[test]
    fn a_scaled_picture_can_still_be_read() {
        for (width, height) in [(320, 180), (640, 360), (1280, 720)] {
            let fitted = Fit::new(width, height).fit(&frame(854, 480, 4_711));
            assert_eq!(fitted.len(), Frame::size(width, height));
            let reading = pattern::read(width, height, &fitted);
            assert_eq!(reading.counter, Some(4_711), "{width}x{height}");
        }
    }

    #[test]
    fn the_aspect_is_kept_between_black_bars() {
        assert_eq!(inside((640, 480), 640, 360), (480, 360));
        assert_eq!(inside((1920, 1080), 640, 480), (640, 360));
        assert_eq!(inside((1, 4_000), 640, 360), (2, 360));
        let white = Frame {
            width: 64,
            height: 64,
            data: vec![235; Frame::size(64, 64)],
        };
        let fitted = Fit::new(128, 64).fit(&white);
        assert_eq!(fitted[..32], [16; 32]);
        assert_eq!(fitted[32..96], [235; 64]);
        assert_eq!(fitted[96..128], [16; 32]);
    }

    #[test]
    fn odd_and_broken_pictures_do_no_harm() {
        for (width, height, len) in [(63, 41, Frame::size(63, 41)), (64, 64, 10), (1, 1, 3)] {
            let frame = Frame {
                width,
                height,
                data: vec![99; len],
            };
            assert_eq!(Fit::new(128, 96).fit(&frame).len(), Frame::size(128, 96));
        }
    }
}
