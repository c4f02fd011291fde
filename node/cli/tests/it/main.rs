//! The binary as its users call it. One test program: most of its tests wait for processes, side by side.

mod bounds;
mod command_line;
mod endpoints;
mod https;
mod keys;
mod processes;
mod program;
#[cfg(target_os = "linux")]
mod three_processes;
