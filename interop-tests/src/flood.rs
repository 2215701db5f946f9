//! DOOR: strangers. While two people talk and others wait, machines that nobody knows throw all
//! that they can at every listener of the relay and of the nodes ([`strangers`]), and what the
//! honest ones notice of it is measured: gaps, places, answers, memory.
#![expect(clippy::disallowed_methods, reason = "door: sockets and clock")]

mod bad;
pub mod initial;
mod key;
pub mod strangers;
mod windows;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use suora_node::command::demo::free_port;
use suora_node::intent::Intent;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::peer::{Agency, DESK, Failure, Peer, Process};
use crate::rig::STEP;
use crate::soak::memory;
use strangers::{Strangers, Tally, Targets};

/// The desk where people wait and nobody serves.
const QUEUE: &str = "queue";
/// The desk where a hostile citizen gets an invite.
const TRAP: &str = "trap";
/// Most that a process may grow in a flood, in MiB.
const GROWTH: f64 = 32.0;
/// A second in which so much speech was made up, in ms, has a gap.
const GAP: f64 = 200.0;
/// Most seconds with a gap, of a hundred: the machine is shared with the strangers.
const GAPS: f64 = 5.0;
/// Longest that an honest question of the relay's health may take, and a newcomer's ticket.
const ANSWER: Duration = Duration::from_secs(10);
/// Before the flood, so that codecs and caches have their memory.
const WARM_UP: u32 = 6;

/// What to run.
#[derive(Clone, Debug)]
pub struct Ask {
    /// This crate's program.
    pub program: PathBuf,
    /// How long the flood lasts, in seconds.
    pub seconds: u32,
    /// How hard: 1 is what a small machine can throw.
    pub strength: u32,
    /// Rules that the relay breaks, to see that it is noticed.
    pub faults: Vec<String>,
}

/// A process in the flood.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Memory {
    /// Whose.
    pub name: &'static str,
    /// Before the flood, in MiB.
    pub before: f64,
    /// The most in it.
    pub most: f64,
}

/// What was measured.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Figures {
    /// How long the flood lasted, in seconds.
    pub seconds: u32,
    /// What the strangers did and met.
    pub tally: Tally,
    /// The relay and the nodes.
    pub memory: Vec<Memory>,
    /// Seconds of sound at both ends, and those with a gap.
    pub heard: (u32, u32),
    /// Positions that those who waited were shown during the flood, beside their own.
    pub moved: Vec<u64>,
    /// Whether those who waited lost their link.
    pub unlinked: u32,
    /// Questions of the relay's health that were answered, of all, and the slowest, in ms.
    pub health: (u32, u32, u64),
    /// Where an honest newcomer waited, and after how many ms it knew.
    pub newcomer: Option<(u64, u64)>,
    /// Whether the consultation completed at both ends.
    pub completed: bool,
}

/// All that does not hold.
pub fn faults(figures: &Figures) -> Vec<String> {
    let mut faults = Vec::new();
    for Memory { name, before, most } in &figures.memory {
        let grew = most - before;
        if grew.is_nan() || grew > GROWTH {
            faults.push(format!(
                "memory of the {name} grew by {grew:.1} MiB, should be ≤ {GROWTH}"
            ));
        }
    }
    let (seconds, gaps) = figures.heard;
    let most = f64::from(seconds) * GAPS / 100.0;
    if seconds == 0 || f64::from(gaps) > most.max(1.0) {
        faults.push(format!("{gaps} of {seconds} seconds of sound had a gap"));
    }
    if !figures.moved.is_empty() {
        faults.push(format!("places moved: {:?}", figures.moved));
    }
    if figures.unlinked > 0 {
        faults.push(format!("{} who waited lost the link", figures.unlinked));
    }
    let (answered, asked, slowest) = figures.health;
    if asked == 0 || answered < asked || u128::from(slowest) > ANSWER.as_millis() {
        faults.push(format!(
            "the relay's health: {answered} of {asked} answers, the slowest after {slowest} ms"
        ));
    }
    match figures.newcomer {
        // two wait, and the strangers' prefix has its bound
        Some((position, ms)) if position <= 2 + 256 && u128::from(ms) <= ANSWER.as_millis() => {}
        other => faults.push(format!("an honest newcomer waited at {other:?}")),
    }
    if !figures.completed {
        faults.push("the consultation did not complete".into());
    }
    faults.extend(figures.tally.idle());
    faults
}

/// Runs the flood and prints what was measured; an error names what does not hold.
pub async fn print(ask: &Ask) -> Result<(), Failure> {
    println!(
        "{} s of strangers at every listener, a consultation and a queue on loopback",
        ask.seconds
    );
    let figures = measure(ask).await?;
    let faults = faults(&figures);
    let text = serde_json::to_string_pretty(&table(&figures, &faults))
        .map_err(|error| error.to_string())?;
    println!("{text}");
    crate::figures::judged(&faults)
}

/// What was measured, for people and programs.
fn table(figures: &Figures, faults: &[String]) -> Value {
    let memory: Vec<_> = figures
        .memory
        .iter()
        .map(|one| {
            json!({
                "process": one.name,
                "before_mib": (one.before * 10.0).round() / 10.0,
                "most_mib": (one.most * 10.0).round() / 10.0,
                "grew_mib": ((one.most - one.before) * 10.0).round() / 10.0,
            })
        })
        .collect();
    json!({
        "seconds": figures.seconds,
        "strangers": figures.tally.lines(),
        "memory": memory,
        "seconds_of_sound": figures.heard.0,
        "of_these_with_a_gap": figures.heard.1,
        "places_that_moved": figures.moved.len(),
        "links_of_waiting_people_lost": figures.unlinked,
        "health_answered": format!("{} of {}", figures.health.0, figures.health.1),
        "health_slowest_ms": figures.health.2,
        "newcomers_position": figures.newcomer.map(|one| one.0),
        "newcomers_ms_to_a_ticket": figures.newcomer.map(|one| one.1),
        "consultation_completed": figures.completed,
        "faults": faults,
    })
}

/// The honest ones.
struct People {
    agency: Agency,
    relay: Process,
    officer: Peer,
    citizen: Peer,
    trap: Peer,
    waiting: Vec<Peer>,
}

impl People {
    async fn start(ask: &Ask) -> Result<(Self, Targets), Failure> {
        let agency = Agency::with_desks(&ask.program, &[DESK, QUEUE, TRAP]).await?;
        let faults: Vec<_> = ask.faults.iter().map(String::as_str).collect();
        let relay = agency.serve(&faults).await?;
        let place = || {
            let port = free_port().map_err(|fault| fault.to_string())?;
            Ok::<_, Failure>(SocketAddr::from(([127, 0, 0, 1], port)))
        };
        let (media, trapped) = (place()?, place()?);
        let mut officers = Vec::new();
        for (name, desk, listen) in [("officer", DESK, media), ("trap", TRAP, trapped)] {
            let (key, credential) = agency.officer(name, &[desk]).await?;
            let (credential, listen) = (credential.display().to_string(), listen.to_string());
            let mut arguments = vec!["--credential", &credential, "--listen", &listen];
            arguments.extend(["--desk", desk, "--stay"]);
            // the one at the trap never says yes, so that its invites stay outstanding
            if desk == DESK {
                arguments.push("--auto-accept");
            } else {
                arguments.extend(["--camera", "none"]);
            }
            let mut officer = agency.node(name, "officer", &key, &[], &arguments).await?;
            officer
                .until("attending", STEP, |view| view["view"] == "attending")
                .await?;
            officers.push(officer);
        }
        let (key, _) = agency.key("citizen")?;
        let citizen = agency.node("citizen", "call", &key, &[], &[]).await?;
        let mut waiting = Vec::new();
        for (position, name) in (0..).zip(["first", "second"]) {
            waiting.push(waits(&agency, name, position).await?.0);
        }
        let trap = officers.pop().ok_or("no officer")?;
        let officer = officers.pop().ok_or("no officer")?;
        let targets = Targets {
            relay: SocketAddr::from(([127, 0, 0, 1], agency.control)),
            relay_peer: agency.relay_peer()?,
            http: SocketAddr::from(([127, 0, 0, 1], agency.http)),
            metrics: SocketAddr::from(([127, 0, 0, 1], agency.metrics)),
            websocket: SocketAddr::from(([127, 0, 0, 1], agency.websocket)),
            media,
            trap: trapped,
            trap_desk: TRAP,
            queue_desk: QUEUE,
            sockets: vec![agency.file("officer.sock"), agency.file("citizen.sock")],
        };
        let people = Self {
            agency,
            relay,
            officer,
            citizen,
            trap,
            waiting,
        };
        Ok((people, targets))
    }

    fn memory(&self) -> Result<Vec<(&'static str, f64)>, Failure> {
        let processes = [
            ("relay", &self.relay),
            ("officer", &self.officer.process),
            ("citizen", &self.citizen.process),
            ("other officer", &self.trap.process),
        ];
        processes
            .into_iter()
            .map(|(name, process)| Ok((name, memory(process)?)))
            .collect()
    }

    /// A second of figures at both ends; the seconds, and those with a gap.
    async fn second(&mut self) -> Result<(u32, u32), Failure> {
        let (mut heard, mut gaps) = (0, 0);
        for peer in [&mut self.officer, &mut self.citizen] {
            let view = peer
                .until("the figures of a second", STEP, |view| {
                    view["view"] == "stats" || view["view"] == "report"
                })
                .await?;
            if view["view"] == "report" {
                return Err(format!("{}: the consultation ended: {view}", peer.name));
            }
            let concealed = view.pointer("/sound/concealed_ms").and_then(Value::as_f64);
            heard += 1;
            gaps += u32::from(concealed.is_some_and(|ms| ms > GAP));
            peer.seen.clear();
        }
        Ok((heard, gaps))
    }
}

/// A citizen who joins the queue, and knows its position; and after how long.
async fn waits(agency: &Agency, name: &str, at_least: u64) -> Result<(Peer, u64, u64), Failure> {
    let (key, _) = agency.key(name)?;
    let arguments = ["--desk", QUEUE, "--camera", "none"];
    let begin = Instant::now();
    let mut peer = agency.node(name, "call", &key, &[], &arguments).await?;
    let view = peer
        .until("a place", STEP, |view| view["view"] == "queue")
        .await?;
    let ms = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX);
    let position = view["position"].as_u64().unwrap_or(u64::MAX);
    if position < at_least {
        return Err(format!("{name} waits at {position}"));
    }
    peer.seen.clear();
    Ok((peer, position, ms))
}

/// Asks for the relay's health, honestly; how long the answer took.
async fn health(http: SocketAddr) -> Option<Duration> {
    let begin = Instant::now();
    let ask = async {
        let mut stream = tokio::net::TcpStream::connect(http).await.ok()?;
        let request = b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        stream.write_all(request).await.ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.ok()?;
        answer.starts_with(b"HTTP/1.1 200").then_some(())
    };
    let answered = tokio::time::timeout(2 * ANSWER, ask).await.ok()?;
    answered.map(|()| begin.elapsed())
}

/// Runs people and strangers, and measures.
pub async fn measure(ask: &Ask) -> Result<Figures, Failure> {
    let (mut people, targets) = People::start(ask).await?;
    people.citizen.stage("accepted", STEP).await?;
    people.officer.stage("accepted", STEP).await?;
    for _ in 0..WARM_UP {
        people.second().await?;
    }
    let mut figures = Figures {
        seconds: ask.seconds,
        ..Figures::default()
    };
    for (name, before) in people.memory()? {
        figures.memory.push(Memory {
            name,
            before,
            most: before,
        });
    }
    let http = targets.http;
    let strangers = Strangers::start(targets, ask.strength);
    let end = Instant::now() + Duration::from_secs(ask.seconds.into());
    let half = Instant::now() + Duration::from_secs((ask.seconds / 2).into());
    let mut newcomer = None;
    while Instant::now() < end {
        let (heard, gaps) = people.second().await?;
        figures.heard = (figures.heard.0 + heard, figures.heard.1 + gaps);
        for (memory, (_, now)) in figures.memory.iter_mut().zip(people.memory()?) {
            memory.most = memory.most.max(now);
        }
        let answer = health(http).await;
        let slowest = answer.map_or(0, |took| {
            u64::try_from(took.as_millis()).unwrap_or(u64::MAX)
        });
        let (answered, asked, worst) = figures.health;
        figures.health = (
            answered + u32::from(answer.is_some()),
            asked + 1,
            worst.max(slowest),
        );
        if newcomer.is_none() && Instant::now() >= half {
            // one who is kept out has no figures
            let waits = waits(&people.agency, "newcomer", 2);
            let came = tokio::time::timeout(ANSWER * 3 / 2, waits).await;
            let came = came.ok().and_then(Result::ok);
            figures.newcomer = came.as_ref().map(|(_, position, ms)| (*position, *ms));
            newcomer = Some(came);
        }
    }
    figures.tally = strangers.stop().await;
    for (own, peer) in (0_u64..).zip(&mut people.waiting) {
        peer.settle().await?;
        for view in &peer.seen {
            match view["view"].as_str() {
                Some("queue") => {
                    let position = view["position"].as_u64().unwrap_or(u64::MAX);
                    if position != own {
                        figures.moved.push(position);
                    }
                }
                Some("link") if view["up"] == false => figures.unlinked += 1,
                _ => {}
            }
        }
    }
    people.citizen.say(Intent::HangUp).await?;
    let ended = people.citizen.process.exit(STEP).await?.success();
    let report = people.citizen.report()?;
    figures.completed = ended && report["outcome"] == "completed";
    Ok(figures)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Figures {
        Figures {
            seconds: 60,
            tally: Tally::busy(),
            memory: vec![Memory {
                name: "relay",
                before: 20.0,
                most: 30.0,
            }],
            heard: (120, 1),
            moved: Vec::new(),
            unlinked: 0,
            health: (60, 60, 90),
            newcomer: Some((34, 800)),
            completed: true,
        }
    }

    #[test]
    fn each_harm_is_named_and_a_good_run_has_none() {
        assert_eq!(faults(&good()), Vec::<String>::new());
        let harm = |harm: fn(&mut Figures), what: &str| {
            let mut figures = good();
            harm(&mut figures);
            let faults = faults(&figures);
            assert!(
                faults.len() == 1 && faults[0].contains(what),
                "{what}: {faults:?}"
            );
        };
        harm(
            |figures| figures.memory[0].most = 60.0,
            "memory of the relay",
        );
        harm(|figures| figures.heard.1 = 20, "had a gap");
        harm(|figures| figures.heard = (0, 0), "had a gap");
        harm(|figures| figures.moved.push(1), "places moved");
        harm(|figures| figures.unlinked = 1, "lost the link");
        harm(|figures| figures.health.0 = 59, "health");
        harm(|figures| figures.health.2 = 20_000, "health");
        harm(|figures| figures.newcomer = Some((2_000, 5)), "newcomer");
        harm(|figures| figures.newcomer = None, "newcomer");
        harm(|figures| figures.completed = false, "did not complete");
        harm(|figures| figures.tally = Tally::default(), "strangers");
    }
}
