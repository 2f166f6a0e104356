//! The XDP hook: which mode is granted, why one is refused, and that nothing stays behind.

use crate::net::{enter_new_namespace, index_of, run};
use crate::rig::CONFIG;
use tidegate_dataplane::engine::AttachMode;
use tidegate_dataplane::types::IfIndex;
use tidegate_dataplane::xdp::program::Steering;

const TOO_LARGE: &str = "veth: Peer MTU is too large to set XDP (ERANGE)";

/// A veth pair whose `eth0` can take a native program.
fn veth() -> (Steering, IfIndex) {
    enter_new_namespace();
    run("ip link add eth0 type veth peer name eth1");
    (Steering::load(&CONFIG).unwrap(), index_of("eth0"))
}

/// A veth pair whose `eth0` cannot.
fn large_veth() -> (Steering, IfIndex) {
    let veth = veth();
    run("ip link set eth1 mtu 9000");
    veth
}

/// What `ip` says of the hook: `xdp` native, `xdpgeneric`, or nothing.
fn shown() -> Option<String> {
    let text = run("ip link show dev eth0");
    text.split_whitespace().find(|word| word.starts_with("xdp")).map(str::to_owned)
}

#[test]
fn native_is_granted_and_reported() {
    let (steering, eth0) = veth();
    for mode in [AttachMode::Auto, AttachMode::Native] {
        let attached = steering.attach(eth0, mode).unwrap();
        assert_eq!((attached.mode, attached.native_refused.as_deref()), (AttachMode::Native, None));
        assert_eq!(shown().as_deref(), Some("xdp"));
        drop(attached);
        assert_eq!(shown(), None);
    }
}

#[test]
fn generic_is_granted_and_reported() {
    let (steering, eth0) = veth();
    let attached = steering.attach(eth0, AttachMode::Generic).unwrap();
    assert_eq!((attached.mode, attached.native_refused.as_deref()), (AttachMode::Generic, None));
    assert_eq!(shown().as_deref(), Some("xdpgeneric"));
    drop(attached);
    assert_eq!(shown(), None);
}

#[test]
fn a_native_refusal_has_the_kernels_words() {
    let (steering, eth0) = large_veth();
    let error = steering.attach(eth0, AttachMode::Native).unwrap_err();
    assert_eq!(error.what, "attach XDP to eth0 in native mode");
    assert_eq!((error.kernel.as_str(), error.errno), (TOO_LARGE, libc::ERANGE));
    assert_eq!(shown(), None);
}

#[test]
fn auto_falls_back_to_generic_and_says_why() {
    let (steering, eth0) = large_veth();
    let attached = steering.attach(eth0, AttachMode::Auto).unwrap();
    assert_eq!(attached.mode, AttachMode::Generic);
    assert_eq!(attached.native_refused.as_deref(), Some(TOO_LARGE));
    drop(attached);
    assert_eq!(shown(), None);
}

#[test]
fn whoever_has_the_hook_is_named() {
    let (steering, eth0) = veth();
    for (first, shown_as) in [(AttachMode::Native, "xdp"), (AttachMode::Generic, "xdpgeneric")] {
        let attached = steering.attach(eth0, first).unwrap();
        for second in [AttachMode::Auto, AttachMode::Native, AttachMode::Generic] {
            let error = steering.attach(eth0, second).unwrap_err();
            let is_taken = [libc::EBUSY, libc::EEXIST].contains(&error.errno);
            assert!(is_taken, "{first:?}, then {second:?}: {error:?}");
            if (first, second) == (AttachMode::Native, AttachMode::Auto) {
                assert_eq!(error.what, "attach XDP to eth0 in native mode");
            }
            let fix = error.fix.unwrap_or_default();
            assert!(fix.starts_with("program `steer` id "), "{first:?}, then {second:?}: {fix}");
        }
        // The first one is still there: asking for the kernel's words did not disturb it.
        assert_eq!(shown().as_deref(), Some(shown_as));
        drop(attached);
        assert_eq!(shown(), None);
    }
}

#[test]
fn an_interface_that_has_gone_is_an_error() {
    let (steering, eth0) = veth();
    run("ip link del eth0");
    let error = steering.attach(eth0, AttachMode::Auto).unwrap_err();
    assert_eq!(error.errno, libc::ENODEV);
    assert!(error.what.contains(&format!("interface {}", eth0.0)), "{error}");
}

#[test]
fn an_attachment_outlives_its_interface() {
    let (steering, eth0) = veth();
    let attached = steering.attach(eth0, AttachMode::Auto).unwrap();
    run("ip link del eth0");
    drop(attached);
}
