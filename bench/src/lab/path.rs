//! Generator and sink around what is tested, both in turn on one thread: with two CPUs the
//! forwarder has one for itself. A sink of its own thread would have to share that one, or take the
//! generator's away in slices of a scheduler's choice.

use super::trial::{Counts, There, Trial};
use super::wire::account::Account;
use super::wire::clock::now_ns;
use super::wire::end::End;
use super::wire::schedule::Schedule;
use super::wire::stream::Stream;
use anyhow::{Context as _, Result};
use std::time::Duration;

/// From the decision to send to the first packet's time.
const LEAD_NS: u64 = 1_000_000;

/// After a load: no packet for so long means that none will come.
const QUIET_NS: u64 = 20_000_000;

/// Longest wait for what is still on its way.
const DRAIN_NS: u64 = 500_000_000;

/// Gentle enough for every forwarder to make its flows.
const OPENING_PPS: f64 = 100_000.0;

/// A generator, what it is to send, and whoever listens.
pub(crate) struct Path {
    client: End,
    /// The backends' end; `None` where that is another machine's.
    backend: Option<End>,
    echoes: bool,
    stream: Stream,
    flows: u32,
    /// What came to where the loads end: to the client if there are echoes.
    account: Account,
    /// What the backends' end sent back.
    reflected: Account,
    lateness_p99_ns_max: u64,
}

impl Path {
    /// A path whose packets end at `backend`, or with `echoes` back at `client`.
    pub(crate) fn new(
        (client, backend): (End, Option<End>),
        echoes: bool,
        (stream, flows): (Stream, u32),
        lateness_max: Duration,
    ) -> Self {
        Self {
            client,
            backend,
            echoes,
            stream,
            flows,
            account: Account::new(flows),
            reflected: Account::new(flows),
            lateness_p99_ns_max: u64::try_from(lateness_max.as_nanos()).unwrap_or(u64::MAX),
        }
    }

    /// The size of the load's first packet, with the frame check sequence.
    pub(crate) fn size_first(&self) -> usize {
        self.stream.size_first()
    }

    /// Makes every flow known: twice over, so that UDP flows are no longer new either.
    pub(crate) fn open_flows(&mut self) -> Result<Trial> {
        let packets = f64::from(self.flows) * 2.0 + 100.0;
        let duration = Duration::from_secs_f64(packets / OPENING_PPS);
        let trial = self.load(OPENING_PPS, duration, true);
        let (sent, came) = (trial.sent, trial.arrivals.packets);
        (trial.lost.is_none() || came * 2 > sent).then_some(trial).with_context(|| {
            format!("open the flows: of {sent} packets {came} arrived; is the gateway serving?")
        })
    }

    /// Offers a rate for a time.
    pub(crate) fn trial(&mut self, rate_pps: f64, duration: Duration) -> Trial {
        self.load(rate_pps, duration, false)
    }

    fn load(&mut self, rate_pps: f64, duration: Duration, opening: bool) -> Trial {
        let Self { client, backend, echoes, stream, account, reflected, .. } = self;
        let schedule = Schedule::new(now_ns() + LEAD_NS, rate_pps, duration);
        account.reset(schedule.start_ns);
        reflected.reset(schedule.start_ns);
        let dropped = |client: &End, backend: &Option<End>| {
            client.dropped() + backend.as_ref().map_or(0, End::dropped)
        };
        let dropped_before = dropped(client, backend);
        let mut listen = |client: &mut End| {
            let there = backend
                .as_mut()
                .map_or(0, |end| end.poll(if *echoes { reflected } else { account }, *echoes));
            there + if *echoes { client.poll(account, false) } else { 0 }
        };
        let sent = client.send(stream, &schedule, opening, &mut |client| {
            listen(client);
        });
        let end_ns = now_ns();
        let mut last_ns = end_ns;
        loop {
            client.push();
            let (came, now) = (listen(client), now_ns());
            if came > 0 {
                last_ns = now;
            }
            if now > (last_ns + QUIET_NS).min(end_ns + DRAIN_NS) {
                break;
            }
        }
        let counts = Counts {
            rate_pps,
            intended: schedule.total,
            sent: sent.packets,
            seconds: Duration::from_nanos(schedule.end_ns() - schedule.start_ns).as_secs_f64(),
            lateness_p99_ns: sent.lateness.value_at_quantile(0.99),
            lateness_p99_ns_max: self.lateness_p99_ns_max,
            sink_dropped: dropped(client, backend) - dropped_before,
            is_unheard: backend.is_none() && !*echoes,
        };
        let there = (*echoes && backend.is_some()).then(|| There::new(sent.packets, reflected));
        Trial { there, ..Trial::new(&counts, account.arrivals, account.latency.clone()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::wire::frame::{Ends, Transport};
    use crate::rivals::rig::{Link, link};
    use tidegate_control::demo::rig::{NetNs, RigPlan, Topology};

    /// The client's cable alone: what it sends, the gateway's end hears.
    fn cable(flows: u32, echoes: bool, destination: &str) -> (Topology, Path) {
        let topology = RigPlan::new("lab-test").build().unwrap();
        let open = |netns: &NetNs, receives| -> (End, Link) {
            let link = link(netns, "eth0").unwrap();
            let end = netns.enter(|| End::open("eth0", 0, link.index, receives)).unwrap().unwrap();
            (end, link)
        };
        let (client, near) = open(topology.client(), echoes);
        let (backend, far) = open(topology.gateway(), true);
        let destination: core::net::SocketAddr = destination.parse().unwrap();
        let source = if destination.is_ipv4() { "192.0.2.10" } else { "2001:db8::10" };
        let ends = Ends {
            source_mac: near.mac,
            destination_mac: far.mac,
            source: source.parse().unwrap(),
            destination,
            transport: if destination.is_ipv4() { Transport::Udp } else { Transport::Tcp },
        };
        let stream = Stream::new(&ends, &[ends.size_min(), 1_518], flows, 0.1);
        let path = (client, Some(backend));
        (topology, Path::new(path, echoes, (stream, flows), Duration::from_secs(1)))
    }

    #[test]
    fn every_packet_over_a_cable_is_accounted_for() {
        let (_topology, mut path) = cable(50, false, "192.0.2.1:30090");
        let opened = path.open_flows().unwrap();
        assert_eq!((opened.lost, opened.arrivals.stale), (Some(0), 0));
        let trial = path.trial(20_000.0, Duration::from_millis(300));
        // A busy machine may not let the last ones go in time.
        assert_eq!((trial.intended, trial.lost), (6_000, Some(0)));
        let arrivals = trial.arrivals;
        assert!(trial.sent > 0);
        assert_eq!((arrivals.packets, arrivals.gaps), (trial.sent, 0));
        assert_eq!((arrivals.reordered, arrivals.duplicates, arrivals.stale), (0, 0, 0));
        assert_eq!(trial.histogram.len(), trial.sent);
        assert!(trial.latency.unwrap().p50_us > 0.0);
        assert_eq!(trial.there, None);
    }

    #[test]
    fn every_echo_comes_back_and_the_way_there_is_in_the_books_too() {
        let (_topology, mut path) = cable(50, true, "[2001:db8::1]:30090");
        let trial = path.trial(20_000.0, Duration::from_millis(300));
        assert!(trial.sent > 0);
        assert_eq!((trial.arrivals.packets, trial.lost), (trial.sent, Some(0)));
        let there = trial.there.unwrap();
        assert_eq!((there.arrivals.packets, there.lost), (trial.sent, 0));
        let (round_trip, half) = (trial.latency.unwrap(), there.latency.unwrap());
        assert!(round_trip.p50_us >= half.p50_us && half.p50_us > 0.0);
    }
}
