//! Speech and lips of the real clips, judged by what was recorded.

use suora_interop::figures::table;
use suora_interop::live::skies::{Measure, named};
use suora_interop::live::{Ask, Clips, Run, run};
use suora_interop::speech::{Speech, judge, python};

use crate::program;

/// Eight seconds of the real clips on a wire of 1 ms.
async fn talk(faults: &[&str]) -> Run {
    let ask = Ask {
        program: program().into(),
        python: python(),
        skies: named(&["clean".into()]).unwrap(),
        seconds: 8,
        runs: 1,
        keep: None,
        faults: faults.iter().map(ToString::to_string).collect(),
    };
    let clips = Clips::read().unwrap();
    run(&ask, &clips, &ask.skies[0], 1, &mut |_| ())
        .await
        .unwrap()
}

fn value(run: &Run, measure: Measure) -> f64 {
    let figure = run.figures.iter().find(|figure| figure.0 == measure.name());
    figure.unwrap().2
}

#[tokio::test(flavor = "multi_thread")]
async fn speech_is_as_it_was_spoken_and_lips_fit_it() {
    let _alone = crate::alone().await;
    let run = talk(&[]).await;
    assert!(value(&run, Measure::Stoi) >= 0.95, "{run:?}");
    assert!(value(&run, Measure::LipsMedian) <= 80.0, "{run:?}");
    assert!(value(&run, Measure::Pictures) > 5.0, "{run:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn speech_with_holes_and_lips_that_lag_miss_their_aims_by_name() {
    let _alone = crate::alone().await;
    let run = talk(&["silence-fifth", "shift-sound"]).await;
    assert!(value(&run, Measure::Stoi) < 0.9, "{run:?}");
    let lips = value(&run, Measure::LipsMedian);
    assert!((150.0..260.0).contains(&lips), "{run:?}");
    let missed = table(&[run.figures]).missed.join("\n");
    for measure in [Measure::Stoi, Measure::LipsMedian] {
        assert!(missed.contains(measure.name()), "{missed}");
    }
}

/// Numbers that look random, the same each time.
fn draw(state: &mut u32) -> u32 {
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    *state
}

#[test]
fn noise_and_shuffled_speech_are_not_intelligible_and_speech_itself_is() {
    let clips = Clips::read().unwrap();
    let (_, clip) = clips.of("officer");
    let judged = |heard: &[i16]| judge(&python(), &clip.spoken, heard).unwrap();
    let near = |speech: &Speech, lag: f64| {
        assert!(speech.lags.len() > 15, "{speech:?}");
        speech
            .lags
            .iter()
            .all(|found| (found.lag - lag).abs() < 2.0)
    };

    let itself = judged(&clip.spoken);
    assert!(
        itself.stoi > Some(0.999) && itself.lost_ms == 0.0,
        "{itself:?}"
    );
    assert!(near(&itself, 0.0));
    // 3 s later it is the same speech
    let late = judged(&[vec![0; 144_000], clip.spoken.clone()].concat());
    assert!(near(&late, 3_000.0), "{late:?}");

    let mut state = 7;
    let noise: Vec<i16> = clip
        .spoken
        .iter()
        .map(|_| (draw(&mut state) >> 19) as i16 - 4_096)
        .collect();
    let speech = judged(&noise);
    assert!(speech.stoi.is_none_or(|stoi| stoi < 0.7), "{speech:?}");

    let mut blocks: Vec<&[i16]> = clip.spoken.chunks_exact(960).collect();
    // each 200 ms in a random order
    for near in blocks.chunks_mut(10) {
        for at in 1..near.len() {
            near.swap(at, draw(&mut state) as usize % (at + 1));
        }
    }
    let speech = judged(&blocks.concat());
    assert!(speech.stoi.is_none_or(|stoi| stoi < 0.7), "{speech:?}");

    // a hole, and something else in its place
    let loud = clip.spoken.iter().map(|s| i64::from(s.unsigned_abs()));
    let loud: Vec<i64> = loud.collect();
    let power = |at: &usize| loud[*at..at + 24_000].iter().sum::<i64>();
    let at = (0..loud.len() - 24_000).step_by(4_800).max_by_key(power);
    let at = at.unwrap();
    for other in [vec![0; 24_000], noise[..24_000].to_vec()] {
        let mut heard = clip.spoken.clone();
        heard.splice(at..at + 24_000, other);
        let lost = judged(&heard).lost_ms;
        assert!((250.0..=750.0).contains(&lost), "{lost} of 500 ms");
    }

    let none = judged(&vec![0; 480_000]);
    assert_eq!(none, Speech::default());
}
