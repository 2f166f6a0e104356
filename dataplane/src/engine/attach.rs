//! Interfaces that come and go.

use crate::engine::bind::BoundQueue;
use crate::engine::{AttachRequest, Attachment, Engine, EngineError};
use crate::types::{IfIndex, InterfaceSlot};
use crate::xdp::hook::AttachedProgram;

/// An attached interface as the engine remembers it.
#[derive(Debug)]
pub(super) struct AttachedInterface {
    pub(super) request: AttachRequest,
    /// Dropping it detaches. `None` after the interface was given up for a stale worker.
    pub(super) program: Option<AttachedProgram>,
    pub(super) queues: Vec<BoundQueue>,
}

impl Engine {
    /// Attaches the program to an interface and binds its queues; packets flow when it returns. An
    /// attached interface that is to be had otherwise keeps its program meanwhile: no packet of a
    /// live flow gets past us to the kernel.
    ///
    /// # Errors
    /// The kernel refused the program or a queue; nothing is left attached then.
    pub fn attach(&mut self, request: &AttachRequest) -> Result<Attachment, EngineError> {
        let program = match self.keep_program(request) {
            Some(program) => program,
            None => self.steering.attach(request.index, request.attach_mode)?,
        };
        let attachment = Attachment {
            slot: request.slot,
            attach_mode: program.mode,
            native_refused: program.native_refused.clone(),
            queues: Vec::new(),
        };
        let interface = AttachedInterface {
            request: request.clone(),
            program: Some(program),
            queues: Vec::with_capacity(request.queues.len()),
        };
        self.attached.insert(request.slot, interface);
        self.known_slots.insert(request.slot);
        match self.go_live(request) {
            Ok(queues) => Ok(Attachment { queues, ..attachment }),
            Err(error) => {
                self.detach(request.slot);
                Err(error)
            }
        }
    }

    /// Ends the slot's attachment, all but its program where `request` can have the same.
    fn keep_program(&mut self, request: &AttachRequest) -> Option<AttachedProgram> {
        let before = self.attached.get_mut(&request.slot)?;
        let is_same = before.request.index == request.index
            && before.request.attach_mode == request.attach_mode;
        if !is_same || !before.program.as_ref().is_some_and(AttachedProgram::is_attached) {
            self.detach(request.slot);
            return None;
        }
        let (program, before) = (before.program.take(), before.request.clone());
        self.release_queues(&before);
        // What is refused here is refused once more, and told, when the interface goes live.
        self.leave_vlans(request.index, &before.vlans, &request.vlans).ok();
        program
    }

    fn release_queues(&mut self, of: &AttachRequest) {
        self.announce_egress(of.slot, None).ok();
        let Some(interface) = self.attached.get_mut(&of.slot) else { return };
        let queues = core::mem::take(&mut interface.queues);
        queues.into_iter().for_each(|bound| self.release_queue(of, bound));
    }

    /// Releases the queues of attached interfaces whose frames are to be made anew: the interface
    /// that they share them by is gone (T7). They are to be attached anew, all of them, and keep
    /// their programs meanwhile: what comes for a live flow is dropped and sent again.
    pub fn release_closed_frames(&mut self) -> Vec<InterfaceSlot> {
        let is_closed = |of: &&AttachedInterface| self.has_closed_frames(&of.queues);
        let closed: Vec<_> =
            self.attached.values().filter(is_closed).map(|of| of.request.clone()).collect();
        closed.iter().for_each(|request| self.release_queues(request));
        closed.into_iter().map(|request| request.slot).collect()
    }

    fn go_live(
        &mut self,
        request: &AttachRequest,
    ) -> Result<Vec<crate::engine::QueueBinding>, EngineError> {
        let mut bindings = Vec::with_capacity(request.queues.len());
        for queue in &request.queues {
            let bound = self.bind_queue(request, *queue)?;
            bindings.push(bound.binding.clone());
            if let Some(interface) = self.attached.get_mut(&request.slot) {
                interface.queues.push(bound);
            }
        }
        self.announce_egress(request.slot, bindings.first().map(|b| b.worker))?;
        self.leave_vlans(request.index, &[], &request.vlans)?;
        // Load-bearing: last. Until here the program passes everything of this interface.
        self.steering.interfaces.set(request.index, request.slot, request.mac, request.side)?;
        Ok(bindings)
    }

    /// Detaches an interface: its packets go to the kernel from now on. Idempotent. Also right when
    /// the interface has vanished already.
    pub fn detach(&mut self, slot: InterfaceSlot) {
        let Some(interface) = self.attached.remove(&slot) else { return };
        self.steering.interfaces.remove(interface.request.index).ok();
        self.leave_vlans(interface.request.index, &interface.request.vlans, &[]).ok();
        self.announce_egress(slot, None).ok();
        // Before the sockets close: the other order has crashed drivers.
        drop(interface.program);
        for bound in interface.queues {
            self.release_queue(&interface.request, bound);
        }
    }

    /// Attached interfaces that have lost their program, and are to be detached and attached anew:
    /// the device was removed, though another may have its number by now, or somebody else took the
    /// hook while a worker hung. Asks the kernel about each of them.
    pub fn lost(&self) -> Vec<InterfaceSlot> {
        let is_lost = |interface: &AttachedInterface| match &interface.program {
            Some(program) => !program.is_attached(),
            None => !interface.queues.iter().any(|queue| self.is_stale(queue.binding.worker)),
        };
        let lost = self.attached.iter().filter(|(_, interface)| is_lost(interface));
        lost.map(|(slot, _)| *slot).collect()
    }

    /// An interface whose MAC address changed: frames to the new one are ours from now on.
    ///
    /// # Errors
    /// The kernel's, should it ever refuse.
    pub fn set_mac(
        &mut self,
        slot: InterfaceSlot,
        mac: crate::types::MacAddress,
    ) -> Result<(), EngineError> {
        let Some(interface) = self.attached.get_mut(&slot) else { return Ok(()) };
        interface.request.mac = mac;
        let AttachRequest { index, side, .. } = interface.request;
        self.steering.interfaces.set(index, slot, mac, side)
    }

    /// An interface of which the host has other VLANs now: the packets of these are the kernel's.
    ///
    /// # Errors
    /// More VLANs than the program's map takes.
    pub fn set_vlans(&mut self, slot: InterfaceSlot, vlans: &[u16]) -> Result<(), EngineError> {
        let Some(interface) = self.attached.get_mut(&slot) else { return Ok(()) };
        let before = core::mem::replace(&mut interface.request.vlans, vlans.to_vec());
        let index = interface.request.index;
        self.leave_vlans(index, &before, vlans)
    }

    /// New ones first: no packet of a VLAN that stays the kernel's may be ours meanwhile. Those
    /// that are gone leave the map also where it is full, and make room.
    fn leave_vlans(
        &self,
        interface: IfIndex,
        before: &[u16],
        now: &[u16],
    ) -> Result<(), EngineError> {
        let vlans = &self.steering.vlans;
        let leave = || now.iter().try_for_each(|id| vlans.leave(interface, *id));
        let left = leave();
        let gone = before.iter().filter(|id| !now.contains(id));
        let taken = gone.map(|id| vlans.take(interface, *id)).fold(Ok(()), Result::and);
        left.or_else(|_full| leave()).and(taken)
    }
}
