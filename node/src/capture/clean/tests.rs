//! A loudspeaker and a microphone in a simulated room, with real voices: what is left of the
//! echo, and what is left of the one who speaks at the same time.

use std::path::Path;

use super::*;
use crate::capture::file;
use crate::devices::reference::BLOCK;

const RATE: usize = 48_000;

/// A clip's voice, −1 to 1, as long as asked for.
fn voice(clip: &str, seconds: usize) -> Vec<f32> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/clips");
    let track = file::open(&path.join(clip), 30, true)
        .unwrap()
        .sound
        .unwrap();
    (0..(seconds * 50) as u64)
        .flat_map(|block| track.block(block))
        .map(|sample| f32::from(sample) / 32_768.0)
        .collect()
}

/// Noise of −1 to 1, the same each time.
fn noise(len: usize) -> Vec<f32> {
    let mut state = 0x2545_f491_u32;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state as f32 / u32::MAX as f32 * 2.0 - 1.0
        })
        .collect()
}

/// The impulse response of a way through a room: so long until the direct sound, then some
/// reflections and a tail that falls by 60 dB in 0.2 s.
fn room(delay_ms: usize) -> Vec<(usize, f32)> {
    let direct = delay_ms * RATE / 1_000;
    let mut taps = vec![(direct, 0.5), (direct + 170, 0.22), (direct + 390, -0.15)];
    let tail = noise(90);
    for (n, sample) in tail.iter().enumerate() {
        let at = 500 + n * 97;
        let fallen = (-6.9 * at as f32 / (0.2 * RATE as f32)).exp();
        taps.push((direct + at, 0.12 * sample * fallen));
    }
    taps
}

fn through(room: &[(usize, f32)], played: &[f32]) -> Vec<f32> {
    let mut heard = vec![0.0; played.len()];
    for (delay, part) in room {
        for (to, from) in heard.iter_mut().skip(*delay).zip(played) {
            *to += part * from;
        }
    }
    heard
}

/// Runs a cleaner over what is heard, with what is played as its reference.
fn clean(parts: Parts, played: Option<&[f32]>, heard: &[f32]) -> Vec<f32> {
    let mut cleaner = cleaner(parts).unwrap();
    let block = |samples: &[f32]| <Block>::try_from(samples).unwrap();
    let mut out = Vec::with_capacity(heard.len());
    for (n, portion) in heard.chunks_exact(BLOCK).enumerate() {
        if let Some(played) = played {
            cleaner.played(&block(&played[n * BLOCK..(n + 1) * BLOCK]));
        }
        let mut portion = block(portion);
        cleaner.heard(&mut portion);
        out.extend_from_slice(&portion);
    }
    // where it belongs in time
    out.drain(..cleaner.delay());
    out
}

fn energy(samples: &[f32]) -> f32 {
    samples.iter().map(|sample| sample * sample).sum::<f32>() / samples.len().max(1) as f32
}

fn db(part: f32, whole: f32) -> f32 {
    10.0 * (part.max(1e-12) / whole.max(1e-12)).log10()
}

const ECHO: Parts = Parts {
    echo: true,
    noise: true,
    gain: false,
};

/// By how many dB the echo falls, once the room is learnt.
fn loss(delay_ms: usize, reference: bool) -> f32 {
    let far = voice("officer.mp4", 12);
    let echo = through(&room(delay_ms), &far);
    let out = clean(ECHO, reference.then_some(far.as_slice()), &echo);
    let learnt = 5 * RATE..out.len();
    db(energy(&echo[learnt.clone()]), energy(&out[learnt]))
}

#[test]
fn the_echo_of_the_loudspeaker_is_taken_out() {
    for delay_ms in [40, 80, 120] {
        let loss = loss(delay_ms, true);
        println!("echo return loss at {delay_ms} ms: {loss:.1} dB");
        assert!(loss >= 30.0, "{delay_ms} ms: {loss} dB");
    }
}

#[test]
fn without_the_reference_the_echo_stays() {
    let loss = loss(80, false);
    assert!(loss < 6.0, "{loss} dB");
}

/// How much of two sounds is in a third.
fn shares(of: &[f32], one: &[f32], other: &[f32]) -> (f64, f64) {
    let times = |a: &[f32], b: &[f32]| -> f64 {
        let pairs = a.iter().zip(b);
        pairs.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    let (aa, bb, ab) = (times(one, one), times(other, other), times(one, other));
    let (ya, yb) = (times(of, one), times(of, other));
    let whole = aa * bb - ab * ab;
    ((ya * bb - yb * ab) / whole, (yb * aa - ya * ab) / whole)
}

#[test]
fn who_speaks_at_the_same_time_is_still_heard() {
    let far = voice("officer.mp4", 16);
    let near = voice("citizen.mp4", 16);
    let mut echo = through(&room(80), &far);
    // four dB under the near voice
    let scale = (energy(&near) / energy(&echo) / 10.0_f32.powf(0.4)).sqrt();
    echo.iter_mut().for_each(|sample| *sample *= scale);
    // the room is learnt first, then both speak
    let near: Vec<f32> = (0..near.len())
        .map(|at| if at < 6 * RATE { 0.0 } else { near[at] })
        .collect();
    let both: Vec<f32> = echo.iter().zip(&near).map(|(a, b)| a + b).collect();
    // each alone through the same filters, to compare with
    let (voice, alone) = (clean(ECHO, None, &near), clean(ECHO, None, &echo));
    let spoken = 7 * RATE..15 * RATE;
    let heard = |reference: Option<&[f32]>| {
        let out = clean(ECHO, reference, &both);
        let level = db(energy(&out[spoken.clone()]), energy(&near[spoken.clone()]));
        let (near, echo) = shares(
            &out[spoken.clone()],
            &voice[spoken.clone()],
            &alone[spoken.clone()],
        );
        println!("double talk: level {level:.1} dB, near {near:.2}, echo {echo:.3}");
        (level, near, echo)
    };
    let (level, near, echo) = heard(Some(&far));
    assert!(level.abs() <= 3.5, "{level} dB");
    assert!(near > 0.5 && echo.abs() < 0.1, "near {near}, echo {echo}");
    // control: without the reference all of the echo is there
    let (_, near, echo) = heard(None);
    assert!(near > 0.9 && echo > 0.8, "near {near}, echo {echo}");
}

#[test]
fn steady_noise_falls_and_the_voice_stays() {
    let near = voice("citizen.mp4", 12);
    let hiss: Vec<f32> = noise(near.len()).iter().map(|s| s * 0.01).collect();
    let heard: Vec<f32> = near.iter().zip(&hiss).map(|(a, b)| a + b).collect();
    let parts = Parts {
        echo: false,
        ..ECHO
    };
    let alone = clean(parts, None, &hiss);
    let late = 4 * RATE..alone.len();
    let fallen = db(energy(&hiss[late.clone()]), energy(&alone[late.clone()]));
    assert!(fallen >= 6.0, "{fallen} dB");
    let out = clean(parts, None, &heard);
    let level = db(energy(&out[late.clone()]), energy(&near[late.clone()]));
    assert!(level.abs() <= 2.0, "{level} dB");
}

#[test]
fn a_quiet_voice_is_raised_and_a_loud_one_does_not_clip() {
    let near = voice("citizen.mp4", 16);
    let peak = near.iter().fold(0.0_f32, |peak, s| peak.max(s.abs()));
    let run = |factor: f32| {
        let heard: Vec<f32> = near.iter().map(|s| s * factor / peak).collect();
        let out = clean(Parts::ALL, None, &heard);
        let late = 10 * RATE..out.len();
        let top = out.iter().fold(0.0_f32, |peak, s| peak.max(s.abs()));
        (db(energy(&out[late.clone()]), energy(&heard[late])), top)
    };
    let (raised, _) = run(0.03);
    assert!(raised >= 10.0, "{raised} dB");
    let (_, top) = run(0.99);
    assert!(top <= 1.0, "{top}");
}

#[test]
fn the_delay_is_what_it_says() {
    // short bursts, which no noise suppression takes for noise
    let mut bursts = noise(6 * RATE);
    for (at, sample) in bursts.iter_mut().enumerate() {
        *sample *= if at / 4_800 % 7 == 0 { 0.2 } else { 0.0 };
    }
    let far = voice("officer.mp4", 6);
    for (echo, noise, played) in [
        (true, true, true),
        (true, true, false),
        (true, false, true),
        (false, true, false),
        (false, false, false),
    ] {
        let parts = Parts {
            echo,
            noise,
            gain: true,
        };
        let mut cleaner = cleaner(parts).unwrap();
        let mut out = Vec::new();
        for (portion, far) in bursts.chunks_exact(BLOCK).zip(far.chunks_exact(BLOCK)) {
            if played {
                cleaner.played(&Block::try_from(far).unwrap());
            }
            let mut block = Block::try_from(portion).unwrap();
            cleaner.heard(&mut block);
            out.extend_from_slice(&block);
        }
        let window = 3 * RATE..5 * RATE;
        let like = |delay: usize| -> f32 {
            let places = window.clone();
            places.map(|at| bursts[at] * out[at + delay]).sum()
        };
        let delay = (0..1_500)
            .max_by(|a, b| like(*a).total_cmp(&like(*b)))
            .unwrap();
        assert!(
            delay.abs_diff(cleaner.delay()) <= 8,
            "echo {echo}, noise {noise}, played {played}: {delay}, said {}",
            cleaner.delay()
        );
    }
}
