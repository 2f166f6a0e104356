//! The whole packet path over random packets, flows and changes: what must hold whatever comes.
//!
//! In an ordinary test run bolero replays the corpus and tries some random inputs; `make fuzz`
//! goes on for as long as it is told.

mod check;
mod cluster;
mod scenario;
mod world;

use bolero::check;
use scenario::Scenario;
use world::World;

#[test]
fn whatever_comes_the_packet_path_keeps_its_promises() {
    check!().with_type::<Scenario>().for_each(|scenario| {
        let mut world = World::new(&scenario.start);
        for step in scenario.steps.iter().take(scenario::STEPS_MAX) {
            world.take(step);
        }
    });
}
