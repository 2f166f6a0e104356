//! Interfaces, workers and neighbours as rows.

use crate::admin::report::{InterfaceReport, NeighborReport, QueueReport, WorkerReport};
use crate::cli::view::number::{count, milliseconds, percent, rate};
use crate::cli::view::row::Rows;

impl Rows for InterfaceReport {
    const PLURAL: &'static str = "interfaces";
    const HEADS: &'static [&'static str] = &[
        "NAME",
        "STATE",
        "XDP",
        "MODE",
        "QUEUES",
        "RX",
        "TX",
        "RX/S",
        "TX/S",
        "MTU",
        "REDIRECTED",
        "PASSED",
        "LOST",
        "REMARK",
    ];
    const NARROW: usize = 9;

    fn cells(&self) -> Vec<String> {
        let lost: u64 = self.queues.iter().map(|queue| queue.rx_dropped + queue.rx_ring_full).sum();
        let state = if self.attached { "attached" } else { "waiting" };
        vec![
            self.name.clone(),
            state.to_owned(),
            self.attach_mode.clone().unwrap_or_default(),
            self.copy_mode.clone().unwrap_or_default(),
            queues(self),
            count(self.received_packets),
            count(self.transmitted_packets),
            rate(self.received_per_second),
            rate(self.transmitted_per_second),
            self.mtu.to_string(),
            count(self.redirected_packets),
            count(self.passed_packets),
            count(lost),
            self.remarks().join("; "),
        ]
    }

    fn name(&self) -> String {
        format!("interface/{}", self.name)
    }
}

/// Queues and their workers: `0>w0,1>w1`.
fn queues(interface: &InterfaceReport) -> String {
    let pair = |queue: &QueueReport| format!("{}>w{}", queue.queue, queue.worker);
    interface.queues.iter().map(pair).collect::<Vec<_>>().join(",")
}

impl Rows for WorkerReport {
    const PLURAL: &'static str = "workers";
    const HEADS: &'static [&'static str] = &[
        "WORKER",
        "CPU",
        "BUSY",
        "HEARTBEAT",
        "LONGEST",
        "POLLS",
        "SLEEPS",
        "FLOWS",
        "FRAMES",
        "FREE",
        "FILL",
        "HELD",
        "HANDED",
        "TX",
        "SLEEP BY",
        "EMPTY POLLS",
        "HANDED PACKETS",
        "TAKEN PACKETS",
        "GENERATED",
        "KICKS",
        "SNAT PORTS",
        "SNAPSHOT",
    ];
    const NARROW: usize = 15;

    fn cells(&self) -> Vec<String> {
        let place = |name| count(self.frames.get(name).copied().unwrap_or_default());
        vec![
            self.worker.to_string(),
            self.cpu.map_or_else(|| "any".to_owned(), |cpu| cpu.to_string()),
            percent(self.busy),
            milliseconds(self.heartbeat_milliseconds),
            format!("{}ms", self.heartbeat_gap_milliseconds),
            count(self.polls_work),
            count(self.sleeps),
            count(self.flows),
            count(self.frames_total),
            place("free"),
            place("fill"),
            place("held"),
            place("handed"),
            place("tx"),
            self.sleep.clone(),
            count(self.polls_empty),
            count(self.handed_packets),
            count(self.taken_packets),
            count(self.generated_packets),
            count(self.kicks),
            count(self.snat_ports),
            self.snapshot_version.to_string(),
        ]
    }

    fn name(&self) -> String {
        format!("worker/{}", self.worker)
    }
}

impl Rows for NeighborReport {
    const PLURAL: &'static str = "neighbors";
    const HEADS: &'static [&'static str] =
        &["ADDRESS", "STATE", "INTERFACE", "MAC", "SNAT ADDRESS"];
    const NARROW: usize = 4;

    fn cells(&self) -> Vec<String> {
        vec![
            self.address.clone(),
            self.state.clone(),
            self.interface.clone().unwrap_or_default(),
            self.mac.clone().unwrap_or_default(),
            self.snat_address.clone().unwrap_or_default(),
        ]
    }

    fn name(&self) -> String {
        format!("neighbor/{}", self.address)
    }
}

#[cfg(test)]
mod tests {
    use crate::cli::view::fixtures;
    use crate::cli::view::row::render;

    #[test]
    fn interfaces_name_their_modes_and_workers() {
        let waiting = fixtures::waiting_interface();
        let expected = "\
NAME   STATE      XDP       MODE   QUEUES      RX   TX   RX/S   TX/S
eth0   attached   generic   COPY   0>w0,1>w1   70   50   7      5
eth1   waiting    -         -      -           0    0    0      0
";
        assert_eq!(render(&[fixtures::interface(), waiting], false, true), expected);
    }

    #[test]
    fn compromises_stand_in_the_wide_table() {
        let wide = render(&[fixtures::interface(), fixtures::waiting_interface()], true, false);
        assert!(wide.contains("no native XDP: generic netdevice; no zero-copy: EOPNOTSUPP"));
        assert!(wide.contains("cannot attach: Peer MTU is too large"));
    }

    #[test]
    fn workers_show_where_their_frames_are() {
        let expected = include_str!("../../../testdata/view/workers.txt");
        assert_eq!(render(&[fixtures::worker()], false, true), expected);
    }

    #[test]
    fn neighbors_show_where_they_are() {
        let expected = "\
ADDRESS       STATE      INTERFACE   MAC
10.244.2.17   resolved   eth1        52:54:00:ab:cd:03
";
        assert_eq!(render(&[fixtures::neighbor()], false, true), expected);
    }
}
