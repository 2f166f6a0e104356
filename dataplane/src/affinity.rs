//! ClientIP affinity: which backend a client had last, shared by all workers (T11, semantics
//! F11-F16).
//!
//! Only new flows of services with affinity come here.

use crate::buckets::{self, Buckets};
use crate::types::{IpAddress, L4Port, ServiceId, Time};
use core::time::Duration;

/// Clients remembered at once, over all services: the size of kube-proxy's own sets. 64 bytes
/// each. Below, busy clients are forgotten before their time; above, memory for nothing. At the
/// limit the client of the bucket whose last new flow is the oldest is forgotten, and balanced
/// anew with its next flow.
pub const AFFINITY_CLIENTS_MAX: u32 = 65_536;

/// A client of a service port.
#[derive(Debug, Clone, Copy)]
pub struct Client {
    /// Its address, before masquerading (semantics F12).
    pub address: IpAddress,
    /// The service port: each has its own memory, common to all its fronts (F11).
    pub service: ServiceId,
    /// The keyed hash of both.
    pub hash: u64,
}

/// Which backend each client had last.
#[derive(Debug)]
pub struct AffinityTable(Buckets<Record>);

impl AffinityTable {
    /// An empty table for this many clients, rounded up to whole buckets and a power of two.
    pub fn with_capacity(clients: u32) -> Self {
        Self(Buckets::with_capacity(clients))
    }

    /// The backend of the client's last new flow, if that began less than `timeout` ago
    /// (semantics F13).
    pub fn recall(
        &self,
        client: &Client,
        now: Time,
        timeout: Duration,
    ) -> Option<(IpAddress, L4Port)> {
        let record = self.0.find(client.bits(), |record| record.is_of(client))?;
        let idle_ms = (now.0 / 1_000_000).saturating_sub(record.began_ms);
        (u128::from(idle_ms) < timeout.as_millis()).then_some(record.backend)
    }

    /// Remembers the backend of a new flow.
    pub fn remember(&self, client: &Client, backend: (IpAddress, L4Port), now: Time) {
        let record = Record {
            client: client.address,
            service: client.service,
            backend,
            began_ms: now.0 / 1_000_000,
        };
        self.0.put(client.bits(), &record, |old| old.is_of(client));
    }
}

impl Client {
    fn bits(&self) -> u64 {
        self.hash >> 13
    }
}

/// What a slot holds. Service 0: nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Record {
    client: IpAddress,
    service: ServiceId,
    backend: (IpAddress, L4Port),
    /// Milliseconds of the packet path's clock; 48 bits last for 8,900 years.
    began_ms: u64,
}

impl Record {
    fn is_of(&self, client: &Client) -> bool {
        self.service == client.service && self.client == client.address
    }
}

impl buckets::Record for Record {
    fn to_words(self) -> [u64; 6] {
        let (client, backend) = (self.client.halves(), self.backend.0.halves());
        let port = u64::from(self.backend.1.number());
        let service = u64::from(self.service.0);
        [client.0, client.1, backend.0, backend.1, service, self.began_ms << 16 | port]
    }

    #[expect(clippy::cast_possible_truncation, reason = "the parts that were put together")]
    fn from_words([c0, c1, b0, b1, service, rest]: [u64; 6]) -> Self {
        Self {
            client: IpAddress::from_halves(c0, c1),
            service: ServiceId(service as u32),
            backend: (IpAddress::from_halves(b0, b1), L4Port::new(rest as u16)),
            began_ms: rest >> 16,
        }
    }

    fn began_ms(&self) -> u64 {
        self.began_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buckets::Record as _;

    const TIMEOUT: Duration = Duration::from_secs(10);
    const NOW: Time = Time(5_000_000_000);

    fn later(seconds: u64) -> Time {
        Time(NOW.0 + seconds * 1_000_000_000)
    }

    fn ip(number: u32) -> IpAddress {
        IpAddress::v4(number.to_be_bytes())
    }

    fn client(number: u32, service: u32, hash: u64) -> Client {
        Client { address: ip(number), service: ServiceId(service), hash }
    }

    fn backend(number: u32) -> (IpAddress, L4Port) {
        (ip(number), L4Port::new(u16::try_from(number % 60_000).unwrap()))
    }

    #[test]
    fn a_client_is_known_by_address_and_service_until_the_timeout_after_its_last_flow() {
        let table = AffinityTable::with_capacity(64);
        let me = client(1, 1, 0);
        assert_eq!(table.recall(&me, NOW, TIMEOUT), None);
        table.remember(&me, backend(7), NOW);
        assert_eq!(table.recall(&me, later(9), TIMEOUT), Some(backend(7)));
        assert_eq!(table.recall(&me, later(10), TIMEOUT), None);
        table.remember(&me, backend(7), later(9));
        assert_eq!(table.recall(&me, later(18), TIMEOUT), Some(backend(7)), "renewed");
        assert_eq!(table.recall(&client(1, 2, 0), NOW, TIMEOUT), None, "another service");
        assert_eq!(table.recall(&client(2, 1, 0), NOW, TIMEOUT), None, "another client");
        table.remember(&me, backend(8), later(9));
        assert_eq!(table.recall(&me, later(9), TIMEOUT), Some(backend(8)));
    }

    #[test]
    fn a_full_bucket_forgets_the_client_whose_last_flow_is_oldest() {
        let table = AffinityTable::with_capacity(8);
        for number in 0..8 {
            table.remember(&client(number, 1, 0), backend(number), later(u64::from(number)));
        }
        table.remember(&client(0, 1, 0), backend(0), later(8));
        table.remember(&client(99, 1, 0), backend(99), later(8));
        let known = |n| table.recall(&client(n, 1, 0), later(8), TIMEOUT).is_some();
        assert_eq!([0, 1, 2, 7, 99].map(known), [true, false, true, true, true]);
    }

    #[test]
    fn an_ipv6_record_survives_its_words() {
        let v6 = IpAddress::from_bytes(core::array::from_fn(|i| u8::try_from(i + 1).unwrap()));
        let record = Record {
            client: v6,
            service: ServiceId(u32::MAX),
            backend: (v6, L4Port::new(65_535)),
            began_ms: (1 << 48) - 1,
        };
        assert_eq!(Record::from_words(record.to_words()), record);
    }

    /// Two workers write one bucket while two read: no reader sees parts of two records.
    #[test]
    fn readers_never_see_a_torn_record() {
        let table = AffinityTable::with_capacity(8);
        let write = |from: u32| {
            for n in (from..200_000).step_by(2) {
                table.remember(&client(n % 12, 1, 0), backend(n % 12), Time(u64::from(n) << 20));
            }
        };
        let read = || {
            let ask = |n: u32| table.recall(&client(n % 12, 1, 0), Time(0), TIMEOUT);
            (0..200_000u32).filter(|n| ask(*n).is_some_and(|b| b != backend(n % 12))).count()
        };
        std::thread::scope(|scope| {
            let writers = [0, 1].map(|from| scope.spawn(move || write(from)));
            let torn: usize =
                [0, 1].map(|_| scope.spawn(read)).map(|t| t.join().unwrap()).iter().sum();
            writers.into_iter().for_each(|writer| writer.join().unwrap());
            assert_eq!(torn, 0);
        });
    }
}
