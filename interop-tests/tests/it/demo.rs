//! `suora demo`, as a person starts it: it works, and where a part is missing it says so
//! and fails. Its relay and its nodes are this crate's program, behind scripts.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use suora_interop::peer::Failure;
use suora_interop::recording;
use suora_node::capture::{file, mp4};
use tempfile::TempDir;
use tokio::process::Command;

use crate::program;

/// Longer than all waits of the demo together on a busy machine.
const LIMIT: Duration = Duration::from_secs(240);
/// How long the two talk.
const SECONDS: f64 = 3.0;
/// How much of it a recording may lack: the first picture, the last words.
const LACKS: f64 = 1.0;
/// Sound as loud as a voice.
const LOUD: i16 = 1_000;
/// What every PNG file begins with.
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";
/// A node without a camera: it is heard and not seen.
const OFFICER_WITHOUT_CAMERA: &str = r#"
role=$1
for argument; do
    shift
    if [ "$role" = officer ] && [ "$argument" = --camera ]; then
        set -- "$@" --camera none --mic
    else
        set -- "$@" "$argument"
    fi
done
"#;

/// A demo that has ended.
#[derive(Debug)]
struct Ended {
    dir: TempDir,
    succeeded: bool,
    stdout: String,
    stderr: String,
}

impl Ended {
    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join("demo").join(name)
    }

    fn report(&self, name: &str) -> Value {
        let text = std::fs::read_to_string(self.file(&format!("{name}.json"))).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    /// The lines that it ended with.
    fn last_lines(&self) -> Vec<&str> {
        let lines = self.stdout.lines().chain(self.stderr.lines());
        let lines: Vec<&str> = lines.filter(|line| !line.trim().is_empty()).collect();
        lines[lines.len().saturating_sub(12)..].to_vec()
    }
}

/// A script that does `first` and then becomes this crate's program as `what`.
async fn script(dir: &Path, what: &str, first: &str) -> Result<PathBuf, Failure> {
    let path = dir.join(what);
    let text = format!(
        "#!/bin/sh\n{first}\nexec '{}' {what} -- \"$@\"\n",
        program().display()
    );
    // written by another process: a file that this one holds open for writing, be it in a
    // child that another test is just starting, could not be run
    let written = Command::new("sh")
        .args(["-c", r#"printf %s "$1" >"$0" && chmod +x "$0""#])
        .args([path.as_os_str(), text.as_ref()])
        .status()
        .await
        .map_err(|error| error.to_string())?;
    if written.success() {
        Ok(path)
    } else {
        Err(format!("{}: {written}", path.display()))
    }
}

/// Runs the demo to its end; relay and nodes do `relay` and `node` first.
async fn demo(relay: &str, node: &str) -> Result<Ended, Failure> {
    let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
    let mut command = Command::new(program());
    command
        .args(["node", "--", "demo", "--seconds", &SECONDS.to_string()])
        .args(["--dir".as_ref(), dir.path().join("demo").as_os_str()]);
    for (option, what, first) in [("--relay", "relay", relay), ("--node", "node", node)] {
        let path = script(dir.path(), what, first).await?;
        command.args([option.as_ref(), path.as_os_str()]);
    }
    // tests read English
    command.env("LC_ALL", "C").stdin(Stdio::null());
    let output = tokio::time::timeout(LIMIT, command.kill_on_drop(true).output())
        .await
        .map_err(|_| format!("the demo did not end within {LIMIT:?}"))?
        .map_err(|error| error.to_string())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Ended {
        dir,
        succeeded: output.status.success(),
        stdout: text(&output.stdout),
        stderr: text(&output.stderr),
    })
}

/// What one end saw and heard, against its report.
fn recorded(ended: &Ended, name: &str) {
    let report = ended.report(name);
    let movie = ended.file(&format!("{name}-saw.mp4"));
    let pictures = recording::read(&movie).unwrap().pictures;
    let decoded = report["video"]["received"]["frames_decoded"].as_u64();
    assert_eq!(Some(pictures.len() as u64), decoded, "{name}: {report}");
    let good = pictures.iter().filter(|picture| picture.reading.is_some());
    assert_eq!(good.count(), pictures.len(), "{name}");
    let seen = pictures.last().map_or(0.0, |last| last.at) / 1_000.0;
    assert!(seen >= SECONDS - LACKS, "{name}: pictures for {seen} s");

    let movie = mp4::read(&file::bytes(&movie).unwrap()).unwrap();
    let sound = movie.sound.unwrap().decode().unwrap();
    let heard = sound.len() as f64 / 48_000.0;
    assert!(heard >= SECONDS - LACKS, "{name}: sound for {heard} s");
    let loudest = sound.iter().map(|sample| sample.saturating_abs()).max();
    assert!(loudest > Some(LOUD), "{name}: {loudest:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_demo_works_and_leaves_what_both_saw_and_both_reports() {
    let ended = demo("", "").await.unwrap();
    assert!(ended.succeeded, "{ended:?}");
    let steps: Vec<&str> = ended
        .stdout
        .lines()
        .filter_map(|line| line.strip_prefix('[')?.split_once("] "))
        .map(|(step, _)| step)
        .collect();
    assert_eq!(steps, ["1/6", "2/6", "3/6", "4/6", "5/6", "6/6"]);
    assert!(ended.stdout.contains("\nIt worked: "), "{ended:?}");
    for name in ["citizen", "officer"] {
        let report = ended.report(name);
        assert_eq!(report["role"], name);
        assert_eq!(report["outcome"], "completed", "{report}");
        assert_eq!(report["path"]["kind"], "direct", "{report}");
        for way in ["sent", "received"] {
            assert_eq!(report["chat"][way], 2, "{report}");
        }
        recorded(&ended, name);
        let sheet = std::fs::read(ended.file(&format!("{name}-saw.png"))).unwrap();
        assert!(sheet.starts_with(PNG), "{name}");
        // a sheet of one colour is far smaller
        assert!(sheet.len() > 20_000, "{name}: {} bytes", sheet.len());
        for end in ["-saw.mp4", "-saw.png", ".json"] {
            assert!(ended.stdout.contains(&format!("  {name}{end}\n")));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_demo_whose_relay_ends_at_once_fails_and_names_the_relay() {
    let ended = demo(r#"if [ "$1" = serve ]; then exit 0; fi"#, "")
        .await
        .unwrap();
    assert!(!ended.succeeded, "{ended:?}");
    assert!(!ended.stdout.contains("It worked"), "{ended:?}");
    assert!(ended.stdout.contains("[2/6]"), "{ended:?}");
    assert!(!ended.stdout.contains("[3/6]"), "{ended:?}");
    assert!(ended.stderr.contains("the relay ended"), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_demo_without_the_officers_picture_fails_and_names_the_citizens_picture() {
    let ended = demo("", OFFICER_WITHOUT_CAMERA).await.unwrap();
    // the rest worked: the citizen was seen, and heard the officer
    let (citizen, officer) = (ended.report("citizen"), ended.report("officer"));
    assert_eq!(citizen["outcome"], "completed", "{citizen}");
    assert_eq!(citizen["video"]["received"]["frames_decoded"], 0);
    assert!(citizen["audio"]["received"]["packets"].as_u64() > Some(50));
    assert!(officer["video"]["received"]["frames_decoded"].as_u64() > Some(30));

    assert!(!ended.succeeded, "{ended:?}");
    assert!(!ended.stdout.contains("It worked"), "{ended:?}");
    // in words for people: a file that could not be read is no answer
    let named = ended.last_lines().into_iter().any(|line| {
        let line = line.to_lowercase();
        line.contains("citizen") && line.contains("picture") && !line.contains(".mp4")
    });
    assert!(named, "{:#?}", ended.last_lines());
}
