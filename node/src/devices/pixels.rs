//! What cameras give → I420, limited range, BT.601.

use yuv::{
    BufferStoreMut, YuvConversionMode, YuvPackedImage, YuvPlanarImageMut, YuvRange,
    YuvStandardMatrix, rgb_to_yuv420, yuyv422_to_yuv420,
};
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use crate::fit::Frame;

/// A layout of pixels that can be used, the cheapest first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Layout {
    /// Three planes.
    I420,
    /// A plane of luma, then one of both chromas by turns.
    Nv12,
    /// Y, U, Y, V by turns.
    Yuyv,
    /// A JPEG a picture.
    Jpeg,
}

impl Layout {
    /// The layout of a four-character code.
    pub(super) const fn of(code: [u8; 4]) -> Option<Self> {
        match &code {
            b"YU12" => Some(Self::I420),
            b"NV12" => Some(Self::Nv12),
            b"YUYV" => Some(Self::Yuyv),
            b"MJPG" | b"JPEG" => Some(Self::Jpeg),
            _ => None,
        }
    }
}

/// Reads a picture; `None` for one that is damaged or short. `stride` is the bytes of a line
/// of its first plane, 0 for as many as it needs. Width and height are even, and those of
/// a JPEG are its own.
pub(super) fn read(
    layout: Layout,
    (width, height): (u32, u32),
    stride: u32,
    bytes: &[u8],
) -> Option<Frame> {
    if layout == Layout::Jpeg {
        return jpeg(bytes);
    }
    if width < 2 || height < 2 || width % 2 == 1 || height % 2 == 1 {
        return None;
    }
    let (w, h) = (width as usize, height as usize);
    let stride = (stride as usize).max(if layout == Layout::Yuyv { 2 * w } else { w });
    let mut data = vec![0; Frame::size(width, height)];
    let (luma, chroma) = data.split_at_mut(w * h);
    match layout {
        Layout::I420 => {
            let (y, rest) = bytes.split_at_checked(stride * h)?;
            copy(y, stride, luma, w);
            let (u, v) = rest.split_at_checked(stride / 2 * (h / 2))?;
            let (to_u, to_v) = chroma.split_at_mut(w / 2 * (h / 2));
            copy(u, stride / 2, to_u, w / 2);
            copy(v.get(..stride / 2 * (h / 2))?, stride / 2, to_v, w / 2);
        }
        Layout::Nv12 => {
            let (y, rest) = bytes.split_at_checked(stride * h)?;
            copy(y, stride, luma, w);
            let both = rest.get(..stride * (h / 2))?;
            let (to_u, to_v) = chroma.split_at_mut(w / 2 * (h / 2));
            let lines = both.chunks_exact(stride);
            let to = to_u
                .chunks_exact_mut(w / 2)
                .zip(to_v.chunks_exact_mut(w / 2));
            for (line, (to_u, to_v)) in lines.zip(to) {
                for ((pair, u), v) in line.chunks_exact(2).zip(to_u).zip(to_v) {
                    if let [from_u, from_v] = pair {
                        (*u, *v) = (*from_u, *from_v);
                    }
                }
            }
        }
        Layout::Yuyv => {
            let packed = YuvPackedImage {
                yuy: bytes.get(..stride * h)?,
                yuy_stride: u32::try_from(stride).ok()?,
                width,
                height,
            };
            yuyv422_to_yuv420(&mut planes(luma, chroma, width, height), &packed).ok()?;
        }
        Layout::Jpeg => return None,
    }
    Some(Frame {
        width,
        height,
        data,
    })
}

fn copy(from: &[u8], stride: usize, to: &mut [u8], width: usize) {
    for (from, to) in from.chunks_exact(stride).zip(to.chunks_exact_mut(width)) {
        if let Some(from) = from.get(..width) {
            to.copy_from_slice(from);
        }
    }
}

fn planes<'a>(
    luma: &'a mut [u8],
    chroma: &'a mut [u8],
    width: u32,
    height: u32,
) -> YuvPlanarImageMut<'a, u8> {
    let (u, v) = chroma.split_at_mut(chroma.len() / 2);
    YuvPlanarImageMut {
        y_plane: BufferStoreMut::Borrowed(luma),
        y_stride: width,
        u_plane: BufferStoreMut::Borrowed(u),
        u_stride: width.div_ceil(2),
        v_plane: BufferStoreMut::Borrowed(v),
        v_stride: width.div_ceil(2),
        width,
        height,
    }
}

fn jpeg(bytes: &[u8]) -> Option<Frame> {
    let options = DecoderOptions::default()
        .jpeg_set_out_colorspace(ColorSpace::RGB)
        .set_max_width(4_096)
        .set_max_height(4_096);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    let rgb = decoder.decode().ok()?;
    let (width, height) = decoder.dimensions()?;
    let (width, height) = (u32::try_from(width).ok()?, u32::try_from(height).ok()?);
    let mut data = vec![0; Frame::size(width, height)];
    let (luma, chroma) = data.split_at_mut(width as usize * height as usize);
    rgb_to_yuv420(
        &mut planes(luma, chroma, width, height),
        &rgb,
        3 * width,
        YuvRange::Limited,
        YuvStandardMatrix::Bt601,
        YuvConversionMode::Balanced,
    )
    .ok()?;
    Some(Frame {
        width,
        height,
        data,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::pattern::{self, Pattern};

    const SIZE: (u32, u32) = (320, 180);

    fn picture() -> Frame {
        Frame {
            width: SIZE.0,
            height: SIZE.1,
            data: Pattern::new(SIZE.0, SIZE.1, 30).draw(4_711).to_vec(),
        }
    }

    /// The picture in another layout, each line of the first plane with so many bytes more.
    fn in_layout(layout: Layout, more: usize) -> Vec<u8> {
        let frame = picture();
        let [(y, w, h), (u, ..), (v, ..)] = frame.planes();
        let (w, h) = (w as usize, h as usize);
        let pad = |to: &mut Vec<u8>, more: usize| to.resize(to.len() + more, 7);
        let mut out = Vec::new();
        match layout {
            Layout::I420 => {
                for line in y.chunks(w) {
                    out.extend_from_slice(line);
                    pad(&mut out, more);
                }
                for line in u.chunks(w / 2).chain(v.chunks(w / 2)) {
                    out.extend_from_slice(line);
                    pad(&mut out, more / 2);
                }
            }
            Layout::Nv12 => {
                for line in y.chunks(w) {
                    out.extend_from_slice(line);
                    pad(&mut out, more);
                }
                for (u, v) in u.chunks(w / 2).zip(v.chunks(w / 2)) {
                    out.extend(u.iter().zip(v).flat_map(|(u, v)| [*u, *v]));
                    pad(&mut out, more);
                }
            }
            Layout::Yuyv => {
                for line in 0..h {
                    let y = &y[line * w..(line + 1) * w];
                    let at = line / 2 * (w / 2);
                    for (n, pair) in y.chunks(2).enumerate() {
                        out.extend([pair[0], u[at + n], pair[1], v[at + n]]);
                    }
                    pad(&mut out, more);
                }
            }
            Layout::Jpeg => {
                let mut rgb = vec![0; 3 * w * h];
                let image = yuv::YuvPlanarImage {
                    y_plane: y,
                    y_stride: SIZE.0,
                    u_plane: u,
                    u_stride: SIZE.0 / 2,
                    v_plane: v,
                    v_stride: SIZE.0 / 2,
                    width: SIZE.0,
                    height: SIZE.1,
                };
                let (range, matrix) = (YuvRange::Limited, YuvStandardMatrix::Bt601);
                yuv::yuv420_to_rgb(&image, &mut rgb, 3 * SIZE.0, range, matrix).unwrap();
                let encoder = jpeg_encoder::Encoder::new(&mut out, 90);
                let (w, h) = (u16::try_from(w).unwrap(), u16::try_from(h).unwrap());
                encoder
                    .encode(&rgb, w, h, jpeg_encoder::ColorType::Rgb)
                    .unwrap();
            }
        }
        out
    }

    #[test]
    fn every_layout_reads_as_the_same_picture() {
        let whole = picture();
        for (layout, per_pixel) in [
            (Layout::I420, 1),
            (Layout::Nv12, 1),
            (Layout::Yuyv, 2),
            (Layout::Jpeg, 0),
        ] {
            for more in [0, 64] {
                let bytes = in_layout(layout, more as usize);
                let frame = read(layout, SIZE, SIZE.0 * per_pixel + more, &bytes).unwrap();
                let reading = pattern::read(SIZE.0, SIZE.1, &frame.data);
                assert_eq!(reading.counter, Some(4_711), "{layout:?}");
                // a JPEG is close, the others are the same in luma
                let off = frame.data.iter().zip(&whole.data).take(320 * 180);
                let worst = off.map(|(a, b)| a.abs_diff(*b)).max().unwrap();
                let allowed = if layout == Layout::Jpeg { 90 } else { 0 };
                assert!(worst <= allowed, "{layout:?}: {worst}");
                let mean = |data: &[u8]| {
                    data.iter().map(|b| u64::from(*b)).sum::<u64>() / data.len() as u64
                };
                assert!(mean(&frame.data).abs_diff(mean(&whole.data)) <= 1);
            }
        }
    }

    #[test]
    fn short_and_broken_pictures_are_none() {
        for layout in [Layout::I420, Layout::Nv12, Layout::Yuyv, Layout::Jpeg] {
            let bytes = in_layout(layout, 0);
            for len in [0, 1, 10, bytes.len() / 3] {
                let read = read(layout, SIZE, 0, &bytes[..len]);
                // a JPEG that was cut shows what is there of it
                assert!(read.is_none() || layout == Layout::Jpeg, "{layout:?} {len}");
            }
        }
        assert!(read(Layout::Yuyv, (3, 3), 0, &[0; 100]).is_none());
        assert!(read(Layout::Jpeg, SIZE, 0, &[0xff, 0xd8, 0xff, 0xd9]).is_none());
    }
}
