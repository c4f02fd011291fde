#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::handshakes::run(bytes));

#[cfg(not(fuzzing))]
fn main() {
    println!(
        "what stands at a transport's door is not to be had without --cfg fuzzing, as cargo-fuzz sets it: NOT RUN"
    );
}
