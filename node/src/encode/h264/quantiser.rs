//! Which quantiser each picture gets, so that the bits of any second are what was asked for
//! and no picture is much larger than the others. The library's own control holds neither:
//! it bounds no keyframe and learns of a new target over several pictures. Here the bits of
//! a picture are taken for 2^(level − SLOPE × quantiser) with a level that is learnt from
//! each picture, apart for keyframes and others; and what was spent over the target
//! is paid back over 0.6 s.

use suora_protocol::time::Timestamp;

/// The finest quantiser that is used: under it nobody sees a difference.
const FINEST: f64 = 18.0;
/// The coarsest of H.264.
const COARSEST: f64 = 51.0;
/// Logarithm of the bits, to base 2, for a step of the quantiser.
const SLOPE: f64 = 0.18;
/// A picture is coarser than the one before by this at most, and finer by this.
const STEPS: (f64, f64) = (8.0, 2.0);
/// How fast bits over the target are paid back, in seconds.
const WINDOW: f64 = 0.6;
/// How much what moved counts for the bits, as an exponent.
const MOTION: f64 = 0.7;
/// What moves in a picture that stands still: noise.
const STILL: f64 = 0.2;
/// How much of what a picture shows is learnt: of more bits than thought, and of fewer. A
/// picture that is twice the same must not make the next one large.
const LEARN: (f64, f64) = (0.6, 0.25);
/// What is taken of a bound, for what a guess may be off.
const ROOM: f64 = 0.8;
/// A picture that refers to the last should have no more than so many seconds of the target, or
/// so many pictures' share where that is more.
const PICTURE: (f64, f64) = (0.125, 3.0);
/// Fewer pictures a second do not make that larger.
const SLOWEST: f64 = 15.0;
/// A picture whose luma differs by more than this on the mean, of 255, from the last has little in
/// common with it: another scene, a light that went on, a fast pan.
pub const CUT: f64 = 12.0;
/// A keyframe that would need a coarser quantiser than this is worth less than what it replaces.
const MUD: f64 = 48.0;
/// Bits that were not spent are saved for so many seconds of the target.
const SAVED: f64 = 0.1;
/// Over so many seconds of the target a picture is left out.
const AHEAD: f64 = 0.5;
/// Bytes of a keyframe of 640x360: at most so many. Others by the square root of their
/// pixels.
const KEYFRAME: f64 = 10_000.0;
/// The least bytes that a keyframe may have.
const KEYFRAME_LEAST: f64 = 3_000.0;
/// A keyframe has at most so many seconds of the target.
const KEYFRAME_SECONDS: f64 = 0.25;

/// Most bytes of a keyframe of so many pixels at this target, in bits a second.
pub fn keyframe_most(pixels: u32, target: u32) -> usize {
    let by_size = KEYFRAME * (f64::from(pixels) / 230_400.0).sqrt();
    let by_target = f64::from(target) * KEYFRAME_SECONDS / 8.0;
    by_size.min(by_target).max(KEYFRAME_LEAST) as usize
}

/// Most bytes of a picture that refers to the last, at `target` bits a second and so many
/// pictures a second.
pub fn picture_most(target: u32, fps: f64) -> usize {
    let (seconds, shares) = PICTURE;
    (f64::from(target) / 8.0 * seconds.max(shares / fps.max(SLOWEST))) as usize
}

/// The quantisers of one track of one size.
#[derive(Debug)]
pub struct Quantiser {
    /// Of pictures and of keyframes: logarithm of the bits at quantiser 0.
    levels: [Option<f64>; 2],
    last: f64,
    /// Logarithm of what moves in the picture.
    motion: f64,
    /// Bits spent over the target, and when that was counted.
    ahead: (f64, Timestamp),
}

impl Quantiser {
    /// At a moment, with nothing learnt.
    pub fn new(now: Timestamp) -> Self {
        Self {
            levels: [None; 2],
            last: 36.0,
            motion: 0.0,
            ahead: (0.0, now),
        }
    }

    /// Time passed; true: so much was spent that a picture has to be left out.
    pub fn pass(&mut self, now: Timestamp, target: u32) -> bool {
        let target = f64::from(target);
        let (ahead, counted) = self.ahead;
        let paid = now.since(counted).as_secs_f64() * target;
        self.ahead = ((ahead - paid).max(-SAVED * target), now);
        self.ahead.0 > AHEAD * target
    }

    /// The quantiser of the next picture, which refers to the last and whose luma differs
    /// from it by `motion` on the mean, at `target` bits a second and so many pictures a second.
    pub fn picture(&mut self, target: u32, fps: f64, motion: f64) -> u8 {
        self.motion = MOTION * (motion + STILL).log2();
        let nominal = f64::from(target) / fps.max(1.0);
        let over = self.ahead.0 - nominal / 2.0;
        let wanted = (nominal - over / (WINDOW * fps.max(1.0))).clamp(nominal * 0.4, nominal * 1.6);
        let level = *self.levels[0].get_or_insert(nominal.log2() + SLOPE * self.last - self.motion);
        let best = (level + self.motion - wanted.max(64.0).log2()) / SLOPE;
        let best = best.clamp(self.last - STEPS.1, self.last + STEPS.0);
        self.last = best.clamp(FINEST, COARSEST).round();
        self.last as u8
    }

    /// The bytes that the next picture will have with this quantiser, as far as can be told.
    pub fn expects(&self, quantiser: u8) -> usize {
        let level = self.levels[0].unwrap_or_default() + self.motion;
        ((level - SLOPE * f64::from(quantiser)).exp2() / 8.0) as usize
    }

    /// The quantiser that fits a keyframe of `pixels` into so many bytes. At first it is guessed: at 38
    /// a talking head has a third of a bit a pixel.
    fn needs(&self, pixels: u32, most: usize) -> f64 {
        let level = self.levels[1].unwrap_or((f64::from(pixels) * 0.33).log2() + SLOPE * 38.0);
        (level - (most as f64 * 8.0 * ROOM).log2()) / SLOPE
    }

    /// Whether a keyframe of `pixels` is worth looking at in so many bytes.
    pub fn holds(&self, pixels: u32, most: usize) -> bool {
        self.needs(pixels, most) <= MUD
    }

    /// The quantiser of a keyframe of `pixels` that may have so many bytes.
    pub fn keyframe(&mut self, pixels: u32, most: usize) -> u8 {
        self.last = self.needs(pixels, most).ceil().clamp(FINEST, COARSEST);
        self.last as u8
    }

    /// What the encoder made with this quantiser.
    pub fn made(&mut self, keyframe: bool, quantiser: u8, bytes: usize) {
        let bits = (bytes as f64 * 8.0).max(64.0);
        let motion = if keyframe { 0.0 } else { self.motion };
        let seen = bits.log2() + SLOPE * f64::from(quantiser) - motion;
        let level = &mut self.levels[usize::from(keyframe)];
        *level = Some(match *level {
            Some(level) if !keyframe && seen > level => level + (seen - level) * LEARN.0,
            Some(level) if !keyframe => level + (seen - level) * LEARN.1,
            _ => seen,
        });
        self.last = f64::from(quantiser);
    }

    /// So many bytes leave.
    pub fn spent(&mut self, bytes: usize) {
        self.ahead.0 += bytes as f64 * 8.0;
    }
}
