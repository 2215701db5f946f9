//! PURE: comfort noise: what a pause of the other end sounds like, so that a pause is not
//! taken for a broken line. Level and colour are learnt from the quietest of what was
//! heard: a prediction filter as Opus' own (SILK's) comfort noise has, driven by white
//! noise. Without a quiet moment so far, and after true silence, it is silence.

/// Order of the filter.
const ORDER: usize = 10;
/// A frame up to so many times as loud as the quietest is taken for background.
const BACKGROUND: f32 = 4.0;
/// The floor rises by this a frame, so that louder surroundings are learnt: 0.9 dB/s.
const RISE: f32 = 1.004;
/// The loudest noise: a mean square, −30 dB under full scale.
const LOUDEST: f32 = 1_000_000.0;
/// What a new frame counts for.
const NEW: f32 = 0.25;

/// Learns and makes noise of one track.
#[derive(Debug)]
pub struct Noise {
    /// Mean square of the background.
    floor: Option<f32>,
    correlation: [f32; ORDER + 1],
    filter: [f32; ORDER],
    /// Deviation of what drives the filter.
    gain: f32,
    past: [f32; ORDER],
    random: u32,
}

impl Default for Noise {
    fn default() -> Self {
        Self {
            floor: None,
            correlation: [0.0; ORDER + 1],
            filter: [0.0; ORDER],
            gain: 0.0,
            past: [0.0; ORDER],
            random: 0x9e37_79b9,
        }
    }
}

fn power(samples: &[i16]) -> f32 {
    let squares = samples.iter().map(|sample| f32::from(*sample).powi(2));
    squares.sum::<f32>() / samples.len().max(1) as f32
}

impl Noise {
    /// Mean square of what is taken for background; 0 while nothing was learnt.
    pub fn floor(&self) -> f32 {
        self.floor.unwrap_or(0.0)
    }

    /// Takes a frame that was heard.
    pub fn learn(&mut self, samples: &[i16]) {
        let power = power(samples);
        let floor = self.floor.unwrap_or(power.min(LOUDEST)).max(1.0) * RISE;
        self.floor = Some(floor);
        if power > floor * BACKGROUND {
            return;
        }
        self.floor = Some(floor + (power - floor) * if power < floor { 0.5 } else { NEW });
        for (lag, sum) in self.correlation.iter_mut().enumerate() {
            let pairs = samples.iter().zip(samples.iter().skip(lag));
            let now: f32 = pairs.map(|(a, b)| f32::from(*a) * f32::from(*b)).sum();
            *sum += (now / samples.len().max(1) as f32 - *sum) * NEW;
        }
        self.shape();
    }

    /// Levinson and Durbin: the filter of the correlation.
    fn shape(&mut self) {
        let mut error = self.correlation[0] * 1.000_1 + 1e-3;
        let whole = error;
        let mut filter = [0.0; ORDER];
        for order in 0..ORDER {
            let mut rest = self.correlation[order + 1];
            for (n, tap) in filter.iter().take(order).enumerate() {
                rest -= tap * self.correlation[order - n];
            }
            let reflection = (rest / error).clamp(-0.999, 0.999);
            let before = filter;
            for n in 0..order {
                filter[n] = before[n] - reflection * before[order - 1 - n];
            }
            filter[order] = reflection;
            error *= 1.0 - reflection * reflection;
        }
        self.filter = filter;
        let loud = (LOUDEST / whole).min(1.0);
        self.gain = (error * loud).max(0.0).sqrt();
    }

    /// The next samples.
    pub fn make(&mut self, samples: usize) -> Vec<i16> {
        (0..samples).map(|_| self.next()).collect()
    }

    fn next(&mut self) -> i16 {
        // four uniform ones are near enough to a normal one, of deviation 1
        let mut white = 0.0;
        for _ in 0..4 {
            self.random ^= self.random << 13;
            self.random ^= self.random >> 17;
            self.random ^= self.random << 5;
            white += self.random as f32 / u32::MAX as f32 - 0.5;
        }
        white *= 3.0_f32.sqrt();
        let taps = self.filter.iter().zip(&self.past);
        let sample = white * self.gain + taps.map(|(tap, past)| tap * past).sum::<f32>();
        // a filter that would grow is of no use
        let sample = if sample.abs() < 32_000.0 { sample } else { 0.0 };
        self.past.rotate_right(1);
        self.past[0] = sample;
        sample.round() as i16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Noise through a first-order filter, as a quiet room's.
    fn room(loud: f32, samples: usize) -> Vec<i16> {
        let (mut state, mut past) = (7_u32, 0.0_f32);
        (0..samples)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let white = (state >> 8) as f32 / (1 << 24) as f32 - 0.5;
                past = past * 0.9 + white * loud;
                past as i16
            })
            .collect()
    }

    fn tilt(samples: &[i16]) -> f32 {
        let pairs = samples.windows(2);
        let next: f32 = pairs.map(|two| f32::from(two[0]) * f32::from(two[1])).sum();
        next / (power(samples) * samples.len() as f32)
    }

    #[test]
    fn it_sounds_as_the_room_did_between_words() {
        let mut noise = Noise::default();
        let quiet = room(100.0, 48_000);
        for (n, frame) in quiet.chunks(960).enumerate() {
            noise.learn(frame);
            if n > 10 {
                let word: Vec<i16> = frame
                    .iter()
                    .map(|sample| sample.saturating_mul(90))
                    .collect();
                noise.learn(&word);
            }
        }
        let made = noise.make(48_000);
        let decibels = 10.0 * (power(&made) / power(&quiet)).log10();
        assert!(decibels.abs() < 2.0, "{decibels}");
        assert!((tilt(&made) - tilt(&quiet)).abs() < 0.05, "{}", tilt(&made));
    }

    #[test]
    fn true_silence_and_nothing_at_all_are_silence() {
        let mut noise = Noise::default();
        assert!(noise.make(960).iter().all(|sample| *sample == 0));
        for _ in 0..5 {
            noise.learn(&[0; 960]);
        }
        assert!(noise.make(960).iter().all(|sample| sample.abs() <= 1));
    }

    #[test]
    fn it_is_never_loud_whatever_was_heard() {
        let mut noise = Noise::default();
        for n in 0..200_i32 {
            let loud: Vec<i16> = (0..960)
                .map(|at| ((at * (n % 7 + 1)) % 64 - 32) as i16 * 1_000)
                .collect();
            noise.learn(&loud);
        }
        let made = noise.make(48_000);
        assert!(power(&made) < 4.0 * LOUDEST, "{}", power(&made));
    }
}
