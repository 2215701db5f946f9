//! The library behind one size of pictures: constrained baseline, one slice a picture, no
//! periodic keyframes, and a quantiser for each picture that is chosen here
//! ([`Quantiser`]).

use std::time::Duration;

use openh264::encoder::{
    BitRate, Complexity, Encoder as Library, EncoderConfig, FrameRate, IntraFramePeriod, Level,
    Profile, RateControlMode, UsageType,
};
use openh264::formats::YUVSource;
use openh264_sys2::{
    ENCODER_OPTION, ENCODER_OPTION_SVC_ENCODE_PARAM_EXT, ENCODER_OPTION_TRACE_LEVEL, SEncParamExt,
    WELS_LOG_QUIET,
};
use suora_protocol::fault::{Code, Fault};
use suora_protocol::media::h264;
use suora_protocol::time::Timestamp;

use super::quantiser::{CUT, Quantiser, keyframe_most, picture_most};

/// How often a keyframe is encoded until it has about the bytes it may have.
const TRIES: usize = 4;

/// A picture is encoded again as a keyframe so long after the last keyframe of some bytes, at
/// least: a light that flickers would have each take the place of the one before it.
const APART: Duration = Duration::from_millis(250);

/// One of so many lines tells what moved.
const LINES: usize = 8;

/// A picture as the library reads it: I420 without padding.
#[derive(Clone, Copy, Debug)]
pub struct Planes<'a> {
    /// Pixels, even.
    pub width: u32,
    /// Pixels, even.
    pub height: u32,
    /// The planes.
    pub data: &'a [u8],
}

impl Planes<'_> {
    fn plane(&self, index: usize) -> &[u8] {
        let luma = self.width as usize * self.height as usize;
        match index {
            0 => &self.data[..luma],
            1 => &self.data[luma..luma * 5 / 4],
            _ => &self.data[luma * 5 / 4..],
        }
    }
}

impl YUVSource for Planes<'_> {
    fn dimensions(&self) -> (usize, usize) {
        (self.width as usize, self.height as usize)
    }

    fn strides(&self) -> (usize, usize, usize) {
        let width = self.width as usize;
        (width, width / 2, width / 2)
    }

    fn y(&self) -> &[u8] {
        self.plane(0)
    }

    fn u(&self) -> &[u8] {
        self.plane(1)
    }

    fn v(&self) -> &[u8] {
        self.plane(2)
    }
}

/// An access unit.
#[derive(Debug)]
pub struct Unit {
    /// Annex B.
    pub data: Vec<u8>,
    /// Whether decoding can start here.
    pub keyframe: bool,
}

/// An encoder of pictures of one size.
pub struct Codec {
    openh264: Library,
    quantiser: Quantiser,
    /// The quantiser that the library was told last.
    told: Option<u8>,
    size: (u32, u32),
    first: Timestamp,
    begun: bool,
    /// When the last keyframe was that had a quarter of its bytes or more: a black one costs nothing.
    keyed: Option<Timestamp>,
    /// Some lines of luma of the last picture.
    seen: Vec<u8>,
}

impl std::fmt::Debug for Codec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Codec")
            .field("size", &self.size)
            .field("quantiser", &self.quantiser)
            .finish_non_exhaustive()
    }
}

impl Codec {
    /// For pictures of this size, at most `fps` a second, from a moment on.
    pub fn new(size: (u32, u32), fps: u32, first: Timestamp) -> Result<Self, Fault> {
        let config = EncoderConfig::new()
            .profile(Profile::Baseline)
            .level(level(size, fps))
            .usage_type(UsageType::CameraVideoRealTime)
            .complexity(Complexity::Low)
            .num_threads(1)
            .max_frame_rate(FrameRate::from_hz(fps as f32))
            .bitrate(BitRate::from_bps(1_000_000))
            .rate_control_mode(RateControlMode::Off)
            // a picture that is too large is found here, by its bytes
            .scene_change_detect(false)
            .intra_frame_period(IntraFramePeriod::from_num_frames(0));
        let openh264 = Library::with_api_config(openh264::OpenH264API::from_source(), config)
            .map_err(fault)?;
        Ok(Self {
            openh264,
            quantiser: Quantiser::new(first),
            told: None,
            size,
            first,
            begun: false,
            keyed: None,
            seen: Vec::new(),
        })
    }

    /// Pixels.
    pub const fn size(&self) -> (u32, u32) {
        self.size
    }

    /// Time passed; true: so many bits were spent before that a picture has to be left out.
    pub fn is_full(&mut self, now: Timestamp, target: u32) -> bool {
        self.quantiser.pass(now, target) && self.begun
    }

    /// Encodes a picture of `target` bits a second and so many pictures a second. The first is
    /// a keyframe.
    pub fn encode(
        &mut self,
        picture: Planes<'_>,
        at: Timestamp,
        (target, fps): (u32, f64),
        keyframe: bool,
    ) -> Result<Unit, Fault> {
        let (width, height) = self.size;
        let len = width as usize * height as usize * 3 / 2;
        if (picture.width, picture.height, picture.data.len()) != (width, height, len) {
            return Err(Fault::new(Code::Internal).with("a picture of another size than it says"));
        }
        self.quantiser.pass(at, target);
        let unit = if keyframe || !self.begun {
            let most = keyframe_most(width * height, target);
            self.keyframe(picture, at, (most, most / 2))?
        } else {
            self.follow(picture, at, (target, fps))?
        };
        self.see(picture);
        self.quantiser.spent(unit.data.len());
        Ok(unit)
    }

    /// A picture that refers to the last, or a keyframe where that would be too large.
    fn follow(
        &mut self,
        picture: Planes<'_>,
        at: Timestamp,
        (target, fps): (u32, f64),
    ) -> Result<Unit, Fault> {
        let pixels = self.size.0 * self.size.1;
        let motion = self.motion(picture);
        let quantiser = self.quantiser.picture(target, fps, motion);
        let bound = picture_most(target, fps);
        // a second look pays where it is well under what it replaces
        let anew = (keyframe_most(pixels, target).min(bound * 2 / 3), 0);
        let rested = self.keyed.is_none_or(|keyed| at.since(keyed) >= APART);
        let holds = self.quantiser.holds(pixels, bound);
        let is_cut = motion > CUT;
        // of a cut there is no need to try
        if is_cut && rested && holds && self.quantiser.expects(quantiser) > 2 * bound {
            return self.keyframe(picture, at, anew);
        }
        let unit = self.run(picture, at, quantiser)?;
        let bytes = unit.data.len();
        // also where it is encoded again: a pan goes on
        self.quantiser.made(false, quantiser, bytes);
        // what a picture shares with the last, a keyframe would lack
        let most = if is_cut { bound } else { bound + bound / 2 };
        if bytes > most && rested && (holds || bytes > 3 * bound) {
            return self.keyframe(picture, at, anew);
        }
        Ok(unit)
    }

    /// How much the luma of some lines differs from the last picture's, on the mean.
    fn motion(&self, picture: Planes<'_>) -> f64 {
        let lines = picture.y().chunks_exact(picture.width as usize);
        let seen = self.seen.chunks_exact(picture.width as usize);
        let difference = |(a, b): (&[u8], &[u8])| -> u64 {
            let pairs = a.iter().zip(b);
            u64::from(pairs.map(|(a, b)| u32::from(a.abs_diff(*b))).sum::<u32>())
        };
        let sum: u64 = lines.step_by(LINES).zip(seen).map(difference).sum();
        sum as f64 / self.seen.len().max(1) as f64
    }

    /// Keeps some lines for [`Self::motion`].
    fn see(&mut self, picture: Planes<'_>) {
        self.seen.clear();
        for line in picture
            .y()
            .chunks_exact(picture.width as usize)
            .step_by(LINES)
        {
            self.seen.extend_from_slice(line);
        }
    }

    /// A keyframe within its bound: what is too large, or much too small, is encoded again.
    /// Nobody misses the first try, since nothing refers to what is before a keyframe.
    fn keyframe(
        &mut self,
        picture: Planes<'_>,
        at: Timestamp,
        (most, least): (usize, usize),
    ) -> Result<Unit, Fault> {
        let pixels = self.size.0 * self.size.1;
        let mut tried = None;
        for left in (0..TRIES).rev() {
            let mut quantiser = self.quantiser.keyframe(pixels, most);
            if left == 0 {
                // no more guesses
                quantiser = quantiser.saturating_add(4).min(51);
            }
            if self.begun {
                self.openh264.force_intra_frame();
            }
            let unit = self.run(picture, at, quantiser)?;
            self.begun = true;
            self.quantiser.made(true, quantiser, unit.data.len());
            let (small, fits) = (
                unit.data.len() < least && quantiser > 18,
                unit.data.len() <= most,
            );
            let settled = fits && (!small || tried == Some(quantiser));
            if settled || quantiser == 51 || left == 0 {
                if unit.data.len() * 4 >= most {
                    self.keyed = Some(at);
                }
                return Ok(unit);
            }
            tried = Some(quantiser);
        }
        Err(Fault::new(Code::Internal).with("no keyframe"))
    }

    fn run(&mut self, picture: Planes<'_>, at: Timestamp, quantiser: u8) -> Result<Unit, Fault> {
        self.tell(quantiser);
        let at = at.since(self.first).as_millis();
        let time = openh264::Timestamp::from_millis(u64::try_from(at).unwrap_or(0));
        let early = self.told.is_none();
        let mut data = self
            .openh264
            .encode_at(&picture, time)
            .map_err(fault)?
            .to_vec();
        if early {
            // the library takes options only once it has begun
            let mut quiet = WELS_LOG_QUIET;
            self.set_option(ENCODER_OPTION_TRACE_LEVEL, &mut quiet);
            self.tell(quantiser);
            self.told.get_or_insert(quantiser);
            self.openh264.force_intra_frame();
            data = self
                .openh264
                .encode_at(&picture, time)
                .map_err(fault)?
                .to_vec();
        }
        Ok(Unit {
            keyframe: h264::is_keyframe(&data),
            data,
        })
    }

    /// Tells the library the next picture's quantiser.
    fn tell(&mut self, quantiser: u8) {
        if self.told == Some(quantiser) {
            return;
        }
        let mut params = SEncParamExt::default();
        if !self.get_option(ENCODER_OPTION_SVC_ENCODE_PARAM_EXT, &mut params) {
            return;
        }
        params.sSpatialLayers[0].iDLayerQp = i32::from(quantiser);
        self.set_option(ENCODER_OPTION_SVC_ENCODE_PARAM_EXT, &mut params);
        self.told = Some(quantiser);
    }

    /// Reads an option that the library writes as a `T`; false: not before the first picture.
    #[expect(
        unsafe_code,
        reason = "door: the library's safe calls cannot read its options"
    )]
    fn get_option<T>(&mut self, option: ENCODER_OPTION, value: &mut T) -> bool {
        // SAFETY: each caller passes the type that its option gives.
        let code = unsafe {
            self.openh264
                .raw_api()
                .get_option(option, std::ptr::from_mut(value).cast())
        };
        code == 0
    }

    /// Sets an option that the library takes as a pointer to a `T`.
    #[expect(
        unsafe_code,
        reason = "door: the library's safe calls cannot set its options"
    )]
    fn set_option<T>(&mut self, option: ENCODER_OPTION, value: &mut T) {
        // SAFETY: each caller passes the type that its option takes; the library reads it
        // and keeps nothing.
        let code = unsafe {
            self.openh264
                .raw_api()
                .set_option(option, std::ptr::from_mut(value).cast())
        };
        if code != 0 {
            tracing::warn!(option, code, "the encoder does not take an option");
        }
    }
}

/// The least level that holds this size and rate (H.264, table A-1).
fn level((width, height): (u32, u32), fps: u32) -> Level {
    let blocks = width.div_ceil(16) * height.div_ceil(16);
    match (blocks, blocks * fps) {
        (..=1_620, ..=40_500) => Level::Level_3_0,
        (..=3_600, ..=108_000) => Level::Level_3_1,
        (..=5_120, ..=216_000) => Level::Level_3_2,
        (..=8_192, ..=245_760) => Level::Level_4_0,
        (..=8_704, ..=522_240) => Level::Level_4_2,
        (..=36_864, ..=983_040) => Level::Level_5_1,
        _ => Level::Level_5_2,
    }
}

fn fault(error: openh264::Error) -> Fault {
    Fault::new(Code::Internal).with(format!("H.264 encoder: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_level_is_the_least_that_holds_the_pictures() {
        let idc = |size, fps| level(size, fps) as u32;
        assert_eq!(idc((640, 360), 30), Level::Level_3_0 as u32);
        assert_eq!(idc((1280, 720), 30), Level::Level_3_1 as u32);
        assert_eq!(idc((1280, 720), 60), Level::Level_3_2 as u32);
        assert_eq!(idc((1920, 1080), 30), Level::Level_4_0 as u32);
        assert_eq!(idc((3840, 2160), 30), Level::Level_5_1 as u32);
    }
}
