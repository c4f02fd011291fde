//! The writer's list of the tables of a network, by place: how a record leads to its table.

use std::sync::Arc;

use super::view::Table;
use crate::record::TablePlace;

/// The tables of a network. A place that was freed is used again: no record of the former table is left.
#[derive(Debug, Default)]
pub(super) struct Tables {
    places: Vec<Option<Arc<Table>>>,
    free: Vec<u32>,
    /// The table of the latest write, which is mostly that of the next.
    latest: Option<Arc<Table>>,
}

#[cfg(test)]
impl std::hash::Hash for Tables {
    /// Nothing: the store hashes its tables by name, and their places have no effect.
    fn hash<H: std::hash::Hasher>(&self, _: &mut H) {}
}

impl Tables {
    pub(super) fn create(&mut self, name: &str) -> Arc<Table> {
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            // Limits are far below that.
            (self.places.len() - 1) as u32
        });
        let table = Arc::new(Table::new(name.into(), TablePlace(place)));
        self.places[place as usize] = Some(table.clone());
        table
    }

    /// The table at a place that is in use.
    pub(super) fn at(&self, place: TablePlace) -> &Arc<Table> {
        self.places[place.0 as usize].as_ref().expect("a table stays while it has records")
    }

    /// Takes the table that was kept last, if it has this name.
    pub(super) fn take_latest(&mut self, name: &str) -> Option<Arc<Table>> {
        self.latest.take_if(|table| *table.name == *name && !table.is_dropped())
    }

    /// Keeps the table of a write for the next one.
    pub(super) fn keep_latest(&mut self, table: Arc<Table>) {
        self.latest = Some(table);
    }

    /// The table has no records any more.
    pub(super) fn free(&mut self, place: TablePlace) {
        self.latest.take_if(|table| table.place == place);
        self.places[place.0 as usize] = None;
        self.free.push(place.0);
    }
}
