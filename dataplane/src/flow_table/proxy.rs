//! What is kept of a handshake that we had in the backend's place (docs/adr/0008-syn-proxy.md).

use crate::syn_cookie::CookieOptions;

/// The window scale that we tell clients, before we know the backend's: Linux's default, so that
/// most windows need no translation.
pub const TOLD_SCALE: u8 = 7;

/// The client's side of a handshake, and then what lies between both sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Proxy {
    /// The sequence number of the client's SYN, and so of ours to the backend.
    pub client_isn: u32,
    /// While the backend has not answered: the cookie, which is our sequence number. Then: how far
    /// the backend's sequence numbers lie above those that the client sees, wrapping.
    pub sequence: u32,
    /// The client's last window, as it stood in the header.
    pub window: u16,
    /// What the client's SYN said.
    pub options: CookieOptions,
    /// The shift of the backend's windows; [`Proxy::UNSCALED`] if it scales none.
    pub backend_scale: u8,
}

impl Proxy {
    /// A backend that scales no windows, and so not the client's either.
    pub const UNSCALED: u8 = u8::MAX;

    /// What is kept where there is nothing to keep.
    pub const NONE: Self = Self {
        client_isn: 0,
        sequence: 0,
        window: 0,
        options: CookieOptions::NONE,
        backend_scale: Self::UNSCALED,
    };

    /// A client's window as its backend must read it.
    pub fn window_to_backend(&self, window: u16) -> u16 {
        match self.options.scale() {
            Some(scale) if self.backend_scale == Self::UNSCALED => scaled(window, scale, 0),
            _ => window,
        }
    }

    /// A backend's window as its client must read it. `is_syn`: it is of a SYN, which is never
    /// scaled (RFC 7323 section 2.2).
    pub fn window_to_client(&self, window: u16, is_syn: bool) -> u16 {
        let to = if self.options.scale().is_some() { TOLD_SCALE } else { 0 };
        let from =
            if is_syn || self.backend_scale == Self::UNSCALED { 0 } else { self.backend_scale };
        scaled(window, from, to)
    }
}

/// A window of one scale in another; what does not fit is told as the most that does.
fn scaled(window: u16, from: u8, to: u8) -> u16 {
    let bytes = u64::from(window) << from.min(14);
    u16::try_from(bytes >> to.min(14)).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy(client_scale: Option<u8>, backend_scale: u8) -> Proxy {
        let options = CookieOptions::nearest(1_460, client_scale, true);
        Proxy { options, backend_scale, ..Proxy::NONE }
    }

    #[test]
    fn windows_are_told_in_the_scale_that_each_side_expects() {
        let same = proxy(Some(7), TOLD_SCALE);
        assert_eq!((same.window_to_client(500, false), same.window_to_backend(501)), (500, 501));
        assert_eq!(same.window_to_client(64_240, true), 501, "of a SYN, unscaled");
        assert_eq!(proxy(Some(7), 10).window_to_client(500, false), 4_000);
        assert_eq!(proxy(Some(7), 14).window_to_client(65_535, false), u16::MAX, "not less");
        assert_eq!(proxy(Some(7), 2).window_to_client(64_000, false), 2_000);
        let unscaled = proxy(Some(7), Proxy::UNSCALED);
        assert_eq!(unscaled.window_to_client(64_000, false), 500);
        assert_eq!(
            (unscaled.window_to_backend(100), unscaled.window_to_backend(600)),
            (12_800, u16::MAX)
        );
        let plain = proxy(None, Proxy::UNSCALED);
        assert_eq!(
            (plain.window_to_client(64_000, false), plain.window_to_backend(9)),
            (64_000, 9)
        );
    }
}
