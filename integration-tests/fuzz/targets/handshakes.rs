#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::handshakes::run(bytes));

#[cfg(not(fuzzing))]
fn main() {
    fuzz::replay::main(fuzz::handshakes::run);
}
