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
    /// The family of which it is a variant, if it is one.
    pub family: Option<CountFamily>,
    /// How often it happened.
    pub value: u64,
}

/// Counters of one thing in several variants, such as refusals by reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CountFamily {
    /// The common beginning of the names of its fields.
    pub name: &'static str,
    /// Its documentation.
    pub meaning: &'static str,
    /// What tells the variants apart, such as `reason`.
    pub label: &'static str,
}

impl Count {
    /// The variant that it counts of its family: the rest of its name.
    pub fn variant(&self) -> Option<&'static str> {
        self.name.strip_prefix(self.family?.name)?.strip_prefix('_')
    }
}

/// Declares a struct of counters, whose `iter` gives each with its name and meaning. Families of counters follow it; the
/// names of their fields begin with the family's.
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
///     /// Callers that were turned away.
///     refused by reason {
///         /// Callers that were not known.
///         refused_unknown,
///     }
/// }
///
/// let door = Door { opened: 2, refused_unknown: 1 };
/// let counts: Vec<_> = door.iter().map(|count| (count.name, count.variant(), count.value)).collect();
/// assert_eq!(counts, [("opened", None, 2), ("refused_unknown", Some("unknown"), 1)]);
/// ```
#[macro_export]
macro_rules! counters {
    (
        $(#[$attribute:meta])* $visibility:vis struct $Counters:ident {
            $($(#[doc = $doc:literal])+ $name:ident,)*
        }
        $($(#[doc = $family_doc:literal])+ $family:ident by $label:ident {
            $($(#[doc = $variant_doc:literal])+ $variant:ident,)+
        })*
    ) => {
        $(#[$attribute])*
        $visibility struct $Counters {
            $($(#[doc = $doc])+ pub $name: u64,)*
            $($($(#[doc = $variant_doc])+ pub $variant: u64,)+)*
        }

        impl $Counters {
            /// Every counter, in the order of the fields; those of a family one after the other.
            pub fn iter(&self) -> impl Iterator<Item = $crate::Count> {
                [$($crate::Count {
                    name: stringify!($name),
                    meaning: concat!($($doc),+),
                    family: None,
                    value: self.$name,
                },)*]
                .into_iter()
                $(.chain({
                    const FAMILY: $crate::CountFamily = $crate::CountFamily {
                        name: stringify!($family),
                        meaning: concat!($($family_doc),+),
                        label: stringify!($label),
                    };
                    [$($crate::Count {
                        name: stringify!($variant),
                        meaning: concat!($($variant_doc),+),
                        family: Some(FAMILY),
                        value: self.$variant,
                    },)+]
                }))*
            }
        }
    };
}

/// The same for counters that many threads increment: declares also a struct of [`AtomicCounter`]s, whose
/// `snapshot` has the values.
#[macro_export]
macro_rules! atomic_counters {
    (
        $(#[$attribute:meta])* $visibility:vis struct $Counters:ident, counted by $Atomic:ident {
            $($(#[doc = $doc:literal])+ $name:ident,)*
        }
        $($(#[doc = $family_doc:literal])+ $family:ident by $label:ident {
            $($(#[doc = $variant_doc:literal])+ $variant:ident,)+
        })*
    ) => {
        $crate::counters! {
            $(#[$attribute])*
            #[derive(Debug, Clone, Default, PartialEq, Eq)]
            $visibility struct $Counters {
                $($(#[doc = $doc])+ $name,)*
            }
            $($(#[doc = $family_doc])+ $family by $label {
                $($(#[doc = $variant_doc])+ $variant,)+
            })*
        }

        /// The counters behind the values.
        #[derive(Debug, Default)]
        pub(crate) struct $Atomic {
            $(pub(crate) $name: $crate::AtomicCounter,)*
            $($(pub(crate) $variant: $crate::AtomicCounter,)+)*
        }

        impl $Atomic {
            pub(crate) fn snapshot(&self) -> $Counters {
                $Counters {
                    $($name: self.$name.value(),)*
                    $($($variant: self.$variant.value(),)+)*
                }
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
