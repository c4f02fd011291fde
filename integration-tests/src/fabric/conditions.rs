//! The conditions of links, and cuts.

use super::{Fabric, Link, Location};

impl Fabric {
    /// The conditions in the direction from one location to another.
    pub fn link(&self, from: Location, to: Location) -> &Link {
        self.links.get(&(from, to)).unwrap_or(&self.config.link)
    }

    /// The conditions of links without conditions of their own.
    pub fn default_link(&self) -> &Link {
        &self.config.link
    }

    /// Sets the conditions for one direction of one pair.
    pub fn set_link(&mut self, from: Location, to: Location, link: Link) {
        self.links.insert((from, to), link);
    }

    /// Sets the conditions of all links, and removes those of single pairs.
    pub fn set_all_links(&mut self, link: Link) {
        self.links.clear();
        self.config.link = link;
    }

    /// Cuts one direction of each of the pairs.
    pub fn cut(&mut self, pairs: impl IntoIterator<Item = (Location, Location)>) {
        self.cuts.extend(pairs);
        self.refresh_all_connections();
    }

    /// Mends one direction of each of the pairs.
    pub fn mend(&mut self, pairs: impl IntoIterator<Item = (Location, Location)>) {
        for pair in pairs {
            self.cuts.remove(&pair);
        }
        self.refresh_all_connections();
    }

    /// Mends every cut.
    pub fn mend_all(&mut self) {
        self.cuts.clear();
        self.refresh_all_connections();
    }

    /// Whether that direction is cut.
    pub fn is_cut(&self, from: Location, to: Location) -> bool {
        self.cuts.contains(&(from, to))
    }
}
