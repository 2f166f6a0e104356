//! Which interfaces are attached, which refused, and when to try those again.

use crate::compile::{Attached, WantedInterface};
use crate::netlink::Link;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use tidegate_dataplane::engine::{
    AttachMode, AttachRequest, Attachment, CopyMode, Engine, EngineError, QueueBinding,
};
use tidegate_dataplane::types::{IfIndex, InterfaceSlot, MacAddress};

/// The wait after the first refusal; doubled after each further one.
const RETRY_MIN: Duration = Duration::from_millis(500);
/// The longest wait: short enough that a fix on the host is noticed while its author looks.
const RETRY_MAX: Duration = Duration::from_secs(8);

/// How long an attached interface that no new flow needs is kept: a pod's route may come back with
/// its link, or its Service in a roll-out. What lives goes on in the meantime; longer keeps a slot
/// and frames from others.
const LINGER: Duration = Duration::from_secs(10);

/// The packet path's hooks, or a test's.
pub trait Hooks {
    /// Attaches and binds, also what is attached already and is to be had otherwise.
    ///
    /// # Errors
    /// The kernel refused; nothing is left attached.
    fn attach(&mut self, request: &AttachRequest) -> Result<Attachment, EngineError>;
    /// Follows a changed link address.
    ///
    /// # Errors
    /// The kernel refused.
    fn set_mac(&mut self, slot: InterfaceSlot, mac: MacAddress) -> Result<(), EngineError>;
    /// Follows which VLANs have interfaces on it.
    ///
    /// # Errors
    /// There are too many.
    fn set_vlans(&mut self, slot: InterfaceSlot, vlans: &[u16]) -> Result<(), EngineError>;
    /// Detaches. Idempotent.
    fn detach(&mut self, slot: InterfaceSlot);
}

impl Hooks for Engine {
    fn attach(&mut self, request: &AttachRequest) -> Result<Attachment, EngineError> {
        Self::attach(self, request)
    }

    fn set_mac(&mut self, slot: InterfaceSlot, mac: MacAddress) -> Result<(), EngineError> {
        Self::set_mac(self, slot, mac)
    }

    fn set_vlans(&mut self, slot: InterfaceSlot, vlans: &[u16]) -> Result<(), EngineError> {
        Self::set_vlans(self, slot, vlans)
    }

    fn detach(&mut self, slot: InterfaceSlot) {
        Self::detach(self, slot);
    }
}

/// An attached interface.
#[derive(Debug, Clone)]
pub struct Live {
    /// What was asked for.
    pub request: AttachRequest,
    /// What was granted.
    pub granted: Attachment,
}

impl Live {
    /// `native` or `generic`, as the kernel reports it back.
    pub fn attach_word(&self) -> &'static str {
        match self.granted.attach_mode {
            AttachMode::Auto | AttachMode::Native => "native",
            AttachMode::Generic => "generic",
        }
    }

    /// `ZERO-COPY`, `COPY`, or `MIXED` where the queues differ; none without queues.
    pub fn copy_word(&self) -> Option<&'static str> {
        copy_word(&self.granted.queues)
    }
}

fn copy_word(queues: &[QueueBinding]) -> Option<&'static str> {
    let has = |mode: bool| queues.iter().any(|q| (q.copy_mode == CopyMode::ZeroCopy) == mode);
    match (has(true), has(false)) {
        (true, true) => Some("MIXED"),
        (true, false) => Some("ZERO-COPY"),
        (false, true) => Some("COPY"),
        (false, false) => None,
    }
}

/// An interface that refused.
#[derive(Debug)]
pub struct Refused {
    /// Its name.
    pub name: String,
    /// Why.
    pub error: EngineError,
    /// Its link then.
    link: Link,
    next_try: Instant,
    wait: Duration,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Attachments {
    live: BTreeMap<InterfaceSlot, Live>,
    refused: BTreeMap<IfIndex, Refused>,
    /// Since when those are there that no new flow needs.
    idle_since: BTreeMap<InterfaceSlot, Instant>,
    /// Names of slots that were ever attached: their counters stay.
    names: BTreeMap<InterfaceSlot, String>,
}

impl Attachments {
    /// What the compiler wants to know.
    pub fn attached(&self) -> Attached {
        self.live.iter().map(|(slot, live)| (*slot, live.request.index)).collect()
    }

    /// The attached interfaces.
    pub fn live(&self) -> &BTreeMap<InterfaceSlot, Live> {
        &self.live
    }

    /// The interfaces that refused.
    pub fn refused(&self) -> &BTreeMap<IfIndex, Refused> {
        &self.refused
    }

    /// Every slot that was ever attached, with its last interface's name.
    pub fn names(&self) -> &BTreeMap<InterfaceSlot, String> {
        &self.names
    }

    /// Whether an interface that refused is due again, or one that nobody needs is to leave.
    pub fn is_due(&self, now: Instant) -> bool {
        self.refused.values().any(|refused| refused.next_try <= now)
            || self.idle_since.values().any(|since| *since + LINGER <= now)
    }

    /// Attaches what is wanted and due. True if that changed what is attached.
    pub fn attach(
        &mut self,
        hooks: &mut impl Hooks,
        wanted: &[WantedInterface],
        now: Instant,
    ) -> bool {
        let indexes: BTreeSet<_> = wanted.iter().map(|wanted| wanted.request.index).collect();
        self.refused.retain(|index, _| indexes.contains(index));
        let mut is_changed = false;
        for wanted in wanted {
            let request = &wanted.request;
            match self.live.get_mut(&request.slot) {
                Some(live) if is_as_wanted(&live.request, request) => {
                    follow_mac(hooks, live, request.mac);
                    follow_vlans(hooks, live, &request.vlans);
                    self.follow_name(request);
                }
                Some(_) => {
                    self.live.remove(&request.slot);
                    self.try_attach(hooks, wanted, now);
                    is_changed = true;
                }
                None if wanted.is_needed => is_changed |= self.try_attach(hooks, wanted, now),
                None => {}
            }
        }
        is_changed
    }

    fn try_attach(
        &mut self,
        hooks: &mut impl Hooks,
        wanted: &WantedInterface,
        now: Instant,
    ) -> bool {
        let request = &wanted.request;
        // What was refused to another link may be granted to this one, so it is not waited for.
        let before = self.refused.get(&request.index).filter(|before| before.link == wanted.link);
        if before.is_some_and(|refused| refused.next_try > now) {
            return false;
        }
        let wait = before.map_or(RETRY_MIN, |refused| (refused.wait * 2).min(RETRY_MAX));
        match hooks.attach(request) {
            Ok(granted) => {
                self.refused.remove(&request.index);
                self.names.insert(request.slot, request.name.clone());
                let live = Live { request: request.clone(), granted };
                let (attach, copy) = (live.attach_word(), live.copy_word());
                tracing::info!(interface = request.name, attach, copy, "attached");
                self.live.insert(request.slot, live);
                true
            }
            Err(error) => {
                let (name, link) = (request.name.clone(), wanted.link.clone());
                tell(self.refused.get(&request.index), &name, &error);
                let refused = Refused { name, error, link, next_try: now + wait, wait };
                self.refused.insert(request.index, refused);
                false
            }
        }
    }

    fn follow_name(&mut self, request: &AttachRequest) {
        let Some(live) = self.live.get_mut(&request.slot) else { return };
        if live.request.name != request.name {
            tracing::info!(from = live.request.name, to = request.name, "renamed");
            live.request.name.clone_from(&request.name);
            self.names.insert(request.slot, request.name.clone());
        }
    }

    /// Takes those out that have lost their program, to be [`Hooks::detach`]ed and attached anew.
    pub fn take_lost(&mut self, lost: &[InterfaceSlot]) -> Vec<Live> {
        lost.iter().filter_map(|slot| self.live.remove(slot)).collect()
    }

    /// Those whose queues were released: they are attached anew as they are, with their programs.
    pub fn renew(&mut self, slots: &[InterfaceSlot]) {
        for slot in slots {
            let Some(live) = self.live.get_mut(slot) else { continue };
            tracing::info!(interface = live.request.name, "its frames are made anew");
            live.request.queues.clear();
        }
    }

    /// Takes those out that are no longer wanted, vanished ones among them, and those that nobody
    /// needed for a while and by which no flow goes, as `is_in_use` tells. They are to be
    /// [`Hooks::detach`]ed once a snapshot without them is published.
    pub fn take_unwanted(
        &mut self,
        wanted: &[WantedInterface],
        now: Instant,
        is_in_use: impl Fn(IfIndex) -> bool,
    ) -> Vec<Live> {
        let wanted: BTreeMap<_, _> =
            wanted.iter().map(|wanted| (wanted.request.slot, wanted.is_needed)).collect();
        let (mut leaving, mut idle) = (Vec::new(), BTreeMap::new());
        for (slot, live) in &self.live {
            let since = self.idle_since.get(slot).copied().unwrap_or(now);
            match wanted.get(slot) {
                Some(true) => {}
                Some(false) if since + LINGER > now => drop(idle.insert(*slot, since)),
                Some(false) if is_in_use(live.request.index) => drop(idle.insert(*slot, now)),
                Some(false) | None => leaving.push(*slot),
            }
        }
        self.idle_since = idle;
        leaving.iter().filter_map(|slot| self.live.remove(slot)).collect()
    }
}

/// Whether an attached interface is as it is wanted now, but for what can be followed: its name and
/// its link address.
fn is_as_wanted(live: &AttachRequest, wanted: &AttachRequest) -> bool {
    live.index == wanted.index
        && live.queues == wanted.queues
        && live.attach_mode == wanted.attach_mode
        && live.copy_mode == wanted.copy_mode
        && live.is_small == wanted.is_small
        && live.side == wanted.side
}

/// Tells of a refusal: once, not at each try.
fn tell(before: Option<&Refused>, name: &str, error: &EngineError) {
    let is_told = before.is_some_and(|before| before.error.to_string() == error.to_string());
    if is_told || error.errno == libc::ENODEV {
        // One that is gone is not missed: who waits for it by name is told elsewhere.
        tracing::debug!(interface = name, %error, "cannot attach");
    } else {
        let fix = error.fix.as_deref();
        tracing::warn!(interface = name, %error, fix, "cannot attach; trying again");
    }
}

fn follow_mac(hooks: &mut impl Hooks, live: &mut Live, mac: MacAddress) {
    if live.request.mac == mac {
        return;
    }
    match hooks.set_mac(live.request.slot, mac) {
        Ok(()) => live.request.mac = mac,
        Err(error) => tracing::warn!(%error, "cannot follow a changed link address"),
    }
}

fn follow_vlans(hooks: &mut impl Hooks, live: &mut Live, vlans: &[u16]) {
    if live.request.vlans == vlans {
        return;
    }
    match hooks.set_vlans(live.request.slot, vlans) {
        Ok(()) => live.request.vlans = vlans.to_vec(),
        Err(error) => tracing::warn!(%error, "cannot leave a VLAN to the kernel"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Role;
    use tidegate_dataplane::snapshot::Side;
    use tidegate_dataplane::types::WorkerId;

    /// Refuses the interface numbers in `refuses`.
    #[derive(Default)]
    struct Fake {
        refuses: BTreeSet<u32>,
        tried: Vec<u32>,
        macs: Vec<MacAddress>,
        vlans: Vec<Vec<u16>>,
    }

    impl Hooks for Fake {
        fn attach(&mut self, request: &AttachRequest) -> Result<Attachment, EngineError> {
            self.tried.push(request.index.0);
            let words = || "veth: Peer MTU is too large to set XDP".to_owned();
            if self.refuses.contains(&request.index.0) {
                let what = "attach".to_owned();
                return Err(EngineError { what, kernel: words(), errno: 34, fix: None });
            }
            let (slot, attach_mode) = (request.slot, AttachMode::Native);
            Ok(Attachment { slot, attach_mode, native_refused: None, queues: vec![] })
        }

        fn set_mac(&mut self, _: InterfaceSlot, mac: MacAddress) -> Result<(), EngineError> {
            self.macs.push(mac);
            Ok(())
        }

        fn set_vlans(&mut self, _: InterfaceSlot, vlans: &[u16]) -> Result<(), EngineError> {
            self.vlans.push(vlans.to_vec());
            Ok(())
        }

        fn detach(&mut self, _: InterfaceSlot) {}
    }

    fn wanted(slot: u16) -> WantedInterface {
        let request = AttachRequest {
            slot: InterfaceSlot(slot),
            name: format!("eth{slot}"),
            index: IfIndex(u32::from(slot) + 10),
            mac: MacAddress([2, 0, 0, 0, 0, 1]),
            queues: vec![0],
            attach_mode: AttachMode::Auto,
            copy_mode: CopyMode::Auto,
            is_small: false,
            side: Side::Clients,
            vlans: Vec::new(),
        };
        let link = Link { mtu_bytes: 9000, ..Link::ethernet(request.index, &request.name) };
        WantedInterface { request, role: Role::Both, is_required: true, is_needed: true, link }
    }

    #[test]
    fn a_refusal_waits_longer_each_time_and_does_not_stop_the_others() {
        let (mut attachments, mut hooks) = (Attachments::default(), Fake::default());
        hooks.refuses.insert(11);
        let (all, start) = ([wanted(1), wanted(2)], Instant::now());
        assert!(attachments.attach(&mut hooks, &all, start));
        assert_eq!(attachments.attached().keys().copied().collect::<Vec<_>>(), [InterfaceSlot(2)]);
        assert!(!attachments.is_due(start));
        assert!(!attachments.attach(&mut hooks, &all, start));
        let second = start + RETRY_MIN;
        assert!(attachments.is_due(second));
        assert!(!attachments.attach(&mut hooks, &all, second));
        assert!(!attachments.is_due(second + RETRY_MIN));
        assert!(attachments.is_due(second + 2 * RETRY_MIN));
        assert_eq!(hooks.tried, [11, 12, 11]);
    }

    #[test]
    fn the_wait_is_bounded_and_ends_with_the_cause() {
        let (mut attachments, mut hooks) = (Attachments::default(), Fake::default());
        hooks.refuses.insert(11);
        let mut now = Instant::now();
        for _ in 0..20 {
            attachments.attach(&mut hooks, &[wanted(1)], now);
            now += RETRY_MAX;
            assert!(attachments.is_due(now));
        }
        hooks.refuses.clear();
        assert!(attachments.attach(&mut hooks, &[wanted(1)], now));
        assert!(attachments.refused().is_empty() && !attachments.is_due(now + RETRY_MAX));
    }

    #[test]
    fn a_refusal_is_forgotten_with_its_interface() {
        let (mut attachments, mut hooks) = (Attachments::default(), Fake::default());
        hooks.refuses.insert(11);
        attachments.attach(&mut hooks, &[wanted(1)], Instant::now());
        assert_eq!(attachments.refused().len(), 1);
        attachments.attach(&mut hooks, &[], Instant::now());
        assert!(attachments.refused().is_empty());
    }

    #[test]
    fn what_is_not_wanted_leaves_but_its_name_stays_with_its_counters() {
        let (mut attachments, mut hooks) = (Attachments::default(), Fake::default());
        attachments.attach(&mut hooks, &[wanted(1), wanted(2)], Instant::now());
        let leaving = attachments.take_unwanted(&[wanted(2)], Instant::now(), |_| true);
        assert_eq!(leaving.len(), 1);
        assert_eq!(leaving[0].request.name, "eth1");
        assert_eq!(attachments.names().len(), 2);
        assert_eq!(attachments.attached().len(), 1);
    }

    #[test]
    fn a_changed_link_address_is_followed_once() {
        let (mut attachments, mut hooks) = (Attachments::default(), Fake::default());
        attachments.attach(&mut hooks, &[wanted(1)], Instant::now());
        let mut moved = wanted(1);
        moved.request.mac = MacAddress([2, 0, 0, 0, 0, 9]);
        for _ in 0..2 {
            assert!(!attachments.attach(&mut hooks, &[moved.clone()], Instant::now()));
        }
        assert_eq!((hooks.macs, hooks.tried.len()), (vec![moved.request.mac], 1));
    }

    #[test]
    fn what_no_new_flow_needs_leaves_after_a_while_and_not_before_its_last_flow() {
        let (mut attachments, mut hooks) = (Attachments::default(), Fake::default());
        let start = Instant::now();
        attachments.attach(&mut hooks, &[wanted(1)], start);
        let idle = [WantedInterface { is_needed: false, ..wanted(1) }];
        let mut leaving_at = |seconds: u64, list: &[_], is_in_use: bool| {
            let now = start + Duration::from_secs(seconds);
            attachments.attach(&mut hooks, list, now);
            let leaving = attachments.take_unwanted(list, now, |_| is_in_use).len();
            (leaving, attachments.is_due(now), attachments.is_due(now + LINGER))
        };
        assert_eq!(leaving_at(0, &idle, false), (0, false, true));
        assert_eq!(leaving_at(9, &[wanted(1)], false), (0, false, false), "needed again");
        assert_eq!(leaving_at(11, &idle, false), (0, false, true));
        assert_eq!(leaving_at(21, &idle, true), (0, false, true), "it has flows");
        assert_eq!(leaving_at(31, &idle, false), (1, false, false));
        assert_eq!(leaving_at(32, &idle, false), (0, false, false), "it is not attached again");
        assert_eq!(hooks.tried, [11]);
    }

    #[test]
    fn a_change_of_the_link_ends_the_wait() {
        let (mut attachments, mut hooks) = (Attachments::default(), Fake::default());
        hooks.refuses.insert(11);
        let now = Instant::now();
        attachments.attach(&mut hooks, &[wanted(1)], now);
        hooks.refuses.clear();
        let mut smaller = wanted(1);
        assert!(!attachments.attach(&mut hooks, &[smaller.clone()], now), "not due yet");
        smaller.link.mtu_bytes = 1500;
        assert!(attachments.attach(&mut hooks, &[smaller], now));
    }

    #[test]
    fn a_new_name_is_followed_and_other_queues_are_bound_anew() {
        let (mut attachments, mut hooks) = (Attachments::default(), Fake::default());
        let now = Instant::now();
        attachments.attach(&mut hooks, &[wanted(1)], now);
        let mut other = wanted(1);
        other.request.name = "new".to_owned();
        assert!(!attachments.attach(&mut hooks, &[other.clone()], now));
        let slot = InterfaceSlot(1);
        assert_eq!(attachments.live()[&slot].request.name, "new");
        assert_eq!((&*attachments.names()[&slot], hooks.tried.len()), ("new", 1));
        other.request.queues = vec![0, 1];
        assert!(attachments.attach(&mut hooks, &[other.clone()], now));
        assert_eq!((attachments.live()[&slot].request.queues.len(), hooks.tried.len()), (2, 2));
        other.request.queues = vec![0];
        hooks.refuses.insert(11);
        assert!(attachments.attach(&mut hooks, &[other.clone()], now));
        assert!(attachments.live().is_empty() && attachments.refused().len() == 1);
    }

    #[test]
    fn what_lost_its_program_is_attached_anew() {
        let (mut attachments, mut hooks) = (Attachments::default(), Fake::default());
        let now = Instant::now();
        attachments.attach(&mut hooks, &[wanted(1), wanted(2)], now);
        let lost = attachments.take_lost(&[InterfaceSlot(2), InterfaceSlot(9)]);
        assert_eq!(lost.iter().map(|live| live.request.slot.0).collect::<Vec<_>>(), [2]);
        assert!(attachments.attach(&mut hooks, &[wanted(1), wanted(2)], now));
        assert_eq!(hooks.tried, [11, 12, 12]);
    }

    #[test]
    fn what_is_renewed_is_attached_once_more_without_a_detach_also_if_nobody_needs_it() {
        let (mut attachments, mut hooks) = (Attachments::default(), Fake::default());
        let now = Instant::now();
        attachments.attach(&mut hooks, &[wanted(1), wanted(2)], now);
        attachments.renew(&[InterfaceSlot(2), InterfaceSlot(9)]);
        let idle = WantedInterface { is_needed: false, ..wanted(2) };
        for _ in 0..2 {
            attachments.attach(&mut hooks, &[wanted(1), idle.clone()], now);
        }
        assert_eq!((hooks.tried, attachments.live().len()), (vec![11, 12, 12], 2));
    }

    #[test]
    fn a_vlan_that_gets_an_interface_is_left_to_the_kernel_without_a_new_attach() {
        let (mut attachments, mut hooks) = (Attachments::default(), Fake::default());
        attachments.attach(&mut hooks, &[wanted(1)], Instant::now());
        let mut with_vlan = wanted(1);
        with_vlan.request.vlans = vec![7];
        for _ in 0..2 {
            assert!(!attachments.attach(&mut hooks, &[with_vlan.clone()], Instant::now()));
        }
        assert_eq!((hooks.vlans, hooks.tried.len()), (vec![vec![7]], 1));
    }

    fn binding(copy_mode: CopyMode) -> QueueBinding {
        QueueBinding { queue: 0, worker: WorkerId(0), copy_mode, zero_copy_refused: None }
    }

    #[test]
    fn queues_that_differ_are_called_mixed() {
        let word = |modes: &[CopyMode]| {
            copy_word(&modes.iter().map(|mode| binding(*mode)).collect::<Vec<_>>())
        };
        assert_eq!(word(&[CopyMode::Copy, CopyMode::Copy]), Some("COPY"));
        assert_eq!(word(&[CopyMode::ZeroCopy]), Some("ZERO-COPY"));
        assert_eq!(word(&[CopyMode::ZeroCopy, CopyMode::Copy]), Some("MIXED"));
        assert_eq!(word(&[]), None);
    }
}
