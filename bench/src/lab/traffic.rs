//! What the loads are made of: what is common to all commands that send.

use super::path::Path;
use super::wire::end::End;
use super::wire::frame::{Ends, FLOW_NUMBERS, Transport};
use super::wire::stream::Stream;
use anyhow::{Result, ensure};
use core::net::{IpAddr, SocketAddr};
use core::str::FromStr;
use std::time::Duration;
use tidegate_dataplane::types::MacAddress;

/// The usual mix: 7 parts of 64, 4 of 570, 1 of 1518 bytes (named as in RFC 6985), spread out.
const IMIX: [usize; 12] = [64, 570, 64, 64, 570, 64, 1518, 64, 570, 64, 570, 64];

/// The largest frame of an MTU of 1500 bytes, with the frame check sequence.
const SIZE_MAX: usize = 1_518;

/// Frame size with the frame check sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Size {
    /// The smallest that holds a stamp.
    Least,
    /// So many bytes.
    Bytes(usize),
    /// A mix.
    Imix,
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "least" => Ok(Self::Least),
            "imix" => Ok(Self::Imix),
            number => number.parse().map(Self::Bytes).map_err(|error| {
                format!("{number} is neither `least` nor `imix` nor a number of bytes: {error}")
            }),
        }
    }
}

impl core::fmt::Display for Size {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Least => f.write_str("least"),
            Self::Imix => f.write_str("imix"),
            Self::Bytes(bytes) => write!(f, "{bytes}"),
        }
    }
}

/// The packets.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Traffic {
    /// Flows, each with its own source port; 32,768 share a source address
    #[arg(long, default_value_t = 10_000,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) flows: u32,
    /// Frame size in bytes with the frame check sequence, `least`, or `imix` (7:4:1 of 64, 570 and
    /// 1518, where the first is raised to what holds a stamp: 76 for TCP, 84 and 96 over IPv6)
    #[arg(long, default_value_t = Size::Least)]
    pub(crate) size: Size,
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
            Size::Least => Ok(vec![least]),
            Size::Imix => Ok(IMIX.iter().map(|size| *size.max(&least)).collect()),
            Size::Bytes(size) => {
                let fits = (least..=SIZE_MAX).contains(&size);
                ensure!(fits, "frames of {size} bytes: {least} to {SIZE_MAX} are possible here");
                Ok(vec![size])
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::wire::frame::tests::ends;

    fn traffic(size: Size) -> Traffic {
        Traffic {
            flows: 1,
            size,
            transport: Transport::Udp,
            syn_share: 0.0,
            echo: false,
            lateness_max: Duration::ZERO,
        }
    }

    #[test]
    fn imix_has_seven_small_four_medium_and_one_large_frame() {
        let traffic = traffic("imix".parse().unwrap());
        let udp = ends("192.0.2.10", "192.0.2.1:1", Transport::Udp);
        let sizes = traffic.sizes(&udp).unwrap();
        let count = |size| sizes.iter().filter(|s| **s == size).count();
        assert_eq!([64, 570, 1_518].map(count), [7, 4, 1]);
        let tcp = ends("2001:db8::10", "[2001:db8::1]:1", Transport::Tcp);
        assert_eq!(traffic.sizes(&tcp).unwrap().iter().min(), Some(&96));
    }

    #[test]
    fn a_size_without_room_for_a_stamp_is_refused() {
        let traffic = traffic(Size::Bytes(64));
        let tcp = ends("192.0.2.10", "192.0.2.1:1", Transport::Tcp);
        let words = traffic.sizes(&tcp).unwrap_err().to_string();
        assert_eq!(words, "frames of 64 bytes: 76 to 1518 are possible here");
        assert!("tiny".parse::<Size>().is_err());
    }
}
