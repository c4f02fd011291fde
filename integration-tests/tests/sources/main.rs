//! What the sources and documents of the project say about each other.

mod documents;
mod growing_types;
mod modules;
