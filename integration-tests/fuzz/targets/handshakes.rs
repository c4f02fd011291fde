#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::handshakes::run(bytes));

#[cfg(not(fuzzing))]
fn main() {
    println!(
        "the checks of a transport are not public without --cfg fuzzing, as cargo-fuzz sets it: NOT RUN"
    );
}
