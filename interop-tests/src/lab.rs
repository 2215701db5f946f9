//! DOOR: the network lab: an internet of namespaces with translators of every kind after RFC 4787, in
//! which each network proves itself, and in which pairs of ends meet. What path each pair must
//! get is computed before ([`rule`]); what it got is counted on the wires.
#![expect(clippy::disallowed_methods, reason = "door: clock")]

pub mod cell;
pub mod conntrack;
pub mod echo;
pub mod emulator;
pub mod gap;
pub mod impair;
pub mod kind;
pub mod matrix;
pub mod namespace;
pub mod nat;
pub mod nodes;
pub mod prove;
pub mod punch;
pub mod raw;
pub mod rule;
pub mod simulated;
pub mod site;

use std::process::ExitCode;
use std::time::Duration;

use cell::Cell;
use echo::Echo;
use matrix::Seats;
use nodes::Nodes;
use prove::{Depth, Proof};
use raw::Raw;
use site::{Draft, Lab};

use crate::peer::Failure;
use crate::weather::line::Weather;

/// Raw pairs at a time.
const AT_ONCE: usize = 24;

/// What to run.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Kinds, or cells as `officer:citizen`; empty: all.
    pub cells: Vec<String>,
    /// A short run: few cells, no long waits.
    pub short: bool,
    /// One way from each line's end to the open, in milliseconds.
    pub delay: u64,
    /// Networks that lie: built as the first, they claim to be the second.
    pub claims: Vec<(String, String)>,
    /// Raw pairs lie about their path.
    pub lies: bool,
    /// What happens to networks in the middle of a consultation is proven, and nothing else.
    pub faults: bool,
    /// Real nodes meet, not raw pairs, where those of today can.
    pub nodes: bool,
}

/// Runs it inside the lab's own namespaces, into which the program moves first.
pub fn run(ask: &Ask) -> ExitCode {
    if !namespace::inside() {
        eprintln!("suora-interop: {}", namespace::enter());
        eprintln!("The network lab did not run; only its simulated part can run here.");
        return ExitCode::from(77);
    }
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("suora-interop: {error}");
            return ExitCode::FAILURE;
        }
    };
    let done = runtime.block_on(async {
        tokio::select! {
            done = print(ask) => done,
            why = stopped() => Err(why),
        }
    });
    match done {
        Ok(0) => ExitCode::SUCCESS,
        Ok(wrong) => {
            eprintln!("suora-interop: {wrong} of the lab's results are wrong");
            ExitCode::FAILURE
        }
        Err(why) => {
            eprintln!("suora-interop: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Somebody stops it. The first process of a process namespace has to listen for that itself.
async fn stopped() -> Failure {
    use tokio::signal::unix::{SignalKind, signal};
    match (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    ) {
        (Ok(mut interrupt), Ok(mut terminate)) => {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            "stopped".into()
        }
        (Err(error), _) | (_, Err(error)) => error.to_string(),
    }
}

/// Runs it; how many results are wrong.
async fn print(ask: &Ask) -> Result<usize, Failure> {
    namespace::prepare()?;
    let weather = Weather::delay(ask.delay);
    if ask.faults {
        return gap::all(&weather).await;
    }
    let cells = match (ask.cells.is_empty(), ask.short) {
        (false, _) => cell::chosen(&ask.cells)?,
        (true, _) if ask.nodes => cell::reachable()?,
        (true, true) => cell::few()?,
        (true, false) => cell::all()?,
    };
    let mut drafts = Seats::drafts(&cells);
    for (built, claimed) in &ask.claims {
        drafts.push(Draft {
            claims: kind::named(claimed)?,
            ..site::draft(built)?
        });
    }
    if ask.short {
        drafts.push(site::draft("three")?);
    }
    let begun = tokio::time::Instant::now();
    let lab = Lab::build(&drafts, 2, &weather)?;
    let echo = Echo::start(lab.relay()?)?;
    println!(
        "{} sites, built in {} ms",
        lab.sites.len(),
        begun.elapsed().as_millis()
    );
    let most = Duration::from_secs(if ask.short { 3 } else { 30 });
    let proofs = prove::all(&lab, &echo, Depth::Lifetime(most)).await?;
    let mut wrong = proved(&proofs);
    if wrong > 0 {
        return Ok(wrong);
    }
    wrong += met(&lab, &echo, &cells, ask).await?;
    println!("{} s in all", begun.elapsed().as_secs());
    Ok(wrong)
}

async fn met(lab: &Lab, echo: &Echo, cells: &[Cell], ask: &Ask) -> Result<usize, Failure> {
    let rows = if ask.nodes {
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        matrix::run(lab, echo, cells, &Nodes { program }, 1).await?
    } else {
        matrix::run(lab, echo, cells, &Raw { lies: ask.lies }, AT_ONCE).await?
    };
    Ok(matrix::print(&rows))
}

/// Prints what networks proved; how many are not what they claim.
fn proved(proofs: &[Proof]) -> usize {
    println!(
        "{:<16} {:<26} {:<26} turns  IPv6  443,80  longest  ms",
        "network", "mapping", "filtering"
    );
    let mut wrong = 0;
    for proof in proofs {
        let measured = &proof.measured;
        let word = |dependence: Option<crate::world::nat::Dependence>| {
            dependence.map_or("–", |dependence| dependence.word())
        };
        let bit = |bit: Option<bool>| match bit {
            Some(true) => "yes",
            Some(false) => "no",
            None => "–",
        };
        println!(
            "{:<16} {:<26} {:<26} {:<6} {:<5} {:<7} {:<8} {}",
            proof.kind.name,
            word(measured.v4.map(|access| access.mapping)),
            word(measured.v4.map(|access| access.filtering)),
            bit(measured.turns),
            bit(Some(measured.v6.is_some())),
            measured
                .tcp
                .map(|bit| if bit { "y" } else { "n" })
                .join(","),
            measured.longest,
            proof.took.as_millis(),
        );
        proof
            .differences
            .iter()
            .for_each(|why| println!("    WRONG: {why}"));
        wrong += usize::from(!proof.differences.is_empty());
    }
    wrong
}
