//! What may differ between tidegate and the kernel, and why. Each one must occur: one that does
//! not is out of date.

use super::kind::Kind;
use super::normal::Output;
use super::shot::Shot;

/// A difference that is meant.
#[derive(Debug)]
pub(super) struct Exception {
    /// A few words.
    pub(super) name: &'static str,
    /// Why it is right, or what would end it.
    pub(super) reason: &'static str,
    /// Whether this is it: the packet, what the kernel made of it, what tidegate made of it.
    pub(super) applies: fn(&Shot, &[Output], &[Output]) -> bool,
}

/// All of them.
pub(super) const EXCEPTIONS: &[Exception] = &[
    Exception {
        name: "TOS of an ICMP error",
        reason: "tidegate's own errors have precedence 6 and no other bit (RFC 1812 section \
                 4.3.2.5, RFC 1349 section 5.1); the kernel copies some bits of what it answers",
        applies: |shot, kernel, tidegate| {
            let copied = 0xc0 | (shot.template.tos & 0x1e);
            let has_tos = |outputs: &[Output], tos| {
                outputs.iter().all(|output| output.packet.get(1) == Some(&tos))
            };
            let are_right = has_tos(kernel, copied) && has_tos(tidegate, 0xc0);
            are_right && differ_only_in(1..2, kernel, tidegate)
        },
    },
    Exception {
        name: "odd flags in a flow",
        reason: "conntrack calls them invalid, and then the host answers or the packet goes on \
                 untranslated; tidegate's tracker is liberal and translates them",
        applies: |shot, kernel, tidegate| {
            shot.kind == Kind::OddFlags && kernel != tidegate && tidegate.len() == 1
        },
    },
    Exception {
        name: "record route",
        reason: "tidegate does not write its address into packets: a router may ignore the \
                 option (RFC 7126 section 4.5.5)",
        applies: |shot, kernel, tidegate| {
            shot.kind == Kind::RecordRoute
                && is_one_inside(kernel)
                && is_one_inside(tidegate)
                && differ_only_in(20..32, kernel, tidegate)
        },
    },
    Exception {
        name: "UDP over IPv6 without a checksum",
        reason: "no host may take it (RFC 8200 section 8.1): tidegate drops it as UDP_CSUM, the \
                 kernel leaves that to the host",
        applies: |shot, kernel, tidegate| {
            shot.kind == Kind::Unsummed && is_one_inside(kernel) && tidegate.is_empty()
        },
    },
];

fn is_one_inside(outputs: &[Output]) -> bool {
    matches!(outputs, [output] if output.is_inside)
}

fn differ_only_in(range: core::ops::Range<usize>, kernel: &[Output], tidegate: &[Output]) -> bool {
    let ([kernel], [tidegate]) = (kernel, tidegate) else { return false };
    let mut kernel = kernel.clone();
    let (Some(place), Some(bytes)) =
        (kernel.packet.get_mut(range.clone()), tidegate.packet.get(range))
    else {
        return false;
    };
    place.copy_from_slice(bytes);
    kernel == *tidegate
}
