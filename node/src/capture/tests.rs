//! Sources of sound and picture, as behaviours.

use super::*;
use crate::devices::State;
use crate::devices::fake::Fake;
use crate::devices::fake::list::Written;

fn settings(camera: Spec, mic: Option<Spec>) -> Settings {
    Settings {
        camera,
        mic,
        raw_mic: false,
        width: 128,
        height: 96,
        fps: 25,
    }
}

fn open(settings: &Settings) -> Result<Source, Fault> {
    super::open(settings, &nobody())
}

/// A machine without devices.
fn nobody() -> Arc<dyn Backend> {
    Arc::new(crate::devices::fake::Fake::new(Default::default()))
}

fn start(source: &Source) -> Capture {
    let (notices, _) = mailbox(8);
    source
        .start(Clock::start(), &notices, &Reference::default())
        .unwrap()
}

#[test]
fn numbers_are_due_without_drift() {
    for fps in [1, 7, 24, 25, 30, 60] {
        for n in [0, 1, 2, 29, 30, 1_000, 86_400 * 60] {
            assert_eq!(latest(due(n, fps), fps), n);
            assert_eq!(latest(due(n + 1, fps) - Duration::from_nanos(1), fps), n);
        }
        assert_eq!(due(u64::from(fps) * 3_600, fps), Duration::from_secs(3_600));
    }
}

#[test]
fn late_pictures_are_left_out() {
    let ms = Duration::from_millis;
    assert_eq!(next(0, ms(1), 25), 1);
    assert_eq!(next(0, ms(39), 25), 1);
    assert_eq!(next(0, ms(130), 25), 3);
    assert_eq!(next(5, ms(130), 25), 6);
}

#[test]
fn specs_are_read() {
    assert_eq!("none".parse(), Ok(Spec::None));
    assert_eq!("pattern".parse(), Ok(Spec::Pattern));
    for file in ["a.mp4", "A.WAV", "clips/sound", "./camera"] {
        assert_eq!(file.parse(), Ok(Spec::File(file.into())));
    }
    assert_eq!("default".parse(), Ok(Spec::Device(Wish::Default)));
    for name in ["Integrated Camera", "logi", "/dev/video0", "USB 2.0"] {
        assert_eq!(name.parse(), Ok(Spec::Device(Wish::Name(name.into()))));
    }
}

#[test]
fn sizes_and_rates_out_of_range_are_refused() {
    for (width, height, fps) in [
        (127, 96, 25),
        (128, 95, 25),
        (32, 96, 25),
        (8_000, 96, 25),
        (128, 96, 0),
        (128, 96, 61),
    ] {
        let settings = Settings {
            width,
            height,
            fps,
            ..settings(Spec::Pattern, None)
        };
        assert_eq!(open(&settings).unwrap_err().code, Code::BadConfig);
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let fault = open(&settings(Spec::File("no-such.mp4".into()), None)).unwrap_err();
    assert_eq!(fault.code, Code::BadMediaFile);
    assert!(fault.detail.unwrap().contains("no-such.mp4"));
}

#[test]
fn without_camera_and_microphone_both_ends_are_closed() {
    let source = open(&settings(Spec::None, Some(Spec::None))).unwrap();
    assert!(!source.has_video() && !source.has_audio());
    let mut capture = start(&source);
    assert_eq!(capture.pictures.wait(), None);
    assert_eq!(capture.sounds.wait(), None);
}

#[test]
fn the_pattern_runs_in_real_time_and_stops() {
    let clock = Clock::start();
    let source = open(&settings(Spec::Pattern, None)).unwrap();
    let Capture {
        pictures,
        mut sounds,
        running,
    } = start(&source);
    let first = pictures.wait().unwrap();
    let begin = first.captured;
    let mut seen = Vec::new();
    for _ in 0..5 {
        let picture = pictures.wait().unwrap();
        let reading = pattern::read(128, 96, &picture.data);
        let number = u64::from(reading.counter.unwrap());
        assert_eq!(picture.captured, begin + due(number, 25));
        assert!(clock.now().utc >= picture.captured);
        seen.push(number);
    }
    assert!(seen.is_sorted());
    let sound = sounds.wait().unwrap();
    assert_eq!((sound.captured, sound.samples.len()), (begin, 960));
    drop(running);
    while sounds.wait().is_some() {}
    pictures.take();
    assert_eq!(pictures.wait(), None);
}

const LIST: &str = r#"{
    "cameras": [{"name": "Front"}, {"name": "Back"}],
    "microphones": [{"name": "Headset", "rate": 44100}, {"name": "Desk", "rate": 16000}]
}"#;

fn fakes(list: &str) -> Arc<Fake> {
    Arc::new(Fake::new(serde_json::from_str(list).unwrap()))
}

fn on(fakes: &Arc<Fake>, camera: &str, mic: Option<&str>) -> Result<Source, Fault> {
    let backend: Arc<dyn Backend> = fakes.clone();
    let spec = |text: &str| text.parse::<Spec>().unwrap();
    super::open(&settings(spec(camera), mic.map(spec)), &backend)
}

/// What was said, until the last of these words.
fn said(notices: &mut Mailbox<Notice>, last: &str) -> Vec<String> {
    let mut said = Vec::new();
    while said.last().map(String::as_str) != Some(last) {
        let Notice {
            kind, said: what, ..
        } = notices.wait().unwrap();
        said.push(format!(
            "{kind:?} {:?} {}",
            what.state,
            what.name.unwrap_or_default()
        ));
    }
    said
}

#[test]
fn a_device_is_found_by_a_part_of_its_name_and_an_unknown_one_lists_all() {
    let fakes = fakes(LIST);
    let source = on(&fakes, "bac", None).unwrap();
    let found: Vec<_> = source
        .devices()
        .iter()
        .map(|notice| notice.said.name.as_deref())
        .collect();
    assert_eq!(found, [Some("Back"), Some("Headset")]);
    let fault = on(&fakes, "Side", None).unwrap_err();
    assert_eq!(fault.code, Code::BadConfig);
    let detail = fault.detail.unwrap();
    assert!(
        detail.contains("Front") && detail.contains("Back"),
        "{detail}"
    );
}

#[test]
fn without_a_camera_it_is_voice_only() {
    let fakes = fakes(r#"{"microphones": [{"name": "Headset"}]}"#);
    let source = on(&fakes, "default", None).unwrap();
    assert!(!source.has_video() && source.has_audio());
    assert_eq!(source.devices()[0].said.state, State::Missing);
}

#[test]
fn a_camera_gives_pictures_in_the_size_asked_for_and_sound_comes_in_20_ms() {
    let source = on(&fakes(LIST), "front", Some("desk")).unwrap();
    let (notices, mut told) = mailbox(8);
    let clock = Clock::start();
    let mut capture = source
        .start(clock, &notices, &Reference::default())
        .unwrap();
    let picture = capture.pictures.wait().unwrap();
    assert_eq!((picture.width, picture.height), (128, 96));
    assert!(pattern::read(128, 96, &picture.data).counter.is_some());
    let age = clock.now().utc.micros_since(picture.captured);
    assert!((0..5_000_000).contains(&age), "{age}");
    // 16 kHz became 48 kHz, stamped without holes
    let blocks: Vec<_> = (0..10).map(|_| capture.sounds.wait().unwrap()).collect();
    for pair in blocks.windows(2) {
        assert_eq!(pair[0].samples.len(), SOUND_FRAME);
        let step = pair[1].captured.micros_since(pair[0].captured);
        assert!((18_000..22_000).contains(&step), "{step}");
    }
    let mut first = said(&mut told, "Microphone Using Desk");
    first.sort();
    assert!(
        first.contains(&"Microphone Using Desk".to_string()),
        "{first:?}"
    );
}

#[test]
fn a_microphone_that_is_pulled_out_is_replaced_and_taken_up_again() {
    let fakes = fakes(LIST);
    let source = on(&fakes, "none", Some("headset")).unwrap();
    let (notices, mut told) = mailbox(32);
    let mut capture = source
        .start(Clock::start(), &notices, &Reference::default())
        .unwrap();
    assert_eq!(said(&mut told, "Microphone Using Headset").len(), 1);
    let mut without: Written = serde_json::from_str(LIST).unwrap();
    without.microphones.remove(0);
    fakes.set(without);
    assert_eq!(
        said(&mut told, "Microphone Using Desk"),
        ["Microphone Lost Headset", "Microphone Using Desk"]
    );
    while capture.sounds.take().is_some() {}
    assert!(capture.sounds.wait().is_some());
    fakes.set(Written::default());
    assert_eq!(
        said(&mut told, "Microphone Missing "),
        ["Microphone Lost Desk", "Microphone Missing "]
    );
    fakes.set(serde_json::from_str(LIST).unwrap());
    assert_eq!(said(&mut told, "Microphone Using Headset").len(), 1);
    while capture.sounds.take().is_some() {}
    assert!(capture.sounds.wait().is_some());
}

#[test]
fn a_device_that_gives_nothing_is_broken_and_the_next_is_used() {
    // the second one's driver hangs as well when it is closed
    let fakes = fakes(
        r#"{"cameras": [{"name": "Dead", "answer": "silent"}, {"name": "Front"}],
            "microphones": [{"name": "Stuck", "answer": "stuck"}, {"name": "Desk"}]}"#,
    );
    for (camera, mic, kind, dead, next) in [
        ("default", "none", "Camera", "Dead", "Front"),
        ("none", "default", "Microphone", "Stuck", "Desk"),
    ] {
        let source = on(&fakes, camera, Some(mic)).unwrap();
        let (notices, mut told) = mailbox(8);
        let clock = Clock::start();
        let mut capture = source
            .start(clock, &notices, &Reference::default())
            .unwrap();
        assert_eq!(
            said(&mut told, &format!("{kind} Using {next}")),
            [
                format!("{kind} Using {dead}"),
                format!("{kind} Broken {dead}"),
                format!("{kind} Using {next}")
            ]
        );
        if mic == "none" {
            assert!(capture.pictures.wait().is_some());
        } else {
            assert!(capture.sounds.wait().is_some());
        }
        let ending = clock.now().mono;
        drop(capture);
        let took = clock.now().mono.saturating_duration_since(ending);
        assert!(took < Duration::from_secs(10), "{took:?}");
    }
}
