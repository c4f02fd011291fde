//! Fuzz targets. Each takes bytes and panics if something that must always hold does not.
//!
//! With cargo-fuzz, libFuzzer makes the bytes up and watches which of them reach new code. Without, [`replay`] runs a
//! target over its corpus and over random changes of it, on stable Rust and without a C++ compiler.

#![expect(clippy::disallowed_methods, reason = "each world begins now; only differences from then on matter")]

pub mod codec;
#[cfg(fuzzing)]
pub mod handshakes;
mod input;
pub mod members;
mod memory;
pub mod model;
pub mod nodes;
pub mod replay;
pub mod tables;
pub mod texts;
mod world;
