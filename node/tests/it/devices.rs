//! The whole way of an echo: a voice is played by a loudspeaker, a microphone in the same
//! room hears it, and what leaves for the other end is measured. Both devices are made up
//! and keep real time.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use suora_node::capture::{self, Settings, Spec, file};
use suora_node::clock::Clock;
use suora_node::devices::Backend;
use suora_node::devices::choice::Wish;
use suora_node::devices::fake::Fake;
use suora_node::devices::reference::Reference;
use suora_node::play::speaker::Speaker;
use suora_node::worker::{Worker, mailbox};

/// Blocks of 20 ms: ten seconds.
const BLOCKS: u64 = 500;

/// The energy of each second of what leaves, in dB, while a voice is played.
fn leaves(clean: bool) -> Vec<f64> {
    let list = serde_json::json!({
        "microphones": [{
            "name": "Desk", "source": "silence", "clean": clean, "rate": 44_100,
            "hears": {"speaker": "Desk", "delay_ms": 40, "part": 0.5},
        }],
        "speakers": [{"name": "Desk", "buffer_ms": 30}],
    });
    let fake = Fake::new(serde_json::from_value(list).unwrap());
    let backend: Arc<dyn Backend> = Arc::new(fake);
    let settings = Settings {
        camera: Spec::None,
        mic: None,
        raw_mic: false,
        width: 640,
        height: 360,
        fps: 30,
    };
    let (clock, played) = (Clock::start(), Reference::default());
    let (notices, _told) = mailbox(16);
    let source = capture::open(&settings, &backend).unwrap();
    let mut capture = source.start(clock, &notices, &played).unwrap();
    let speaker = Speaker::start(Wish::Default, backend, clock, notices, played).unwrap();
    let clip = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/clips/officer.mp4");
    let voice = file::open(&clip, 30, true).unwrap().sound.unwrap();
    let out = speaker.out();
    let feeding = Worker::start("voice", move |stop| {
        let start = clock.now().mono;
        for block in 0..BLOCKS {
            let due = start + Duration::from_millis(20) * u32::try_from(block).unwrap();
            if stop.wait_until(due) {
                return;
            }
            out.play(&voice.block(block));
        }
    })
    .unwrap();
    let mut seconds = Vec::new();
    let (mut sum, mut count) = (0.0, 0_u32);
    for _ in 0..BLOCKS {
        let sound = capture.sounds.wait().unwrap();
        for sample in sound.samples {
            sum += (f64::from(sample) / 32_768.0).powi(2);
            count += 1;
        }
        if count >= 48_000 {
            seconds.push(10.0 * (sum / f64::from(count)).max(1e-10).log10());
            (sum, count) = (0.0, 0);
        }
    }
    drop((feeding, speaker, capture));
    seconds
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[test]
fn the_echo_of_our_own_loudspeaker_does_not_leave() {
    let (clean, raw) = (leaves(true), leaves(false));
    println!("what leaves, in dB a second: cleaned {clean:.0?}, raw {raw:.0?}");
    // the room is learnt within some seconds
    let late = |seconds: Vec<f64>| median(seconds.into_iter().skip(4).collect());
    let (clean, raw) = (late(clean), late(raw));
    // control: the way works, and the echo is loud without the canceller
    assert!(raw > -40.0, "{raw} dB");
    assert!(clean < raw - 15.0, "{clean} dB, raw {raw} dB");
}
