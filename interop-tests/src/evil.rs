//! The hostile relay (`spec/security.md`, section 1): the real hub between real engines, with
//! somebody on all its wires who tells one lie, a [`Mode`]. Each mode says who has to refuse it
//! and by which code; whatever the lie, nobody may be shown somebody else as proven, and nothing
//! of sound or picture may leave towards one. Each mode has a twin, the same people and the
//! same steps without the lie, whose consultation completes.

pub mod lie;
pub mod mode;
pub mod table;

use std::time::Duration;

use suora_node::intent::Intent;
use suora_node::report::Outcome;
use suora_node::view::{Stage, View};
use suora_protocol::fault::Code;

use crate::world::{Agency, DESK, Manner, NodeId, Setup, World};
pub use mode::{MODES, Mode};

/// How long a contact may take, offers that nobody answers included.
const CONTACT: Duration = Duration::from_secs(90);
/// How long the two talk.
const TALK: Duration = Duration::from_secs(7);
/// How long last words take.
const GOODBYE: Duration = Duration::from_secs(3);

/// Whose node refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Who {
    /// The citizen's.
    Citizen,
    /// The officer's.
    Officer,
}

impl Who {
    /// For the table.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Citizen => "citizen's node",
            Self::Officer => "officer's node",
        }
    }
}

/// What came of a run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// Who refused first, and by which code.
    pub refused: Option<(Who, Code)>,
    /// Whether the last contact was a completed consultation.
    pub completed: bool,
    /// What a person was wrongly shown.
    pub fooled: Vec<String>,
}

/// The people of a run.
#[derive(Clone, Copy, Debug)]
pub struct Cast {
    /// The citizen.
    pub anna: NodeId,
    /// The officer.
    pub otto: NodeId,
}

/// Runs a mode, with its lie or without, from a seed.
pub fn run(mode: &Mode, lies: bool, seed: u8) -> Found {
    play(mode, lies, seed, false)
}

/// Tells a mode's lie to nodes that have one rule less, and compare no challenge: the control of
/// the table.
pub fn run_careless(mode: &Mode, seed: u8) -> Found {
    play(mode, true, seed, true)
}

fn play(mode: &Mode, lies: bool, seed: u8, careless: bool) -> Found {
    let setup = Setup {
        seed,
        faults: suora_relay::Faults {
            unchecked_credential: lies,
            ..suora_relay::Faults::default()
        },
        careless,
        ..Setup::default()
    };
    let mut world = World::with_agency(setup, |agency| {
        agency
            .page
            .desks
            .push(mode::other_desk(&agency.page.desks[0]));
        if lies {
            (mode.founds)(agency);
        }
    });
    let manner = Manner {
        auto_accept: true,
        ..Manner::default()
    };
    let issue = if lies {
        mode.issues
    } else {
        Agency::issue_officer
    };
    let otto = world.officer_with(manner, issue);
    world.run(Duration::from_secs(1));
    if lies {
        (mode.arms)(&mut world, otto);
    }
    let asked = if lies { mode.asks } else { DESK };
    let anna = world.citizen_at(asked);
    let cast = Cast { anna, otto };
    let (mut fooled, mut completed) = (Vec::new(), false);
    for contact in 0..mode.contacts {
        if contact > 0 {
            world.start(anna);
        }
        completed = contact_of(&mut world, cast);
        fooled.extend(wrongly_shown(&world, cast));
    }
    let who = |id| match id {
        id if id == anna => Who::Citizen,
        _ => Who::Officer,
    };
    let said = world.refusals.first().copied();
    // what is refused before there is a ticket is said to nobody but the person
    let shown = || {
        let shown = |id| Some((id, world.fault(id).filter(|code| code.is_refusal())?));
        shown(anna).or_else(|| shown(otto))
    };
    Found {
        refused: said.or_else(shown).map(|(id, code)| (who(id), code)),
        completed,
        fooled,
    }
}

/// One contact: if the two come to talk, they do so for a while, and the citizen hangs up.
/// Whether it was a completed consultation.
fn contact_of(world: &mut World, Cast { anna, otto }: Cast) -> bool {
    let talks = |world: &World| {
        world.stage(anna) == Stage::Accepted && world.stage(otto) == Stage::Accepted
    };
    let over = |world: &World| world.finished(anna).is_some();
    world.until(CONTACT, |world| talks(world) || over(world));
    if talks(world) {
        world.run(TALK);
        world.ask(anna, Intent::HangUp);
    } else if !over(world) {
        world.ask(anna, Intent::Quit);
    }
    world.run(GOODBYE);
    let last = world.reports(anna).last();
    last.is_some_and(|report| report.outcome == Outcome::Completed)
}

/// Whom each end was shown as proven, where it was not the other one, and who talked to nobody.
fn wrongly_shown(world: &World, Cast { anna, otto }: Cast) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, id, other) in [("citizen", anna, otto), ("officer", otto, anna)] {
        let other = world.peer(other).to_text();
        for view in world.views(id) {
            let View::Session { stage, peer, .. } = view else {
                continue;
            };
            match peer {
                Some(peer) if peer.peer_id != other => {
                    wrong.push(format!("the {name} was shown somebody else as proven"));
                }
                None if *stage == Stage::Accepted => {
                    wrong.push(format!("the {name} talked to nobody proven"));
                }
                _ => {}
            }
        }
    }
    wrong
}
