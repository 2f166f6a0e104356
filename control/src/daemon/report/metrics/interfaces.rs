//! Interfaces and queues: modes, and what the kernel counted before our rings.

use crate::admin::report::InterfaceReport;
use crate::daemon::attachments::Attachments;
use crate::metrics::family::{Family, Label};
use tidegate_dataplane::engine::{Engine, QueueStatistics};

pub(super) fn families(
    interfaces: &[InterfaceReport],
    queues_counted: &[QueueStatistics],
    engine: &Engine,
    attachments: &Attachments,
) -> Vec<Family> {
    let named = queues_counted.iter().filter_map(|statistics| {
        let live = attachments.live().get(&statistics.slot)?;
        Some((live.request.name.as_str(), statistics))
    });
    let named: Vec<_> = named.collect();
    let mut families = vec![info(interfaces), kernel(&named), neighbors(engine)];
    families.extend(queues(&named));
    families
}

fn info(interfaces: &[InterfaceReport]) -> Family {
    let mut info = Family::gauge(
        "tidegate_interface_info",
        "An interface's modes; 0 while it is not attached.",
    );
    let word = |mode: Option<&String>| mode.map_or_else(|| "none".into(), |m| m.to_lowercase());
    for interface in interfaces {
        let labels: [(&str, Label); 4] = [
            ("interface", interface.name.clone().into()),
            ("attach_mode", word(interface.attach_mode.as_ref()).into()),
            ("copy_mode", word(interface.copy_mode.as_ref()).into()),
            ("queues", interface.queues.len().to_string().into()),
        ];
        info.push(labels, u64::from(interface.attached));
    }
    info
}

/// The six counters of XDP_STATISTICS.
fn kernel(named: &[(&str, &QueueStatistics)]) -> Family {
    let mut family = Family::counter(
        "tidegate_xsk_statistics",
        "What the kernel counted for an AF_XDP socket, by its own names.",
    );
    for (interface, queue) in named {
        let kinds = [
            ("rx_dropped", queue.rx_dropped),
            ("rx_invalid_descs", queue.rx_invalid_descs),
            ("tx_invalid_descs", queue.tx_invalid_descs),
            ("rx_ring_full", queue.rx_ring_full),
            ("rx_fill_ring_empty_descs", queue.rx_fill_ring_empty_descs),
            ("tx_ring_empty_descs", queue.tx_ring_empty_descs),
        ];
        for (kind, count) in kinds {
            let labels: [(&str, Label); 3] = [
                ("interface", (*interface).to_owned().into()),
                ("queue", queue.queue.to_string().into()),
                ("kind", kind.into()),
            ];
            family.push(labels, count);
        }
    }
    family
}

/// What went through each queue's rings: how the card spreads packets.
fn queues(named: &[(&str, &QueueStatistics)]) -> Vec<Family> {
    type Read = fn(&QueueStatistics) -> u64;
    let told: [(&str, &str, Read); 4] = [
        ("tidegate_queue_received_packets", "Packets read from a queue's receive ring.", |q| {
            q.received_packets
        }),
        ("tidegate_queue_received_bytes", "Bytes read from a queue's receive ring.", |q| {
            q.received_bytes
        }),
        ("tidegate_queue_transmitted_packets", "Packets put on a queue's transmit ring.", |q| {
            q.transmitted_packets
        }),
        ("tidegate_queue_transmitted_bytes", "Bytes put on a queue's transmit ring.", |q| {
            q.transmitted_bytes
        }),
    ];
    let family = |(name, help, read): (&'static str, &'static str, Read)| {
        let mut family = Family::counter(name, help);
        for (interface, queue) in named {
            let labels: [(&str, Label); 2] = [
                ("interface", (*interface).to_owned().into()),
                ("queue", queue.queue.to_string().into()),
            ];
            family.push(labels, read(queue));
        }
        family
    };
    told.into_iter().map(family).collect()
}

fn neighbors(engine: &Engine) -> Family {
    let mut family = Family::gauge("tidegate_neighbors", "Next hops of backends by their state.");
    let snapshot = engine.snapshot();
    for (state, count) in crate::daemon::report::node::neighbor_counts(&snapshot) {
        family.push([("state", state.into())], count);
    }
    family
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::view::fixtures;
    use crate::metrics::exposition::{Form, write};

    #[test]
    fn an_interface_that_waits_is_told_as_not_attached() {
        let family = info(&[fixtures::interface(), fixtures::waiting_interface()]);
        let text = String::from_utf8(write(vec![family], Form::Classic, false).unwrap()).unwrap();
        let attached = "tidegate_interface_info{interface=\"eth0\",attach_mode=\"generic\",\
                        copy_mode=\"copy\",queues=\"2\"} 1";
        let waiting = "tidegate_interface_info{interface=\"eth1\",attach_mode=\"none\",\
                       copy_mode=\"none\",queues=\"0\"} 0";
        assert!(text.contains(attached) && text.contains(waiting), "{text}");
    }
}
