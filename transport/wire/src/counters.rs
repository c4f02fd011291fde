//! Counters of events, for the metrics of all parts. Each is declared once: its field, its name and its meaning
//! cannot drift apart, and no export leaves one out.

use std::sync::atomic::{AtomicU64, Ordering};

/// One counter of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// The name of the field.
    pub name: &'static str,
    /// The documentation of the field.
    pub meaning: &'static str,
    /// How often it happened.
    pub value: u64,
}

/// Declares a struct of counters, whose `iter` gives each with its name and meaning.
///
/// # Examples
/// ```
/// networkdb_wire::counters! {
///     /// Counters of a door.
///     #[derive(Debug, Default)]
///     pub struct Door {
///         /// Times that it was opened.
///         opened,
///     }
/// }
///
/// let door = Door { opened: 2 };
/// let counts: Vec<_> = door.iter().map(|count| (count.name, count.meaning, count.value)).collect();
/// assert_eq!(counts, [("opened", " Times that it was opened.", 2)]);
/// ```
#[macro_export]
macro_rules! counters {
    ($(#[$attribute:meta])* $visibility:vis struct $Counters:ident {
        $($(#[doc = $doc:literal])+ $name:ident,)*
    }) => {
        $(#[$attribute])*
        $visibility struct $Counters {
            $($(#[doc = $doc])+ pub $name: u64,)*
        }

        impl $Counters {
            /// Every counter, in the order of the fields.
            pub fn iter(&self) -> impl Iterator<Item = $crate::Count> {
                [$($crate::Count {
                    name: stringify!($name),
                    meaning: concat!($($doc),+),
                    value: self.$name,
                },)*]
                .into_iter()
            }
        }
    };
}

/// The same for counters that many threads increment: declares also a struct of [`AtomicCounter`]s, whose
/// `snapshot` has the values.
#[macro_export]
macro_rules! atomic_counters {
    ($(#[$attribute:meta])* $visibility:vis struct $Counters:ident, counted by $Atomic:ident {
        $($(#[doc = $doc:literal])+ $name:ident,)*
    }) => {
        $crate::counters! {
            $(#[$attribute])*
            #[derive(Debug, Clone, Default, PartialEq, Eq)]
            $visibility struct $Counters {
                $($(#[doc = $doc])+ $name,)*
            }
        }

        /// The counters behind the values.
        #[derive(Debug, Default)]
        pub(crate) struct $Atomic {
            $(pub(crate) $name: $crate::AtomicCounter,)*
        }

        impl $Atomic {
            pub(crate) fn snapshot(&self) -> $Counters {
                $Counters { $($name: self.$name.value(),)* }
            }
        }
    };
}

/// A counter that many threads increment.
#[derive(Debug, Default)]
pub struct AtomicCounter(AtomicU64);

impl AtomicCounter {
    /// Adds an amount.
    pub fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    /// Adds one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// The value now.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
