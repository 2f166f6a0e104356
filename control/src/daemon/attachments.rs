//! Which interfaces are attached, which refused, and when to try those again.

use crate::compile::{Attached, WantedInterface};
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

/// The packet path's hooks, or a test's.
pub trait Hooks {
    /// Attaches and binds.
    ///
    /// # Errors
    /// The kernel refused; nothing is left attached.
    fn attach(&mut self, request: &AttachRequest) -> Result<Attachment, EngineError>;
    /// Follows a changed link address.
    ///
    /// # Errors
    /// The kernel refused.
    fn set_mac(&mut self, slot: InterfaceSlot, mac: MacAddress) -> Result<(), EngineError>;
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
    next_try: Instant,
    wait: Duration,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Attachments {
    live: BTreeMap<InterfaceSlot, Live>,
    refused: BTreeMap<IfIndex, Refused>,
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

    /// Whether an interface that refused is due again.
    pub fn is_retry_due(&self, now: Instant) -> bool {
        self.refused.values().any(|refused| refused.next_try <= now)
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
        for WantedInterface { request, .. } in wanted {
            match self.live.get_mut(&request.slot) {
                Some(live) => follow_mac(hooks, live, request.mac),
                None => is_changed |= self.try_attach(hooks, request, now),
            }
        }
        is_changed
    }

    fn try_attach(
        &mut self,
        hooks: &mut impl Hooks,
        request: &AttachRequest,
        now: Instant,
    ) -> bool {
        let before = self.refused.get(&request.index);
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
                let (name, retry_ms) = (request.name.clone(), wait.as_millis());
                tracing::warn!(interface = name, %error, retry_ms, "cannot attach");
                let refused = Refused { name, error, next_try: now + wait, wait };
                self.refused.insert(request.index, refused);
                false
            }
        }
    }

    /// Takes those out that are no longer wanted, vanished ones among them. They are to be
    /// [`Hooks::detach`]ed once a snapshot without them is published.
    pub fn take_unwanted(&mut self, wanted: &[WantedInterface]) -> Vec<Live> {
        let slots: BTreeSet<_> = wanted.iter().map(|wanted| wanted.request.slot).collect();
        let leaving: Vec<_> =
            self.live.keys().filter(|slot| !slots.contains(slot)).copied().collect();
        leaving.iter().filter_map(|slot| self.live.remove(slot)).collect()
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
        };
        WantedInterface { request, role: Role::Both, is_required: true }
    }

    #[test]
    fn a_refusal_waits_longer_each_time_and_does_not_stop_the_others() {
        let (mut attachments, mut hooks) = (Attachments::default(), Fake::default());
        hooks.refuses.insert(11);
        let (all, start) = ([wanted(1), wanted(2)], Instant::now());
        assert!(attachments.attach(&mut hooks, &all, start));
        assert_eq!(attachments.attached().keys().copied().collect::<Vec<_>>(), [InterfaceSlot(2)]);
        assert!(!attachments.is_retry_due(start));
        assert!(!attachments.attach(&mut hooks, &all, start));
        let second = start + RETRY_MIN;
        assert!(attachments.is_retry_due(second));
        assert!(!attachments.attach(&mut hooks, &all, second));
        assert!(!attachments.is_retry_due(second + RETRY_MIN));
        assert!(attachments.is_retry_due(second + 2 * RETRY_MIN));
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
            assert!(attachments.is_retry_due(now));
        }
        hooks.refuses.clear();
        assert!(attachments.attach(&mut hooks, &[wanted(1)], now));
        assert!(attachments.refused().is_empty() && !attachments.is_retry_due(now + RETRY_MAX));
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
        let leaving = attachments.take_unwanted(&[wanted(2)]);
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
