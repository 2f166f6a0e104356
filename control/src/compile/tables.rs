//! Maglev tables: equal sets share one, and an unchanged set keeps the one it has.

use crate::config::TableSize;
use std::collections::BTreeMap;
use std::sync::Arc;
use tidegate_dataplane::snapshot::maglev::{MaglevBackend, MaglevError, MaglevTable, table_size};

type Key = (u32, u64, Vec<MaglevBackend>);

/// The tables of the last compilation and of this one.
#[derive(Debug, Default)]
pub(super) struct Tables {
    last: BTreeMap<Key, Arc<MaglevTable>>,
    now: BTreeMap<Key, Arc<MaglevTable>>,
}

impl Tables {
    /// To be called at the start of a compilation: what the last one did not use is dropped.
    pub(super) fn begin(&mut self) {
        self.last = std::mem::take(&mut self.now);
    }

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
        if let Some(table) = self.now.get(&key) {
            return Ok(Arc::clone(table));
        }
        let table = match self.last.remove(&key) {
            Some(table) => table,
            None => Arc::new(MaglevTable::try_new(&key.2, entries, seed)?),
        };
        self.now.insert(key, Arc::clone(&table));
        Ok(table)
    }
}
