//! A crowd at a desk, with real nodes: they do the work that is asked for, and those who may
//! not come in are told why.

use suora_interop::world::{Setup, World};
use suora_protocol::fault::Code;
use suora_relay::hub::crowd::Bounds;

use super::{outcome, secs};
use suora_node::report::Outcome;

// covers: SUORA-DSK-121, SUORA-DSK-122
#[test]
fn a_node_works_for_its_ticket_where_many_come_from_one_place() {
    let mut world = World::new(Setup::default());
    world.bounds(Bounds {
        prefix: 4,
        prefix_free: 2,
        ..Bounds::default()
    });
    let first = world.citizen();
    let mut people = vec![first];
    for _ in 0..4 {
        let next = world.citizen();
        world.moves_to(next, first);
        people.push(next);
        world.run(secs(2));
    }
    let positions: Vec<_> = people.iter().map(|id| world.position(*id)).collect();
    assert_eq!(positions, [Some(0), Some(1), Some(2), Some(3), None]);
    assert_eq!(world.works, 2, "the third and the fourth");
    let last = people[4];
    assert_eq!(world.fault(last), Some(Code::Crowded));
    let failed = Some((Outcome::Failed, Some(Code::Crowded)));
    assert_eq!(outcome(&world, last), failed);
    // from elsewhere one comes in without
    let elsewhere = world.citizen();
    world.run(secs(2));
    assert_eq!(world.position(elsewhere), Some(4));
    assert_eq!(world.works, 2);
}
