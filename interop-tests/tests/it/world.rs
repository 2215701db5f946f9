//! Whole contacts in the simulated world: real engines and the real hub on virtual time.

mod changed;
mod crowd;
mod enrolled;
mod lost;
mod refused;
mod served;
mod trusted;

use std::time::Duration;

use suora_interop::world::{NodeId, World};
use suora_node::intent::Intent;
use suora_node::report::Outcome;
use suora_node::view::Stage;
use suora_protocol::fault::Code;

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// Waits until the session of this node stands so.
fn reaches(world: &mut World, id: NodeId, stage: Stage) {
    let came = world.until(secs(5), |world| world.stage(id) == stage);
    assert!(
        came,
        "{id:?} is {:?} with {:?}",
        world.stage(id),
        world.fault(id)
    );
}

/// The officer takes the offer, once its guest is proven.
fn accept(world: &mut World, officer: NodeId) {
    reaches(world, officer, Stage::Warm);
    world.ask(officer, Intent::Accept);
    reaches(world, officer, Stage::Accepted);
}

/// The last report's outcome and error.
fn outcome(world: &World, id: NodeId) -> Option<(Outcome, Option<Code>)> {
    let report = world.reports(id).last()?;
    Some((
        report.outcome,
        report.error.as_ref().map(|error| error.code),
    ))
}

const COMPLETED: Option<(Outcome, Option<Code>)> = Some((Outcome::Completed, None));

/// Refused, with this code.
const fn refused(code: Code) -> Option<(Outcome, Option<Code>)> {
    Some((Outcome::Refused, Some(code)))
}
