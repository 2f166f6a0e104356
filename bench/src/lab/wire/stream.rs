//! The packets of a load, one after the other: flows in turn, sizes in turn, some SYNs among them.

use super::frame::{CHECK_BYTES, Ends, Stamp, Step, Template};

/// What is to be sent: the packets of a load, in the order of a mix.
#[derive(Debug)]
pub(crate) struct Stream {
    /// One for each size of the mix, in the order in which they go.
    templates: Vec<Template>,
    flows: u32,
    /// Of a million packets so many are SYNs of new flows.
    syns_per_million: u64,
    sent_data: u64,
    sent_syns: u64,
    sent: u64,
}

impl Stream {
    /// Packets of these sizes in turn, over so many flows.
    pub(crate) fn new(ends: &Ends, sizes: &[usize], flows: u32, syn_share: f64) -> Self {
        Self {
            templates: sizes.iter().map(|size| Template::new(ends, *size)).collect(),
            flows,
            syns_per_million: millionths(syn_share),
            sent_data: 0,
            sent_syns: 0,
            sent: 0,
        }
    }

    /// The first packet's size, with the frame check sequence.
    pub(crate) fn size_first(&self) -> usize {
        self.templates.first().map_or(0, |template| template.len() + CHECK_BYTES)
    }

    /// Writes the next packet, and returns its length.
    pub(super) fn write(&mut self, frame: &mut [u8], due_ns: u64, opening: bool) -> usize {
        let at = usize::try_from(self.sent).unwrap_or(0) % self.templates.len();
        let template = &self.templates[at];
        let share = self.syns_per_million;
        let is_syn =
            !opening && (self.sent + 1) * share / 1_000_000 > self.sent * share / 1_000_000;
        self.sent += 1;
        let (count, flows) = if is_syn {
            (&mut self.sent_syns, u64::from(u32::MAX))
        } else {
            (&mut self.sent_data, u64::from(self.flows))
        };
        let (flow, round) = (low(*count % flows), low(*count / flows));
        *count += 1;
        let step = if is_syn || opening { Step::Open } else { Step::Data };
        if is_syn {
            let stamp = Stamp { flow: self.flows, sequence: flow, due_ns };
            template.write(frame, self.flows.wrapping_add(flow), step, &stamp);
        } else {
            let stamp = Stamp { flow, sequence: round, due_ns };
            template.write(frame, flow, step, &stamp);
        }
        template.len()
    }
}

#[expect(clippy::cast_possible_truncation, reason = "numbers of packets wrap, flows fit")]
fn low(number: u64) -> u32 {
    number as u32
}

#[expect(clippy::cast_possible_truncation, reason = "a share is 1 at most")]
#[expect(clippy::cast_sign_loss, reason = "a share is not negative")]
fn millionths(share: f64) -> u64 {
    (share.clamp(0.0, 1.0) * 1e6).round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::wire::frame::Transport;
    use crate::lab::wire::frame::tests::ends;

    fn stamps(stream: &mut Stream, count: u64, opening: bool) -> Vec<Stamp> {
        let mut frame = [0; 1_514];
        let mut write = |due_ns| {
            let length = stream.write(&mut frame, due_ns, opening);
            Stamp::read(&frame[..length]).unwrap()
        };
        (0..count).map(&mut write).collect()
    }

    #[test]
    fn flows_go_in_turn_and_each_counts_its_own_packets() {
        let ends = ends("192.0.2.10", "192.0.2.1:30090", Transport::Udp);
        let mut stream = Stream::new(&ends, &[64], 3, 0.0);
        let stamps: Vec<_> =
            stamps(&mut stream, 7, false).iter().map(|s| (s.flow, s.sequence)).collect();
        assert_eq!(stamps, [(0, 0), (1, 0), (2, 0), (0, 1), (1, 1), (2, 1), (0, 2)]);
    }

    #[test]
    fn a_share_of_syns_goes_to_flows_that_were_not_there() {
        let ends = ends("192.0.2.10", "192.0.2.1:30090", Transport::Tcp);
        let mut stream = Stream::new(&ends, &[76], 10, 0.25);
        let stamps = stamps(&mut stream, 1_000, false);
        let syns: Vec<_> = stamps.iter().filter(|stamp| stamp.flow == 10).collect();
        assert_eq!(syns.len(), 250);
        assert!(syns.iter().zip(0..).all(|(stamp, number)| stamp.sequence == number));
        assert_eq!(stamps.iter().filter(|stamp| stamp.flow == 9).count(), 75);
    }

    #[test]
    fn sizes_go_in_the_order_of_the_mix() {
        let ends = ends("192.0.2.10", "192.0.2.1:30090", Transport::Udp);
        let mut stream = Stream::new(&ends, &[64, 1_518], 1, 0.0);
        let mut frame = [0; 1_514];
        let lengths = [0, 1, 2].map(|due_ns| stream.write(&mut frame, due_ns, true));
        assert_eq!(lengths, [60, 1_514, 60]);
        assert_eq!(stream.size_first(), 64);
    }
}
