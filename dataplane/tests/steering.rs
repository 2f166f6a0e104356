//! smoke
use tidegate_dataplane::engine::Fallback;
use tidegate_dataplane::types::{IfIndex, MacAddress};
use tidegate_dataplane::xdp::program::{Action, Steering, SteeringConfig};
#[test]
fn loads() {
    let s = Steering::load(&SteeringConfig {
        flows_max: 64,
        latency_sample: 1,
        fallback: Fallback::Kernel,
        stale_after: std::time::Duration::from_secs(1),
        road_mac: MacAddress([2, 0, 0, 0, 0, 9]),
    })
    .unwrap();
    let t = s.trial((IfIndex(1), 0), &[0; 60]).unwrap();
    assert_eq!(t.action, Action::Pass);
}
