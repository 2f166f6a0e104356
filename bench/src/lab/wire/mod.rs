//! What goes over the wire, and when: packets, their times, and the sockets at both ends.

pub(super) mod account;
pub(super) mod clock;
pub(super) mod end;
pub(super) mod frame;
pub(super) mod schedule;
pub(super) mod stream;
