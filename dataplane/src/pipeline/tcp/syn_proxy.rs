//! Handshakes in the backend's place, without a flow until the client has shown that it is where it
//! says (docs/adr/0008-syn-proxy.md): as Linux's SYNPROXY (net/netfilter/nf_synproxy_core.c) and
//! DPVS have it.
//!
//! ```text
//! client  SYN >              answered with a cookie and a window of 0; nothing is kept
//!         < SYN-ACK
//!         ACK >              the cookie is right: a flow begins, and the ACK becomes
//!                   SYN >    a SYN that says what the client's said
//!             < SYN-ACK      becomes an ACK that opens the client's window,
//!         < ACK     ACK >    and another is made for the backend
//! ```

use crate::admission::SynProxyMode;
use crate::flow_table::Proxy;
use crate::flow_table::proxy::TOLD_SCALE;
use crate::packet::headers::TCP_BYTES_MIN;
use crate::packet::headers::tcp_flags::{ACK, RST, SYN};
use crate::packet::ip;
use crate::pipeline::packet::{Packet, PacketKind};
use crate::pipeline::tcp::options::SynOptions;
use crate::pipeline::tcp::segment::{Segment, tcp_of};
use crate::snapshot::{NextHop, Snapshot};
use crate::stats::{CookieEvent, WorkerCounters};
use crate::syn_cookie::{CookieOptions, SynCookies};
use crate::types::Time;
use crate::verdict::{DropReason, RejectReason, Verdict};
use std::sync::Arc;

/// What a SYN without the option says (RFC 9293 section 3.7.1).
const SEGMENT_BYTES_V4: u16 = 536;
const SEGMENT_BYTES_V6: u16 = 1_220;

/// One worker's part in it.
#[derive(Debug)]
pub(in crate::pipeline) struct SynProxy {
    mode: SynProxyMode,
    cookies: Arc<SynCookies>,
    /// Handshakes under way from which on `auto` answers with cookies, and below which it no longer
    /// does.
    begin_at: u32,
    end_below: u32,
    is_on: bool,
}

impl SynProxy {
    /// `scarce` is what handshakes under way use up first.
    pub(in crate::pipeline) fn new(
        mode: SynProxyMode,
        scarce: u32,
        cookies: Arc<SynCookies>,
    ) -> Self {
        let begin_at = (scarce / 2).max(1);
        Self { mode, cookies, begin_at, end_below: (begin_at / 2).max(1), is_on: false }
    }

    /// Whether SYNs are answered with cookies, where so many handshakes are under way.
    pub(in crate::pipeline) fn is_on(&mut self, embryonic: u32) -> bool {
        self.is_on = match self.mode {
            SynProxyMode::Off => false,
            SynProxyMode::Always => true,
            SynProxyMode::Auto if self.is_on => embryonic >= self.end_below,
            SynProxyMode::Auto => embryonic >= self.begin_at,
        };
        self.is_on
    }

    /// Answers a SYN with a cookie, in its frame.
    pub(in crate::pipeline) fn answer(
        &self,
        packet: &mut Packet<'_>,
        hop: &NextHop,
        (snapshot, counters): (&Snapshot, &WorkerCounters),
        now: Time,
    ) -> Verdict {
        let key = packet.headers.key;
        let Some((client_isn, said)) = syn_of(packet) else {
            return Verdict::Drop(DropReason::HdrTrunc);
        };
        let default = if key.src.is_v4() { SEGMENT_BYTES_V4 } else { SEGMENT_BYTES_V6 };
        let told = CookieOptions::nearest(
            said.segment_bytes.unwrap_or(default),
            said.scale,
            said.is_sack_permitted,
        );
        // The backend's own is not known yet; its link's is. A smaller one is told by ICMP.
        let ingress = snapshot.interface(packet.ingress).map_or(u16::MAX, |i| i.mtu_bytes);
        let headers_bytes =
            u16::try_from(ip::header_bytes(&key) + TCP_BYTES_MIN).unwrap_or_default();
        let segment_bytes = ingress.min(hop.mtu_bytes).saturating_sub(headers_bytes);
        let options = SynOptions {
            segment_bytes: Some(segment_bytes),
            scale: said.scale.map(|_| TOLD_SCALE),
            is_sack_permitted: said.is_sack_permitted,
        };
        let segment = Segment {
            key: key.reversed(),
            sequence: self.cookies.issue(&key, client_isn, told, now),
            acknowledgment: client_isn.wrapping_add(1),
            flags: SYN | ACK,
            // The client shall not send before there is a backend to take it.
            window: 0,
            options: &options.write(),
        };
        if segment.turn(packet).is_none() {
            return Verdict::Drop(DropReason::Nomem);
        }
        counters.work.count_cookie(CookieEvent::Sent);
        Verdict::Reject(RejectReason::SynCookie)
    }

    /// The handshake that a packet without a flow completes, if it brings a cookie back.
    pub(in crate::pipeline) fn accept(
        &self,
        packet: &Packet<'_>,
        counters: &WorkerCounters,
        now: Time,
    ) -> Option<Proxy> {
        let headers = &packet.headers;
        let may_be = headers.tcp_flags & (SYN | RST | ACK) == ACK
            && headers.kind == PacketKind::Whole
            && self.mode != SynProxyMode::Off
            && self.cookies.is_expected(now);
        if !may_be {
            return None;
        }
        let (tcp, _) = tcp_of(packet)?;
        let sequence = u32::from_be_bytes(tcp.sequence);
        let cookie = u32::from_be_bytes(tcp.acknowledgment).wrapping_sub(1);
        let check = |client_isn| {
            let options = self.cookies.check(&headers.key, client_isn, cookie, now)?;
            let (window, backend_scale) = (tcp.window.get(), Proxy::UNSCALED);
            Some(Proxy { client_isn, sequence: cookie, window, options, backend_scale })
        };
        // A probe of our closed window has the number before the next (RFC 9293 section 3.8.6.1):
        // it comes where the ACK itself was lost.
        let found = check(sequence.wrapping_sub(1)).or_else(|| check(sequence));
        counters.work.count_cookie(if found.is_some() {
            CookieEvent::Valid
        } else {
            CookieEvent::Invalid
        });
        found
    }
}

/// A SYN's sequence number, and what its options say.
fn syn_of(packet: &Packet<'_>) -> Option<(u32, SynOptions)> {
    let (tcp, options) = tcp_of(packet)?;
    Some((u32::from_be_bytes(tcp.sequence), SynOptions::read(options)))
}

/// Turns a client's packet into what its backend must see while it has not answered yet: a SYN with
/// what the client's own said, as often as the client sends anything; or a reset. Returns `None`
/// where the frame is too small.
pub(in crate::pipeline) fn open_to_backend(
    packet: &mut Packet<'_>,
    proxy: &mut Proxy,
) -> Option<()> {
    let (tcp, _) = tcp_of(packet)?;
    let sequence = u32::from_be_bytes(tcp.sequence);
    let key = packet.headers.key;
    if tcp.flags & RST != 0 {
        let reset =
            Segment { key, sequence, acknowledgment: 0, flags: RST, window: 0, options: &[] };
        return reset.replace(packet);
    }
    // A late copy of the SYN has a window of another scale, and more options than were agreed on.
    if tcp.flags & SYN == 0 {
        proxy.window = tcp.window.get();
    }
    let options = SynOptions {
        segment_bytes: Some(proxy.options.segment_bytes()),
        scale: proxy.options.scale(),
        is_sack_permitted: proxy.options.is_sack_permitted(),
    };
    let bytes = u32::from(proxy.window) << proxy.options.scale().unwrap_or(0);
    let syn = Segment {
        key,
        sequence: proxy.client_isn,
        acknowledgment: 0,
        flags: SYN,
        window: u16::try_from(bytes).unwrap_or(u16::MAX),
        options: &options.write(),
    };
    syn.replace(packet)
}

/// What a backend's packet means for a handshake.
#[derive(Debug)]
pub(in crate::pipeline) enum Answer {
    /// It takes the connection: now the client's window opens, and this goes to the backend.
    Taken(Segment<'static>),
    /// It refuses it, and the client hears of it.
    Refused,
    /// It is about another connection: dropped, and this goes to the backend.
    Stray(Option<Segment<'static>>),
}

/// Reads a backend's packet while the handshake is under way, or a repetition of its SYN-ACK. What
/// the client shall see stands in the packet then; the segments are as the client would send them.
pub(in crate::pipeline) fn hear_backend(
    packet: &mut Packet<'_>,
    proxy: &mut Proxy,
    cookie: u32,
) -> Option<Answer> {
    let (tcp, options) = tcp_of(packet)?;
    let (flags, scale) = (tcp.flags, SynOptions::read(options).scale);
    let backend_isn = u32::from_be_bytes(tcp.sequence);
    let acknowledgment = u32::from_be_bytes(tcp.acknowledgment);
    let window = tcp.window.get();
    let next = proxy.client_isn.wrapping_add(1);
    let forward = packet.headers.key;
    let to_backend = |sequence, acknowledgment, flags, window| {
        let key = forward.reversed();
        Segment { key, sequence, acknowledgment, flags, window, options: &[] }
    };
    let is_ours = flags & ACK != 0 && acknowledgment == next;
    let to_client = Segment {
        key: packet.headers.key,
        sequence: cookie.wrapping_add(1),
        acknowledgment: next,
        flags: ACK,
        window: 0,
        options: &[],
    };
    match flags & (SYN | ACK | RST) {
        both if both == SYN | ACK && is_ours => {
            proxy.backend_scale = scale.unwrap_or(Proxy::UNSCALED);
            proxy.sequence = backend_isn.wrapping_sub(cookie);
            let window_to_client = proxy.window_to_client(window, true);
            let opened = Segment { window: window_to_client, ..to_client };
            opened.replace(packet)?;
            let window = proxy.window_to_backend(proxy.window);
            Some(Answer::Taken(to_backend(next, backend_isn.wrapping_add(1), ACK, window)))
        }
        both if both & RST != 0 && is_ours => {
            Segment { flags: RST | ACK, ..to_client }.replace(packet)?;
            Some(Answer::Refused)
        }
        // As a client of its own would answer (RFC 9293 section 3.10.7.3).
        both if both & (RST | ACK) == ACK => {
            Some(Answer::Stray(Some(to_backend(acknowledgment, 0, RST, 0))))
        }
        _ => Some(Answer::Stray(None)),
    }
}
