//! A long consultation of real processes: memory stays, delays do not grow, nothing drifts.

pub mod trend;

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::{Value, json};
use suora_node::clock::Clock;

use self::trend::{Series, WARM_UP, beyond, flat, minutes, steady};
use crate::live::Clips;
use crate::peer::{Failure, Process};
use crate::rig::{Plan, Rig, STEP};
use crate::weather::line::{Loss, Weather};

/// Memory is looked at each so many seconds.
const EVERY: u32 = 10;
/// Most speech that may be made up in a minute, on the mean, in ms: where nothing is lost, and
/// where packets are, 0.3 %.
const CONCEALED: [f64; 2] = [60.0, 180.0];
/// One way, where packets are lost.
const AWAY: u64 = 20;
/// Least pictures a second, at the median of all minutes.
const PICTURES: f64 = 28.0;
/// The shortest that a verdict can be made of, in minutes: two minutes after the warm-up.
pub const SHORTEST: u32 = 4;

/// What to run.
#[derive(Clone, Debug)]
pub struct Ask {
    /// This crate's program.
    pub program: PathBuf,
    /// How long, in minutes, from [`SHORTEST`] on.
    pub minutes: u32,
    /// Packets that are lost, in per cent; with any, the ends are 20 ms apart.
    pub loss: u8,
    /// Where all that was measured is written, as JSON.
    pub out: Option<PathBuf>,
}

/// What was measured of one process.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Measured {
    /// Whose.
    pub name: &'static str,
    /// Its memory (resident set), in MiB.
    pub memory: Series,
    /// What comes of a consultation's ends only.
    pub talk: Option<Talk>,
}

/// What one end saw and heard, second by second.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Talk {
    /// Capture to loudspeaker, in ms.
    pub sound_delay: Series,
    /// Capture to screen, in ms.
    pub picture_delay: Series,
    /// Speech made up in each second, in ms.
    pub concealed: Series,
    /// Pictures a second.
    pub pictures: Series,
}

impl Talk {
    /// Takes the figures of a second.
    fn take(&mut self, at: f64, stats: &Value) {
        for (series, pointer) in [
            (&mut self.sound_delay, "/sound/delay_ms"),
            (&mut self.picture_delay, "/latency_ms"),
            (&mut self.concealed, "/sound/concealed_ms"),
            (&mut self.pictures, "/fps"),
        ] {
            if let Some(value) = stats.pointer(pointer).and_then(Value::as_f64) {
                series.push((at, value));
            }
        }
    }
}

/// The memory of a process, in MiB.
pub(crate) fn memory(process: &Process) -> Result<f64, Failure> {
    let id = process.id().ok_or("it has ended")?;
    let path = format!("/proc/{id}/status");
    let status = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    let kib = resident(&status).ok_or_else(|| format!("{path} says no memory"))?;
    Ok(kib / 1_024.0)
}

/// The resident set of `/proc/PID/status`, in KiB.
fn resident(status: &str) -> Option<f64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// All that does not hold of what was measured, where packets were `lost` or not.
pub fn faults(all: &[Measured], lost: bool) -> Vec<String> {
    let most = CONCEALED[usize::from(lost)];
    let mut faults = Vec::new();
    for Measured { name, memory, talk } in all {
        faults.extend(flat(&format!("memory of the {name}, MiB"), memory));
        let Some(talk) = talk else { continue };
        let what = |what: &str| format!("{what} at the {name}, ms");
        faults.extend(steady(&what("mouth to ear"), &talk.sound_delay));
        faults.extend(steady(&what("picture latency"), &talk.picture_delay));
        let concealed = 60.0 * mean(&talk.concealed);
        if beyond(concealed, most) {
            faults.push(format!(
                "{}: {concealed:.0} a minute, should be ≤ {most}",
                what("speech made up")
            ));
        }
        let pictures = mean(&talk.pictures);
        if beyond(-pictures, -PICTURES) {
            faults.push(format!(
                "pictures a second at the {name}: {pictures:.1}, should be ≥ {PICTURES}"
            ));
        }
    }
    faults
}

/// The mean after the warm-up; not a number where there is nothing.
fn mean(series: &Series) -> f64 {
    let late = series.iter().filter(|(at, _)| *at >= WARM_UP.as_secs_f64());
    let (sum, count) = late.fold((0.0, 0_u32), |(sum, count), (_, value)| {
        (sum + value, count + 1)
    });
    sum / f64::from(count)
}

/// What was measured, by minute, for people and programs.
fn table(all: &[Measured], faults: &[String]) -> Value {
    let process = |measured: &Measured| {
        let mut value = json!({
            "process": measured.name,
            "memory_mib": minutes(&measured.memory),
        });
        if let Some(talk) = &measured.talk {
            value["mouth_to_ear_ms"] = json!(minutes(&talk.sound_delay));
            value["picture_latency_ms"] = json!(minutes(&talk.picture_delay));
            value["concealed_ms_a_minute"] = json!(60.0 * mean(&talk.concealed));
            value["pictures_a_second"] = json!(minutes(&talk.pictures));
        }
        value
    };
    json!({
        "warm_up_s": WARM_UP.as_secs(),
        "by_minute_after_the_warm_up": all.iter().map(process).collect::<Vec<_>>(),
        "faults": faults,
    })
}

/// Runs the consultation and prints what was measured; an error names what does not hold.
pub async fn print(ask: &Ask) -> Result<(), Failure> {
    let clips = Clips::read()?;
    let minutes = ask.minutes.max(SHORTEST);
    // a little more, so that the last minute is a whole one
    let seconds = minutes * 60 + 5;
    let lost = ask.loss > 0;
    let network = match ask.loss {
        0 => "loopback".to_owned(),
        loss => format!("a wire of {AWAY} ms that loses {loss} % of the packets"),
    };
    println!("A consultation of {minutes} minutes on {network}, nothing recorded");
    let loss = Loss::Random(f64::from(ask.loss) / 100.0);
    let weather = lost.then(|| Weather::delay(AWAY).losing(loss));
    let all = measure(&ask.program, &clips, seconds, weather.as_ref()).await?;
    let faults = faults(&all, lost);
    let table = table(&all, &faults);
    let text = serde_json::to_string_pretty(&table).map_err(|error| error.to_string())?;
    println!("{text}");
    if let Some(out) = &ask.out {
        std::fs::write(out, text).map_err(|error| format!("{}: {error}", out.display()))?;
    }
    crate::figures::judged(&faults)
}

async fn measure(
    program: &Path,
    clips: &Clips,
    seconds: u32,
    weather: Option<&Weather>,
) -> Result<Vec<Measured>, Failure> {
    let camera = |name: &str| clips.of(name).0.display().to_string();
    let (own, other, text) = (camera("citizen"), camera("officer"), seconds.to_string());
    let plan = Plan {
        officer: &["--auto-accept", "--bitrate", "600", "--camera", &other],
        citizen: &["--bitrate", "600", "--camera", &own, "--seconds", &text],
        unrecorded: true,
        weather: weather.map(|weather| (weather, 1)),
        ..Plan::default()
    };
    let clock = Clock::start();
    let mut rig = Rig::start(program, plan).await?;
    rig.both("accepted").await?;
    let end = |name| Measured {
        name,
        talk: Some(Talk::default()),
        ..Measured::default()
    };
    let mut all = [
        Measured {
            name: "relay",
            ..Measured::default()
        },
        end("officer"),
        end("citizen"),
    ];
    // by the clock: a busy node leaves out a second of figures
    let begin = clock.now().mono;
    let (mut look, mut told) = (f64::from(EVERY), 0);
    loop {
        let mut over = false;
        for (peer, measured) in [&mut rig.officer, &mut rig.citizen]
            .into_iter()
            .zip(&mut all[1..])
        {
            let next = peer.until("the figures of a second", STEP, |view| {
                view["view"] == "stats" || view["view"] == "report"
            });
            let view = next.await?;
            let at = since(begin, clock.now().mono);
            over |= view["view"] == "report";
            if let Some(talk) = &mut measured.talk {
                talk.take(at, &view);
            }
            // half an hour of views is nothing to keep
            peer.seen.clear();
        }
        if over {
            break;
        }
        let at = since(begin, clock.now().mono);
        if at >= look {
            look += f64::from(EVERY);
            let processes = [&rig.relay, &rig.officer.process, &rig.citizen.process];
            for (process, measured) in processes.into_iter().zip(&mut all) {
                measured.memory.push((at, memory(process)?));
            }
        }
        tell(at as u32, seconds, &mut told);
    }
    rig.reports().await?;
    Ok(all.into())
}

fn since(begin: Instant, now: Instant) -> f64 {
    now.saturating_duration_since(begin).as_secs_f64()
}

/// Shows progress: at a terminal each second, elsewhere each minute.
fn tell(second: u32, of: u32, told: &mut u32) {
    let (minute, all) = (second / 60, of / 60);
    if std::io::stderr().is_terminal() {
        eprint!("\r  {minute} of {all} min ");
        let _ = std::io::stderr().flush();
    } else if minute > *told {
        eprintln!("  {minute} of {all} min");
    }
    *told = minute;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten minutes in which all holds.
    fn good() -> Vec<Measured> {
        let series = |value: f64| {
            (1..=605)
                .map(|at| (f64::from(at), value))
                .collect::<Series>()
        };
        let end = |name| Measured {
            name,
            memory: series(50.0),
            talk: Some(Talk {
                sound_delay: series(80.0),
                picture_delay: series(60.0),
                concealed: series(0.0),
                pictures: series(30.0),
            }),
        };
        let relay = Measured {
            name: "relay",
            memory: series(20.0),
            talk: None,
        };
        vec![relay, end("officer"), end("citizen")]
    }

    fn only(all: &[Measured], what: &str) {
        let faults = faults(all, false);
        assert!(
            !faults.is_empty() && faults.iter().all(|fault| fault.contains(what)),
            "{faults:?}"
        );
    }

    #[test]
    fn each_leak_and_each_drift_is_named_and_a_good_run_has_no_fault() {
        assert_eq!(faults(&good(), false), Vec::<String>::new());
        for (number, name) in [(0, "relay"), (1, "officer"), (2, "citizen")] {
            let mut leaks = good();
            for (at, value) in &mut leaks[number].memory {
                *value *= 1.0 + 0.01 * *at / 60.0;
            }
            only(&leaks, &format!("memory of the {name}"));
        }
        let spoil = |spoil: fn(&mut Talk)| {
            let mut all = good();
            all[2].talk.as_mut().map(spoil);
            all
        };
        only(
            &spoil(|talk| {
                talk.sound_delay
                    .iter_mut()
                    .for_each(|(at, value)| *value += *at * 0.1)
            }),
            "mouth to ear at the citizen",
        );
        only(
            &spoil(|talk| {
                talk.picture_delay
                    .iter_mut()
                    .for_each(|(at, value)| *value += *at * 0.1)
            }),
            "picture latency at the citizen",
        );
        let made = spoil(|talk| talk.concealed.iter_mut().for_each(|second| second.1 = 2.0));
        only(&made, "speech made up at the citizen");
        // 120 ms a minute: more than without loss, less than 0.3 %
        assert_eq!(faults(&made, true), Vec::<String>::new());
        only(
            &spoil(|talk| talk.pictures.clear()),
            "pictures a second at the citizen",
        );
    }

    #[test]
    fn a_second_without_a_figure_is_left_out() {
        let mut talk = Talk::default();
        talk.take(
            1.0,
            &json!({"fps": 30.0, "latency_ms": null, "sound": {"delay_ms": 80.0}}),
        );
        assert_eq!(talk.pictures, [(1.0, 30.0)]);
        assert_eq!(talk.sound_delay, [(1.0, 80.0)]);
        assert!(talk.picture_delay.is_empty() && talk.concealed.is_empty());
    }

    #[test]
    fn memory_is_read_out_of_the_status_of_a_process() {
        let status = "Name:\tsuora\nVmHWM:\t 9 kB\nVmRSS:\t   52224 kB\nThreads:\t9\n";
        assert_eq!(resident(status), Some(52_224.0));
        assert_eq!(resident("Name:\tsuora\n"), None);
    }
}
