//! Frames as a receive ring would bring them: one after the other, each with room for a packet.

use super::bed::Way;
use arrayvec::ArrayVec;
use tidegate_dataplane::pipeline::{BURST_FRAMES_MAX, Packet};
use tidegate_dataplane::testing::{Family, INNER, OUTER, udp_frame};

/// Room for a packet, as a UMEM frame has.
const FRAME_BYTES: usize = 2048;

/// A burst of packets.
pub(super) type Packets<'f> = ArrayVec<Packet<'f>, BURST_FRAMES_MAX>;

/// The frames of one burst, written anew for each.
pub(super) struct Frames {
    memory: Vec<u8>,
    forward: Vec<u8>,
    reply: Vec<u8>,
    places: Places,
}

/// Where the last four bytes of both addresses stand, and the ports.
#[derive(Clone, Copy)]
struct Places {
    source: usize,
    destination: usize,
    ports: usize,
}

impl Frames {
    pub(super) fn new(family: Family) -> Self {
        let places = match family {
            Family::V4 => Places { source: 26, destination: 30, ports: 34 },
            Family::V6 => Places { source: 34, destination: 50, ports: 54 },
        };
        let client = family.client(0, 0);
        let backend = std::net::SocketAddr::new(family.backend(1).into(), 5000).to_string();
        Self {
            memory: vec![0; FRAME_BYTES * BURST_FRAMES_MAX],
            forward: udp_frame(&client, family.front(), &[0; 18]),
            reply: udp_frame(&backend, &client, &[0; 18]),
            places,
        }
    }

    /// Writes the headers of flows `numbers`: as their clients send them, to the front with the
    /// end `front`, or as the backends answer whose addresses end on `backends`. The UDP checksum
    /// is the template's, so it is wrong; it is rewritten as a right one would be.
    #[inline]
    pub(super) fn write(&mut self, way: Way, numbers: &[u32], other: impl Fn(u32) -> [u8; 4]) {
        let Places { source, destination, ports } = self.places;
        let (frames, _) = self.memory.as_chunks_mut::<FRAME_BYTES>();
        let (template, client_at, other_at, port_at) = match way {
            Way::Forward => (&self.forward, source, destination, ports),
            Way::Reply => (&self.reply, destination, source, ports + 2),
        };
        for (frame, number) in frames.iter_mut().zip(numbers) {
            frame[..template.len()].copy_from_slice(template);
            let [_, a, b, c] = number.to_be_bytes();
            frame[client_at..client_at + 4].copy_from_slice(&[10, a, b, c]);
            frame[other_at..other_at + 4].copy_from_slice(&other(*number));
            frame[port_at..port_at + 2].copy_from_slice(&[0x40 | (c & 0x3f), b]);
        }
    }

    /// The written frames as packets.
    #[inline]
    pub(super) fn packets(&mut self, way: Way) -> Packets<'_> {
        let (len, ingress) = match way {
            Way::Forward => (self.forward.len(), OUTER),
            Way::Reply => (self.reply.len(), INNER),
        };
        let frames = self.memory.chunks_exact_mut(FRAME_BYTES);
        frames.map(|frame| Packet::new(frame, len, ingress)).collect()
    }

    /// The last four bytes of a frame's destination.
    pub(super) fn destination(&self, frame: usize) -> [u8; 4] {
        let at = frame * FRAME_BYTES + self.places.destination;
        self.memory[at..].first_chunk().copied().unwrap_or_default()
    }
}
