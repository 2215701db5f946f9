//! DOOR: the real pair of the lab: `suora-relay`, `suora officer` and `suora call` as processes in
//! the namespaces of a relay host and of two sites.
#![expect(clippy::disallowed_methods, reason = "door: clock")]

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use suora_node::intent::Intent;

use super::cell::Cell;
use super::impair::Flow;
use super::matrix::{Meeting, Outcome, Pair, Seat, last_second};
use super::rule::Path;
use super::site::{CONTROL, Relay};
use crate::peer::{Agency, DESK, Failure, Peer, STEP};

/// Ports of the relay: control plane, its WebSocket, public pages, metrics.
const PORTS: [u16; 4] = [CONTROL, 4_434, 8_080, 9_090];
/// How long the two talk before they are judged by their last second.
const TALK: Duration = Duration::from_secs(3);

/// Real nodes.
#[derive(Clone, Debug)]
pub struct Nodes {
    /// The program `suora-interop`, which is all of them.
    pub program: PathBuf,
}

/// Addresses that a site shows to the open.
fn outside(seat: &Seat<'_>) -> Vec<IpAddr> {
    let mut addresses = vec![IpAddr::from(seat.site.wan)];
    addresses.extend(seat.host.v6.map(IpAddr::from));
    addresses
}

/// The relay's address for a cell: of the family that both ends have.
fn place(relay: &Relay, cell: &Cell) -> IpAddr {
    match cell.officer.v4.is_some() && cell.citizen.v4.is_some() {
        true => relay.v4[0].into(),
        false => relay.v6[0].into(),
    }
}

impl Nodes {
    async fn serve(&self, meeting: &Meeting<'_>) -> Result<Outcome, Failure> {
        // the first relay host has the echo
        let relay = meeting.lab.relays.get(1).ok_or("no second relay host")?;
        let [officer_seat, citizen_seat] = meeting.ends;
        let host = place(relay, meeting.cell);
        let mut agency = Agency::at(&self.program, host, PORTS, &[DESK]).await?;
        for (name, namespace) in [
            ("relay", &relay.namespace),
            ("officer", &officer_seat.host.namespace),
            ("citizen", &citizen_seat.host.namespace),
        ] {
            agency.places.insert(name.into(), namespace.clone());
        }
        let mut process = agency.serve(&[]).await?;
        let outcome = talk(&agency, meeting, relay).await;
        // its ports are free when the next cell begins
        process.kill().await?;
        outcome
    }
}

/// An officer attends, a citizen calls, and both are judged while they talk.
async fn talk(agency: &Agency, meeting: &Meeting<'_>, relay: &Relay) -> Result<Outcome, Failure> {
    let (key, credential) = agency.officer("officer", &[DESK]).await?;
    let credential = credential.to_string_lossy().into_owned();
    let arguments = ["--credential", credential.as_str(), "--auto-accept"];
    let mut officer = agency.attend(&key, &[], &arguments).await?;
    let (key, _) = agency.key("citizen")?;
    let begun = Instant::now();
    let mut citizen = agency.node("citizen", "call", &key, &[], &[]).await?;
    citizen.stage("accepted", STEP).await?;
    officer.stage("accepted", STEP).await?;
    let connected = begun.elapsed();
    tokio::time::sleep_until(tokio::time::Instant::now() + TALK).await;
    let mut outcome = Outcome {
        path: None,
        connected: Some(connected),
        direct: None,
        faults: Vec::new(),
    };
    let [direct, relayed] = counted(meeting, relay);
    outcome.path = match (direct, relayed) {
        (true, false) => Some(Path::Direct),
        (false, true) => Some(Path::Relayed),
        _ => {
            outcome.faults.push(format!(
                "on the wires in the last second: direct {direct}, relayed {relayed}"
            ));
            None
        }
    };
    citizen.settle().await?;
    officer.settle().await?;
    for peer in [&citizen, &officer] {
        let said = label(peer);
        if said.as_deref() != outcome.path.map(Path::word) {
            outcome.faults.push(format!("{} says {said:?}", peer.name));
        }
    }
    citizen.say(Intent::HangUp).await?;
    Ok(outcome)
}

/// The path that a node shows.
fn label(peer: &Peer) -> Option<String> {
    let shown = peer.seen.iter().rev();
    let kind = shown
        .filter(|view| view["view"] == "session")
        .find_map(|view| view["path"]["kind"].as_str());
    kind.map(Into::into)
}

/// Whether media passed in the last second: direct on the citizen's wire, and at the relay.
fn counted(meeting: &Meeting<'_>, relay: &Relay) -> [bool; 2] {
    let wires = &meeting.lab.wires;
    let since = wires.now().saturating_sub(last_second());
    let [officer, citizen] = meeting.ends;
    let (of_officer, of_citizen) = (outside(&officer), outside(&citizen));
    let recent = |at: Option<Duration>| at.is_some_and(|at| at >= since);
    let direct = wires.tally(citizen.site.cable).last_media(|flow| {
        let ends = [flow.from.ip(), flow.to.ip()];
        let of = |addresses: &[IpAddr]| ends.iter().any(|end| addresses.contains(end));
        of(&of_officer) && of(&of_citizen)
    });
    let at_relay = wires.tally(relay.cable).last_media(|flow: &Flow| {
        // its control plane is not its media
        let own = relay.addresses().collect::<Vec<_>>();
        let near = if own.contains(&flow.to.ip()) {
            flow.to
        } else {
            flow.from
        };
        !PORTS.contains(&near.port())
    });
    [recent(direct), recent(at_relay)]
}

impl Pair for Nodes {
    async fn meet(&self, meeting: &Meeting<'_>) -> Result<Outcome, Failure> {
        self.serve(meeting).await
    }
}
