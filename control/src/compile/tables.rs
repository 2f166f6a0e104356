//! Maglev tables: equal sets share one, and an unchanged set keeps the one it has.

use crate::config::TableSize;
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use tidegate_dataplane::snapshot::maglev::{MaglevBackend, MaglevError, MaglevTable, table_size};

type Key = (u32, u64, Vec<MaglevBackend>);

/// Tables that were forgotten by every snapshot are swept out at this many at the earliest.
const SWEEP_AT_MIN: usize = 64;

/// The tables that any front uses.
#[derive(Debug, Default)]
pub(super) struct Tables {
    tables: BTreeMap<Key, Weak<MaglevTable>>,
    /// So many are to be there at the next sweep: twice as many as after the last.
    sweep_at: usize,
}

impl Tables {
    /// The table for `backends`, which are sorted. A fixed size that is too small for them gives
    /// way to the automatic one.
    ///
    /// # Errors
    /// More backends than any table can hold.
    pub(super) fn table(
        &mut self,
        backends: Vec<MaglevBackend>,
        size: TableSize,
        seed: u64,
    ) -> Result<Arc<MaglevTable>, MaglevError> {
        let entries = match size {
            TableSize::Entries(entries) if backends.len() <= entries as usize => entries,
            TableSize::Entries(_) | TableSize::Auto => table_size(backends.len()),
        };
        let key = (entries, seed, backends);
        if let Some(table) = self.tables.get(&key).and_then(Weak::upgrade) {
            return Ok(table);
        }
        let table = Arc::new(MaglevTable::try_new(&key.2, entries, seed)?);
        self.sweep();
        self.tables.insert(key, Arc::downgrade(&table));
        Ok(table)
    }

    fn sweep(&mut self) {
        if self.tables.len() >= self.sweep_at.max(SWEEP_AT_MIN) {
            self.tables.retain(|_, table| table.strong_count() > 0);
            self.sweep_at = self.tables.len() * 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_dataplane::types::{IpAddress, L4Port, Protocol};

    #[test]
    fn tables_that_nobody_has_are_swept_out() {
        let mut tables = Tables::default();
        let mut table = |n: u8| {
            let backend = MaglevBackend {
                address: IpAddress::v4([10, 0, 0, n]),
                port: L4Port::new(80),
                protocol: Protocol::Tcp,
                weight: 1,
            };
            tables.table(vec![backend], TableSize::Auto, 0).unwrap()
        };
        let kept = table(0);
        for _ in 0..3 {
            (1..=200).for_each(|n| drop(table(n)));
        }
        assert!(Arc::ptr_eq(&kept, &table(0)));
        assert!(tables.tables.len() <= 2 * SWEEP_AT_MIN, "{}", tables.tables.len());
    }
}
