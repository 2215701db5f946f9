//! The H.264 decoder: one picture out for each access unit in, or none. The library's
//! concealment stays off: a picture with a missing reference is no picture.

use openh264::decoder::{DecodedYUV, Decoder as Library, DecoderConfig, Flush};
use openh264::formats::YUVSource;
use suora_protocol::fault::{Code, Fault};

use crate::fit::Frame;

/// A picture could not be decoded; those that follow are dropped up to the next keyframe.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Undecodable;

/// A decoded picture.
#[derive(Debug)]
pub struct Picture<'a>(DecodedYUV<'a>);

impl Picture<'_> {
    /// Width and height in pixels.
    pub fn size(&self) -> (u32, u32) {
        let (width, height) = self.0.dimensions();
        (
            u32::try_from(width).unwrap_or(0),
            u32::try_from(height).unwrap_or(0),
        )
    }

    /// A copy without padding.
    pub fn frame(&self) -> Frame {
        let (width, height) = self.size();
        let mut data = Vec::with_capacity(Frame::size(width, height));
        let (y, u, v) = self.0.strides();
        for (plane, stride, width, height) in [
            (self.0.y(), y, width, height),
            (self.0.u(), u, width.div_ceil(2), height.div_ceil(2)),
            (self.0.v(), v, width.div_ceil(2), height.div_ceil(2)),
        ] {
            let lines = plane.chunks(stride.max(1)).take(height as usize);
            for line in lines {
                data.extend_from_slice(&line[..line.len().min(width as usize)]);
            }
        }
        data.resize(Frame::size(width, height), 128);
        Frame {
            width,
            height,
            data,
        }
    }
}

/// A decoder of one track.
pub struct Decoder {
    codec: Library,
    /// Why nothing is decoded before a keyframe.
    waits: Option<Wait>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Wait {
    /// Nothing came yet.
    Begin,
    /// A picture was undecodable, and that was said.
    Broken,
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decoder")
            .field("waits", &self.waits)
            .finish_non_exhaustive()
    }
}

impl Decoder {
    /// A decoder that waits for a keyframe.
    pub fn new() -> Result<Self, Fault> {
        Ok(Self {
            codec: library()?,
            waits: Some(Wait::Begin),
        })
    }

    /// Decodes an Annex B access unit. `None`: dropped, a keyframe has to come first.
    pub fn decode(
        &mut self,
        unit: &[u8],
        keyframe: bool,
    ) -> Result<Option<Picture<'_>>, Undecodable> {
        match (self.waits, keyframe) {
            (Some(Wait::Broken), false) => return Ok(None),
            (Some(Wait::Begin), false) => {
                self.waits = Some(Wait::Broken);
                return Err(Undecodable);
            }
            // what broke leaves no trace
            (Some(Wait::Broken), true) => {
                if let Ok(codec) = library() {
                    self.codec = codec;
                }
            }
            _ => {}
        }
        match self.codec.decode(unit) {
            Ok(Some(picture)) => {
                self.waits = None;
                Ok(Some(Picture(picture)))
            }
            _ => {
                self.waits = Some(Wait::Broken);
                Err(Undecodable)
            }
        }
    }
}

fn library() -> Result<Library, Fault> {
    Library::with_api_config(
        openh264::OpenH264API::from_source(),
        DecoderConfig::new().flush_after_decode(Flush::NoFlush),
    )
    .map_err(|error| Fault::new(Code::Internal).with(format!("H.264 decoder: {error}")))
}
