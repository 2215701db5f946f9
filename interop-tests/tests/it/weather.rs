//! Sound and picture on a bad network, on virtual time.

use std::time::Duration;

use suora_interop::weather::line::{Loss, Weather};
use suora_interop::weather::table::{Controller, Scene};

const S: fn(u64) -> Duration = Duration::from_secs;

#[test]
fn the_same_seed_gives_the_same_diary_and_another_one_another() {
    let diary = |seed| {
        let weather = Weather {
            jitter: Duration::from_millis(8),
            ..Weather::delay(40)
                .losing(Loss::Bursts(0.02, 0.5))
                .narrow(1_000_000)
        };
        let run = (Controller::Ours, seed);
        let mut scene = Scene::new(&weather, run, 1_000_000, |_| {}).unwrap();
        scene.net.run_to(S(10));
        let begin = scene.at(S(0));
        let diary = scene.diary(1);
        let heard = diary.heard.iter().map(|heard| heard.at.micros_since(begin));
        let shown = diary.shown.iter().map(|shown| shown.at.micros_since(begin));
        let heard: Vec<_> = heard.chain(shown).collect();
        let targets = scene.diary(0).targets.iter();
        let targets: Vec<_> = targets
            .map(|(at, target)| (at.micros_since(begin), *target))
            .collect();
        assert!(heard.len() > 600 && targets.len() > 5);
        (heard, targets)
    };
    assert_eq!(diary(1), diary(1));
    assert_ne!(diary(1), diary(2));
}
