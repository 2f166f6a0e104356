//! What the loads are made of: what is common to all commands that send.

use super::path::Path;
use super::wire::end::End;
use super::wire::frame::{CHECK_BYTES, Ends, FLOW_NUMBERS, Transport};
use super::wire::stream::Stream;
use crate::generator::Size;
use crate::rivals::Scenario;
use anyhow::{Result, ensure};
use core::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tidegate_dataplane::types::MacAddress;

/// The packets.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Traffic {
    /// Flows, each with its own source port; 32,768 share a source address
    #[arg(long, default_value_t = 10_000,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) flows: u32,
    /// Frame size in bytes with the frame check sequence, or `imix` (7:4:1 of 64, 570 and 1518).
    /// Smaller ones of the mix are raised to the default: the least that holds a stamp, 64 for UDP
    /// and 76 for TCP, 84 and 96 over IPv6
    #[arg(long)]
    pub(crate) size: Option<Size>,
    /// UDP, or TCP flows that a SYN opens and nobody answers
    #[arg(long, value_enum, default_value_t = Transport::Udp)]
    pub(crate) transport: Transport,
    /// Share of the packets that are SYNs of new TCP flows, 0 to 1
    #[arg(long, default_value_t = 0.0)]
    pub(crate) syn_share: f64,
    /// Have the far end send every packet back, and measure the round trip
    #[arg(long)]
    pub(crate) echo: bool,
    /// 99th percentile of the generator's own lateness beyond which it is the limit itself
    #[arg(long, default_value = "500us", value_parser = humantime::parse_duration)]
    pub(crate) lateness_max: Duration,
}

impl Traffic {
    /// What this is for a forwarder of the rig.
    pub(crate) fn scenario(&self) -> Scenario {
        match self.transport {
            Transport::Udp => Scenario::stream(self.flows),
            Transport::Tcp => Scenario::connections(),
        }
    }

    /// Where the packets come from and go to.
    pub(crate) fn ends(
        &self,
        (source_mac, destination_mac): (MacAddress, MacAddress),
        (source, destination): (IpAddr, SocketAddr),
    ) -> Ends {
        Ends { source_mac, destination_mac, source, destination, transport: self.transport }
    }

    /// The sizes in the order in which they go.
    pub(crate) fn sizes(&self, ends: &Ends) -> Result<Vec<usize>> {
        let least = ends.size_min();
        match self.size {
            None => Ok(vec![least]),
            Some(mix @ Size::Imix) => {
                let size = |bytes: u16| usize::from(bytes) + CHECK_BYTES;
                Ok(mix.frame_bytes().map(|bytes| size(bytes).max(least)).to_vec())
            }
            Some(Size::Bytes(size)) => {
                let fits = usize::from(size) >= least;
                ensure!(fits, "frames of {size} bytes have no room for a stamp: {least} have");
                Ok(vec![size.into()])
            }
        }
    }

    /// The path between two ends.
    pub(crate) fn path(&self, between: (End, Option<End>), ends: &Ends) -> Result<Path> {
        let is_share = (0.0..=1.0).contains(&self.syn_share);
        ensure!(is_share, "a share of SYNs of {}: 0 to 1 are possible", self.syn_share);
        let makes_sense = self.transport == Transport::Tcp || self.syn_share == 0.0;
        ensure!(makes_sense, "SYNs are TCP's: add --transport tcp");
        ensure!(
            ends.source.is_ipv4() == ends.destination.is_ipv4(),
            "{} and {} are of two families",
            ends.source,
            ends.destination
        );
        debug_assert!(self.flows < FLOW_NUMBERS);
        let stream = Stream::new(ends, &self.sizes(ends)?, self.flows, self.syn_share);
        Ok(Path::new(between, self.echo, (stream, self.flows), self.lateness_max))
    }
}

/// Arguments of which none was given; each has a default.
pub(super) fn defaults<T: clap::Args>() -> T {
    #[derive(clap::Parser)]
    struct Nothing<T: clap::Args> {
        #[command(flatten)]
        args: T,
    }
    <Nothing<T> as clap::Parser>::parse_from(["tidegate-bench"]).args
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::wire::frame::tests::ends;

    fn traffic(size: &str) -> Traffic {
        Traffic {
            flows: 1,
            size: Some(size.parse().unwrap()),
            transport: Transport::Udp,
            syn_share: 0.0,
            echo: false,
            lateness_max: Duration::ZERO,
        }
    }

    #[test]
    fn imix_has_seven_small_four_medium_and_one_large_frame() {
        let traffic = traffic("imix");
        let udp = ends("192.0.2.10", "192.0.2.1:1", Transport::Udp);
        let sizes = traffic.sizes(&udp).unwrap();
        let count = |size| sizes.iter().filter(|s| **s == size).count();
        assert_eq!([64, 570, 1_518].map(count), [7, 4, 1]);
        let tcp = ends("2001:db8::10", "[2001:db8::1]:1", Transport::Tcp);
        assert_eq!(traffic.sizes(&tcp).unwrap().iter().min(), Some(&96));
    }

    #[test]
    fn a_size_without_room_for_a_stamp_is_refused() {
        let traffic = traffic("64");
        let tcp = ends("192.0.2.10", "192.0.2.1:1", Transport::Tcp);
        let words = traffic.sizes(&tcp).unwrap_err().to_string();
        assert_eq!(words, "frames of 64 bytes have no room for a stamp: 76 have");
    }
}
