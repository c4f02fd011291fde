//! The writer's list of the tables of a network, by place: how a record leads to its table.

use std::sync::Arc;

use super::view::Table;
use crate::record::TablePlace;

/// The tables of a network. A place that was freed is used again: no record of the former table is left.
#[derive(Debug, Default)]
pub(super) struct Tables {
    places: Vec<Option<Arc<Table>>>,
    free: Vec<u32>,
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

    /// The table has no records any more.
    pub(super) fn free(&mut self, place: TablePlace) {
        self.places[place.0 as usize] = None;
        self.free.push(place.0);
    }
}
