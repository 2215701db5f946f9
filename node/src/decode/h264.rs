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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use suora_protocol::media::receiver::{self, Receiver};
    use suora_protocol::media::sender::{self, Sender};
    use suora_protocol::media::{EncodedFrame, rtcp};
    use suora_protocol::time::Timestamp;

    use super::*;
    use crate::capture::{Picture as Captured, pattern};
    use crate::clock::Clock;
    use crate::encode::{Control, h264::Encoder};

    /// An encoder of the pattern, and its decoder's view of each picture.
    struct Camera {
        control: Control,
        encoder: Encoder,
        decoder: Decoder,
        seen: BTreeMap<Timestamp, Frame>,
    }

    impl Camera {
        fn new(target: u32) -> Self {
            Self {
                control: Control::new(target),
                encoder: Encoder::new(25),
                decoder: Decoder::new().unwrap(),
                seen: BTreeMap::new(),
            }
        }

        fn take(&mut self, n: u64, captured: Timestamp) -> Option<EncodedFrame> {
            let picture = Captured {
                captured,
                width: 640,
                height: 360,
                data: pattern::Pattern::new(640, 360, 25).draw(n),
            };
            let frame = self.encoder.encode(&picture, &self.control)?;
            let decoded = self.decoder.decode(&frame.data, frame.keyframe);
            let decoded = decoded.unwrap().unwrap().frame();
            self.seen.insert(captured, decoded);
            Some(frame)
        }
    }

    // covers: SUORA-MED-030
    #[test]
    fn behind_losses_and_new_sizes_each_picture_is_the_one_the_sender_sees_or_none() {
        let start = Clock::start().now();
        let mut camera = Camera::new(800_000);
        let (mut sender, mut receiver) = (Sender::new(0, [1, 2]), Receiver::new(1, 0, 3));
        sender.handle_input(start, sender::Input::Open).unwrap();
        receiver
            .handle_input(start, receiver::Input::Accepted)
            .unwrap();
        let mut screen = Decoder::new().unwrap();
        let (mut shown, mut asked, mut widths) = (0, 0, Vec::new());
        for n in 0..150 {
            let now = start.after(Duration::from_millis(40) * n);
            if n == 75 {
                camera.control.set_target(200_000);
            }
            let frame = camera.take(u64::from(n), now.utc);
            for input in frame
                .map(sender::Input::Frame)
                .into_iter()
                .chain([sender::Input::Beat(1 << 20)])
            {
                sender.handle_input(now, input).unwrap();
            }
            // two streams of eleven never arrive
            let lost = n % 11 == 5 || n % 11 == 6;
            loop {
                let input = match &sender.poll_output() {
                    sender::Output::Write(stream, bytes) => {
                        let acked = sender::Input::Acked(*stream);
                        sender.handle_input(now, acked).unwrap();
                        let data = receiver::Input::StreamData(*stream, bytes);
                        receiver.handle_input(now, data).unwrap();
                        continue;
                    }
                    sender::Output::Finish(stream) if lost => receiver::Input::StreamReset(*stream),
                    sender::Output::Finish(stream) => receiver::Input::StreamEnd(*stream),
                    sender::Output::Keyframe => {
                        camera.control.keyframe();
                        continue;
                    }
                    sender::Output::Wait(..) => break,
                    _ => continue,
                };
                receiver.handle_input(now, input).unwrap();
            }
            receiver.handle_input(now, receiver::Input::Tick).unwrap();
            loop {
                match receiver.poll_output() {
                    receiver::Output::Frame(frame) => {
                        let picture = screen.decode(&frame.data, frame.keyframe);
                        let picture = picture.unwrap().unwrap().frame();
                        assert_eq!(Some(&picture), camera.seen.get(&frame.captured));
                        shown += 1;
                        if widths.last() != Some(&picture.width) {
                            widths.push(picture.width);
                        }
                    }
                    receiver::Output::Datagram(bytes) => {
                        let reports = rtcp::read(&bytes[1..]).unwrap();
                        if reports
                            .iter()
                            .any(|report| matches!(report, rtcp::Report::PictureLoss { .. }))
                        {
                            asked += 1;
                            camera.control.keyframe();
                        }
                    }
                    receiver::Output::Wait(..) => break,
                    _ => {}
                }
            }
        }
        assert_eq!(widths, [640, 480]);
        assert!(shown > 40 && asked > 5, "{shown} shown, {asked} asked");
    }

    /// The control of the test above: where a picture is decoded on another reference than
    /// its own, the decoder says nothing and the comparison does.
    #[test]
    fn a_picture_on_a_wrong_reference_differs() {
        let (mut one, mut other) = (Camera::new(800_000), Camera::new(800_000));
        let mut screen = Decoder::new().unwrap();
        let mut smeared = 0;
        for n in 0..20 {
            let at = Timestamp::from_millis(40 * i64::try_from(n).unwrap());
            let own = one.take(n, at).unwrap();
            let foreign = other.take(n + 100, at).unwrap();
            let frame = if n < 10 { own } else { foreign };
            let decoded = screen.decode(&frame.data, frame.keyframe);
            let decoded = decoded.unwrap().unwrap().frame();
            let right = if n < 10 {
                &one.seen[&at]
            } else {
                &other.seen[&at]
            };
            smeared += usize::from(decoded != *right);
        }
        assert_eq!(smeared, 10);
    }
}
