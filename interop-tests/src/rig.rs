//! An agency, a relay, an officer and a citizen as real processes, brought to a stage.

use std::net::SocketAddr;
use std::path::Path;

use crate::live::wire::Wire;
pub use crate::peer::STEP;
use crate::peer::{Agency, DESK, Failure, Peer, Process};
use crate::repeater::Repeater;
use crate::weather::line::Weather;
use serde_json::Value;
use suora_node::command::demo::free_port;
use suora_node::intent::Intent;

/// Two nodes and their relay.
#[derive(Debug)]
pub struct Rig {
    /// The agency.
    pub agency: Agency,
    /// Its relay.
    pub relay: Process,
    /// The officer's node.
    pub officer: Peer,
    /// The citizen's node.
    pub citizen: Peer,
    /// The wire between them, where there is weather.
    pub wire: Option<Wire>,
    /// The third machine between them, where there is one.
    pub repeater: Option<Repeater>,
}

/// What a rig begins with.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plan<'a> {
    /// Faults of the relay, by name.
    pub relay_faults: &'a [&'a str],
    /// Faults of the officer's node.
    pub officer_faults: &'a [&'a str],
    /// Faults of the citizen's node.
    pub citizen_faults: &'a [&'a str],
    /// More arguments of the officer's node.
    pub officer: &'a [&'a str],
    /// More arguments of the citizen's node.
    pub citizen: &'a [&'a str],
    /// The weather between them, and the seed of its chance. Without, nothing is between.
    pub weather: Option<(&'a Weather, u8)>,
    /// A third machine sits on the wire between them, and repeats all that it sees.
    pub repeated: bool,
    /// Its copies come first.
    pub ahead: bool,
    /// The relay lends its TURN, and the desk hides addresses until the accept.
    pub relayed: bool,
    /// What is changed in the agency's page: this into that.
    pub page: Option<(&'a str, &'a str)>,
    /// Neither end records.
    pub unrecorded: bool,
}

impl Rig {
    /// Starts all four; the officer attends before the citizen calls.
    pub async fn start(program: &Path, plan: Plan<'_>) -> Result<Self, Failure> {
        let agency = Agency::new(program).await?;
        if plan.relayed {
            agency.lend().await?;
        }
        if let Some((from, to)) = plan.page {
            agency.change_page(from, to).await?;
        }
        let relay = agency.serve(plan.relay_faults).await?;
        let (key, credential) = agency.officer("officer", &[DESK]).await?;
        let record = agency.file("record");
        let record = record.to_string_lossy().into_owned();
        let credential = credential.to_string_lossy().into_owned();
        let common: &[&str] = match plan.unrecorded {
            false => &["--record", record.as_str()],
            true => &[],
        };
        let mut arguments = vec!["--credential", credential.as_str()];
        arguments.extend(common);
        arguments.extend(plan.officer);
        let (mut wire, mut repeater, mut place) = (None, None, None);
        if let Some((weather, seed)) = plan.weather {
            let port = free_port().map_err(|fault| fault.to_string())?;
            let listen = SocketAddr::from(([127, 0, 0, 1], port));
            let forward = Wire::start(listen, weather, seed).await?;
            place = Some([listen.to_string(), forward.address.to_string()]);
            wire = Some(forward);
        } else if plan.repeated {
            let port = free_port().map_err(|fault| fault.to_string())?;
            let listen = SocketAddr::from(([127, 0, 0, 1], port));
            let machine = Repeater::start(listen, plan.ahead).await?;
            place = Some([listen.to_string(), machine.address.to_string()]);
            repeater = Some(machine);
        }
        if let Some([listen, announce]) = &place {
            arguments.extend(["--listen", listen, "--announce", announce]);
        }
        let officer = agency.attend(&key, plan.officer_faults, &arguments).await?;
        let (key, _) = agency.key("citizen")?;
        let mut arguments = common.to_vec();
        arguments.extend(plan.citizen);
        let citizen = agency
            .node("citizen", "call", &key, plan.citizen_faults, &arguments)
            .await?;
        Ok(Self {
            agency,
            relay,
            officer,
            citizen,
            wire,
            repeater,
        })
    }

    /// Waits until both ends are at a stage.
    pub async fn both(&mut self, stage: &str) -> Result<(), Failure> {
        self.citizen.stage(stage, STEP).await?;
        self.officer.stage(stage, STEP).await?;
        Ok(())
    }

    /// Waits until the citizen sees pictures flow: more than five in a second.
    pub async fn pictures(&mut self) -> Result<(), Failure> {
        self.citizen
            .until("pictures", STEP, |view| {
                view["view"] == "stats" && view["fps"].as_f64() > Some(5.0)
            })
            .await?;
        Ok(())
    }

    /// The citizen hangs up; both end well. Their reports: citizen's, officer's.
    pub async fn hang_up(&mut self) -> Result<(Value, Value), Failure> {
        self.citizen.say(Intent::HangUp).await?;
        self.reports().await
    }

    /// Both end well by themselves. Their reports: citizen's, officer's.
    pub async fn reports(&mut self) -> Result<(Value, Value), Failure> {
        for peer in [&mut self.citizen, &mut self.officer] {
            let status = peer.process.exit(STEP).await?;
            if !status.success() {
                return Err(format!(
                    "{} ended with {status}: {}",
                    peer.name,
                    peer.process.log()
                ));
            }
        }
        Ok((self.citizen.report()?, self.officer.report()?))
    }
}
