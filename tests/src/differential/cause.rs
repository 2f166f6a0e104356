//! Whose doing a packet that came out is.

use super::arena::Seen;
use super::wire::{Ends, Parts, parts, quoted};
use std::collections::BTreeMap;

/// Which packet of the batch made this one come out.
pub(super) fn cause(
    by_marker: &BTreeMap<u16, usize>,
    sent: &[(Ends, Vec<u8>)],
    seen: &Seen,
) -> Option<usize> {
    let found = parts(&seen.packet)?;
    if let Some(quote) = quoted(&seen.packet) {
        // Of the gateway about a packet of this batch, or of an end about an earlier one.
        let quoted = by_marker.get(&parts(quote)?.marker);
        return quoted.or_else(|| by_marker.get(&found.marker)).copied();
    }
    let marked = by_marker.get(&found.marker).copied();
    // Its marker may be an answer's own by chance, but not its sequence number too. And its ends
    // may be an answer's: a new flow gets the port of one that was reset a moment ago.
    let sequence = |packet: &[u8], parts: &Parts| {
        let place = parts.transport + 4..parts.transport + 8;
        packet.get(place).filter(|_| parts.protocol == 6).map(<[u8]>::to_vec)
    };
    let is_sent_on = |index: &usize| {
        let went_in = sent.get(*index).and_then(|(_, packet)| sequence(packet, &parts(packet)?));
        went_in.is_some() && went_in == sequence(&seen.packet, &found)
    };
    // An answer of the gateway's own stack to the last packet with these ends.
    let answered = || sent.iter().rposition(|(ends, _)| ends.reversed() == found.ends);
    marked.filter(is_sent_on).or_else(answered).or(marked)
}
