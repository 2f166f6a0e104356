//! Sentences about reports that several readers show.

use crate::admin::report::InterfaceReport;

impl InterfaceReport {
    /// Everything about the interface that is less than it could be.
    pub fn remarks(&self) -> Vec<String> {
        let error = self.error.iter().map(|words| format!("cannot attach: {words}"));
        let native = self.native_refused.iter().map(|words| format!("no native XDP: {words}"));
        let copy = self.zero_copy_refused.iter().map(|words| format!("no zero-copy: {words}"));
        error.chain(native).chain(copy).chain(self.uncut()).collect()
    }

    /// Natively the kernel turns the sender's segmentation by the device off, and GRO comes later.
    fn uncut(&self) -> Option<String> {
        let dropped: u64 = self.queues.iter().map(|queue| queue.rx_dropped).sum();
        let is_generic = self.attach_mode.as_deref() == Some("generic");
        (is_generic && dropped > 0).then(|| {
            format!(
                "{dropped} packets fitted no frame (XSK_RX_DROPPED): in generic mode they come \
                 uncut. A veth: attachMode: native; an overlay: ethtool -K UNDERLAY gro off"
            )
        })
    }

    /// Modes, queues and MTU on one line.
    pub fn modes(&self) -> String {
        let modes = match (&self.attach_mode, &self.copy_mode) {
            (Some(attach), Some(copy)) => format!("{attach} XDP, {copy}"),
            _ => "not attached".to_owned(),
        };
        let queues = match self.queues.len() {
            0 => String::new(),
            1 => ", 1 queue".to_owned(),
            n => format!(", {n} queues"),
        };
        format!("{modes}{queues}, MTU {}", self.mtu)
    }
}
