//! The evidence behind the ladder and the encoder's own rate control: the sample clips, or
//! the media files in `SUORA_CLIPS` (names with `:` between), at sizes, rates and targets.
//! PSNR is of luma against the source, the decoded picture scaled back to its size.

use std::path::PathBuf;

use suora_node::capture::file;
use suora_node::decode::h264::Decoder;
use suora_node::encode::h264::codec::{Codec, Planes};
use suora_node::encode::h264::quantiser::keyframe_most;
use suora_node::fit::{Frame, Shrink};
use suora_protocol::time::Timestamp;

/// Pictures of a clip that are looked at.
const COUNT: u64 = 125;
const FPS: u32 = 25;

fn main() {
    let names = std::env::var("SUORA_CLIPS").unwrap_or_else(|_| {
        let clips = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/clips/");
        format!("{clips}officer.mp4:{clips}citizen.mp4")
    });
    for name in names.split(':') {
        let path = PathBuf::from(name);
        match pictures(&path) {
            Ok(clip) => {
                let (width, height) = (clip[0].width, clip[0].height);
                println!(
                    "{} {width}x{height}",
                    path.file_name().unwrap_or_default().display()
                );
                ladder(&clip);
                control(&clip);
            }
            Err(fault) => println!("{name}: {fault}"),
        }
    }
}

fn pictures(path: &std::path::Path) -> Result<Vec<Frame>, suora_protocol::fault::Fault> {
    let media = file::open(path, FPS, false)?;
    let clip = media
        .pictures
        .ok_or_else(|| file::bad(path, "has no pictures"))?;
    let mut reader = clip.reader()?;
    Ok((0..COUNT)
        .filter_map(|n| reader.at(n * 1_000_000 / u64::from(FPS)).cloned())
        .collect())
}

/// What a target in bits a second makes of a clip.
struct Run {
    /// Decibel.
    psnr: f64,
    /// Bytes of each picture, and whether it is a keyframe.
    sizes: Vec<(f64, usize, bool)>,
}

fn run(clip: &[Frame], size: (u32, u32), every: usize, target: u32, keyframes: &[usize]) -> Run {
    let source = (clip[0].width, clip[0].height);
    let at = |n: usize| Timestamp::from_micros(n as i64 * 1_000_000 / i64::from(FPS));
    let fps = f64::from(FPS) / every as f64;
    let mut codec = Codec::new(size, FPS, at(0)).expect("a codec");
    let mut decoder = Decoder::new().expect("a decoder");
    let (mut down, mut up) = (Shrink::default(), Shrink::default());
    let (mut sum, mut count, mut sizes) = (0.0, 0, Vec::new());
    for (n, frame) in clip.iter().enumerate().step_by(every) {
        let data = if size == source {
            &frame.data
        } else {
            down.shrink(&frame.data, source, size)
        };
        let (width, height) = size;
        let planes = Planes {
            width,
            height,
            data,
        };
        if codec.is_full(at(n), target) {
            continue;
        }
        let unit = codec
            .encode(planes, at(n), (target, fps), keyframes.contains(&n))
            .expect("a picture");
        sizes.push((n as f64 / f64::from(FPS), unit.data.len(), unit.keyframe));
        let picture = decoder
            .decode(&unit.data, unit.keyframe)
            .ok()
            .flatten()
            .expect("decoded")
            .frame();
        let data = if size == source {
            &picture.data
        } else {
            up.shrink(&picture.data, size, source)
        };
        let luma = source.0 as usize * source.1 as usize;
        let error: u64 = frame.data[..luma]
            .iter()
            .zip(&data[..luma])
            .map(|(a, b)| u64::from(a.abs_diff(*b)).pow(2))
            .sum();
        // the first half second refines the first keyframe
        if n > 12 {
            sum += 10.0 * (65_025.0 * luma as f64 / error.max(1) as f64).log10();
            count += 1;
        }
    }
    Run {
        psnr: sum / f64::from(count.max(1)),
        sizes,
    }
}

/// Sizes beside each other at one target.
fn ladder(clip: &[Frame]) {
    let (width, height) = (clip[0].width, clip[0].height);
    let heights: Vec<u32> = [720, 540, 360, 270, 180]
        .into_iter()
        .filter(|h| *h <= height)
        .collect();
    print!("  PSNR, dB    ");
    for h in &heights {
        print!("{:>9}p/25 {:>5}/12", h, "");
    }
    println!();
    for target in [
        50_000, 75_000, 100_000, 150_000, 200_000, 250_000, 300_000, 400_000, 600_000, 800_000,
        1_200_000, 1_600_000,
    ] {
        print!("  {:>5} kbit/s", target / 1_000);
        for h in &heights {
            let size = (width * h / height / 2 * 2, *h);
            for every in [1, 2] {
                let made = run(clip, size, every, target, &[]);
                let bytes: usize = made.sizes.iter().map(|(_, bytes, _)| bytes).sum();
                let over = bytes as f64 * 8.0 / (COUNT as f64 / f64::from(FPS)) / f64::from(target);
                // more bits than the target: this size cannot be had for it
                let mark = if over > 1.05 { "!" } else { " " };
                print!("{:>8.2}{mark}", made.psnr);
            }
        }
        println!();
    }
}

/// How the target is held.
fn control(clip: &[Frame]) {
    let (width, height) = (clip[0].width, clip[0].height);
    println!("  size        target  second, % of target   largest  left   keyframes, kB");
    println!("                      least   most           ÷ mean   out   of at most");
    for (h, every, target) in [
        (720, 1, 1_500_000),
        (540, 1, 800_000),
        (360, 1, 1_000_000),
        (360, 1, 600_000),
        (360, 1, 300_000),
        (270, 1, 200_000),
        (180, 2, 100_000),
        (180, 2, 60_000),
    ] {
        if h > height {
            continue;
        }
        let size = (width * h / height / 2 * 2, h);
        let made = run(clip, size, every, target, &[60]);
        let second = |from: f64| {
            let bytes: usize = made
                .sizes
                .iter()
                .filter(|(at, ..)| (from..from + 1.0).contains(at))
                .map(|(_, bytes, _)| bytes)
                .sum();
            bytes as f64 * 800.0 / f64::from(target)
        };
        // without the seconds of the two keyframes
        let seconds: Vec<f64> = [1.0, 1.2, 3.5, 3.6, 3.7, 3.8, 3.9, 4.0].map(second).into();
        let others: Vec<f64> = made
            .sizes
            .iter()
            .filter(|(.., keyframe)| !keyframe)
            .map(|(_, bytes, _)| *bytes as f64)
            .collect();
        let mean = others.iter().sum::<f64>() / others.len() as f64;
        let keys: Vec<String> = made
            .sizes
            .iter()
            .filter(|(.., keyframe)| *keyframe)
            .map(|(_, bytes, _)| format!("{:.1}", *bytes as f64 / 1_000.0))
            .collect();
        println!(
            "  {:>4}x{:<4} {:>7} {:>8.0} {:>6.0} {:>14.2} {:>5}   {} of {:.1}",
            size.0,
            size.1,
            target / 1_000,
            seconds.iter().copied().fold(f64::INFINITY, f64::min),
            seconds.iter().copied().fold(0.0, f64::max),
            others.iter().copied().fold(0.0, f64::max) / mean,
            clip.len().div_ceil(every) - made.sizes.len(),
            keys.join(" "),
            keyframe_most(size.0 * size.1, target) as f64 / 1_000.0,
        );
    }
}
