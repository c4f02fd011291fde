//! The `networkdb` binary.

fn main() {}
