//! What a change of endpoints moves in Maglev's tables.

use crate::rig::{Rig, slice, web};
use tidegate_control::config::TableSize;
use tidegate_dataplane::snapshot::{Picker, Selection};

#[test]
fn entries_of_tables_that_got_another_backend_are_counted() {
    let mut rig = Rig::attached();
    let two = web("") + &slice("web-1", &["10.244.0.5 gw ready", "10.244.0.6 gw ready"]);
    let one = web("") + &slice("web-1", &["10.244.0.5 gw ready"]);
    let compiled = rig.compile(&two);
    let id = compiled.report[0].id;
    assert_eq!(rig.moved_slots(id), 0, "a first table moves nothing");
    let Selection::Forward { backends, .. } =
        &compiled.snapshot.fronts.values().next().unwrap().outside
    else {
        panic!()
    };
    let Picker::Maglev(table) = backends.picker() else { panic!() };
    let of_second = table.entries().iter().filter(|entry| **entry == 1).count() as u64;
    assert!(of_second > 400, "{of_second} of 1021");
    // Only those of the backend that left, and the same ones when it is back.
    for (text, moved) in [(&one, of_second), (&one, of_second), (&two, 2 * of_second)] {
        rig.compile(text);
        assert_eq!(rig.moved_slots(id), moved);
    }
    rig.config.load_balancer.maglev.table_size = TableSize::Entries(16_381);
    rig.compile(&two);
    let reshuffled = rig.moved_slots(id) - 2 * of_second;
    assert!((4_000..12_000).contains(&reshuffled), "{reshuffled} of 16381");
    rig.compile("");
    assert_eq!(rig.moved_slots(id), 0, "its series is gone");
}
