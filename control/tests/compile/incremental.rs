//! Change by change, a compiler must come to what a new one makes of the last state at once.

use crate::rig::{ETH0, ETH1, Rig, VETH_A, VETH_B};
use crate::world::World;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;
use tidegate_control::compile::{Compiled, Compiler, Reports};
use tidegate_control::model::Store;
use tidegate_dataplane::snapshot::{BackendSet, Front, FrontKey, Picker, Selection, Snapshot};
use tidegate_dataplane::types::BackendSlot;

/// Sequences, and steps of each: so many found each of eleven mistakes that were made on purpose.
const SEQUENCES: u64 = 60;
const STEPS: usize = 25;

#[test]
fn any_sequence_of_changes_compiles_to_the_same_as_its_last_state() {
    for seed in 0..SEQUENCES {
        let mut world = World::new(seed);
        let mut held = Held::default();
        for step in 0..STEPS {
            for _ in 0..=world.random.below(3) {
                world.change();
            }
            let compiled = held.compile(&mut world);
            let (fresh, fresh_reports) = fresh(&world);
            let text = dump(&compiled, held.compiler.reports());
            let expected = dump(&fresh, &fresh_reports);
            assert_eq!(text, expected, "seed {seed}, step {step}: {:?}", world.told);
            held.check(&compiled, &format!("seed {seed}, step {step}: {:?}", world.told));
            world.told.clear();
        }
    }
}

fn fresh(world: &World) -> (Compiled, Reports) {
    let (mut store, mut compiler) = (Store::new("gw"), Compiler::default());
    store.replace(world.store.state());
    let Rig { network, attached, config, .. } = &world.rig;
    let compiled = compiler.compile(&mut store, network, attached, config);
    (compiled, compiler.into_reports())
}

/// What the compilations so far gave.
#[derive(Default)]
struct Held {
    compiler: Compiler,
    fronts: BTreeMap<FrontKey, Arc<Front>>,
}

impl Held {
    fn compile(&mut self, world: &mut World) -> Compiled {
        let World { store, rig, random, .. } = world;
        // Flows that nobody has: numbers are given to others as early as they may be.
        if random.below(2) == 0 {
            self.compiler.reap(|_| false);
        }
        self.compiler.compile(store, &rig.network, &rig.attached, &rig.config)
    }

    /// What was told to have changed is what did, and no number stands for two.
    fn check(&mut self, compiled: &Compiled, place: &str) {
        let fronts = compiled.snapshot.fronts.iter();
        let now: BTreeMap<_, _> = fronts.map(|(key, front)| (*key, Arc::clone(front))).collect();
        let is_other = |key: &&FrontKey| match (self.fronts.get(key), now.get(key)) {
            (Some(old), Some(new)) => !Arc::ptr_eq(old, new),
            _ => true,
        };
        let both = self.fronts.keys().chain(now.keys());
        let changed: BTreeSet<FrontKey> = both.filter(is_other).copied().collect();
        let told: BTreeSet<FrontKey> = compiled.changed_fronts.iter().copied().collect();
        assert_eq!(told, changed, "{place}");
        self.fronts = now;
        let mut slots = BTreeSet::new();
        for report in self.compiler.reports().iter() {
            for backend in &report.backends {
                let hop = compiled.snapshot.next_hop(backend.next_hop).unwrap();
                assert_eq!(hop.address, backend.address, "{place}");
                assert!(backend.slot != BackendSlot(0) && slots.insert(backend.slot), "{place}");
            }
        }
    }
}

/// All that counts, without numbers.
fn dump(compiled: &Compiled, reports: &Reports) -> String {
    let snapshot = &compiled.snapshot;
    let mut fronts: Vec<_> = snapshot.fronts.values().collect();
    fronts.sort_by_key(|front| front.key);
    let mut text = String::new();
    for front in fronts {
        let Front { key, kind, state, service, source_ranges, outside, pods } = &**front;
        let (name, port) = (&service.name, &service.port_name);
        writeln!(text, "{key:?} {kind:?} {state:?} {name}:{port} {source_ranges:?}").unwrap();
        writeln!(text, "  {}", selection(snapshot, outside)).unwrap();
        writeln!(text, "  {}", selection(snapshot, pods)).unwrap();
    }
    let mut ids = BTreeSet::new();
    for report in reports.iter() {
        ids.insert(report.id);
        let service = snapshot.services.get(&report.id).unwrap();
        let serving: BTreeSet<_> = service.serving.iter().collect();
        writeln!(text, "{} {serving:?} {:?}", service.name, service.affinity_timeout).unwrap();
        let mut report = report.clone();
        report.id = tidegate_dataplane::types::ServiceId(0);
        for backend in &mut report.backends {
            backend.slot = BackendSlot(0);
            backend.next_hop = tidegate_dataplane::types::NextHopId(0);
        }
        writeln!(text, "{report:?}").unwrap();
    }
    let retired = snapshot.services.values().filter(|service| !ids.contains(&service.id));
    assert!(retired.into_iter().all(|service| service.serving.is_empty()));
    let wanted: BTreeSet<_> = compiled.wanted.iter().map(|w| w.request.name.clone()).collect();
    writeln!(text, "{wanted:?} {:?} {:?}", compiled.probes, compiled.warnings).unwrap();
    writeln!(text, "{:?} {:?}", snapshot.interfaces, snapshot.pod_networks).unwrap();
    text
}

fn selection(snapshot: &Snapshot, selection: &Selection) -> String {
    match selection {
        Selection::Forward { backends, masquerade } => {
            format!("{masquerade} {}", set(snapshot, backends))
        }
        other => format!("{other:?}"),
    }
}

fn set(snapshot: &Snapshot, set: &BackendSet) -> String {
    let hop = |id| snapshot.next_hop(id).cloned();
    let backends = set.backends().iter().map(|b| (b.address, b.port, hop(b.next_hop)));
    let table = match set.picker() {
        Picker::Maglev(table) => Some(
            table
                .entries()
                .iter()
                .map(|e| u64::from(*e) + 1)
                .fold(0u64, |sum, entry| sum.wrapping_mul(31).wrapping_add(entry)),
        ),
        Picker::Random => None,
    };
    format!("{:?} {table:?}", backends.collect::<Vec<_>>())
}

#[test]
fn a_link_that_changes_concerns_those_behind_it_alone() {
    let mut world = World::new(0);
    let mut held = Held::default();
    world.serve("near", "10.244.0.5", 30_001);
    world.serve("far", "10.244.1.7", 30_002);
    world.rig.attached = Rig::attached().attached;
    held.compile(&mut world);
    for (link, expected) in [(VETH_A, "near"), (ETH1, "far")] {
        let links = Arc::make_mut(&mut world.rig.network.links);
        links.get_mut(&link).unwrap().mtu_bytes = 1400;
        let compiled = held.compile(&mut world);
        let names: Vec<_> = compiled.changed_services.iter().map(|key| &*key.name).collect();
        assert_eq!(names, [expected]);
    }
    for link in [ETH0, VETH_B] {
        let links = Arc::make_mut(&mut world.rig.network.links);
        links.get_mut(&link).unwrap().mtu_bytes = 1400;
        assert!(held.compile(&mut world).changed_services.is_empty());
    }
}

#[test]
fn j5_a_state_that_is_told_again_changes_nothing() {
    let mut world = World::new(1);
    let mut held = Held::default();
    (0..50).for_each(|_| world.change());
    held.compile(&mut world);
    world.store.replace(&world.store.state().clone());
    assert!(!world.store.is_dirty());
    let compiled = held.compile(&mut world);
    assert!(compiled.changed_fronts.is_empty() && compiled.changed_services.is_empty());
}
