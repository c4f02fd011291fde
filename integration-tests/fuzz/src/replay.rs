//! Running a target without libFuzzer: over its corpus, then over random changes of it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

use crate::input::Input;

/// The longest input made up, in bytes.
const LONGEST: usize = 4096;

/// Runs `target` over each file of each folder or file named on the command line, then for `-max_total_time=SECONDS`,
/// spelled as libFuzzer does, over inputs made from them. A panic names the input by its bytes.
pub fn main(target: fn(&[u8])) {
    let (mut inputs, mut time) = (Vec::new(), Duration::ZERO);
    for argument in std::env::args().skip(1) {
        match argument.strip_prefix("-max_total_time=") {
            Some(seconds) => time = Duration::from_secs(seconds.parse().expect("a number of seconds")),
            None if argument.starts_with('-') => {}
            None => files(Path::new(&argument), &mut inputs),
        }
    }
    for input in &inputs {
        run(target, input);
    }
    println!("{} inputs of the corpus hold", inputs.len());
    let (start, mut random, mut runs) = (Instant::now(), ChaCha8Rng::seed_from_u64(1), 0u64);
    while start.elapsed() < time {
        let mut input = match inputs.len() {
            0 => Vec::new(),
            count => inputs[random.next_u32() as usize % count].clone(),
        };
        let mut noise = vec![0; 64];
        random.fill_bytes(&mut noise);
        if random.next_u32() % 4 == 0 {
            input.extend_from_slice(&noise);
        }
        let mut changed = Input::new(&noise).change(input);
        changed.truncate(LONGEST);
        run(target, &changed);
        runs += 1;
    }
    println!("{runs} inputs made up hold");
}

fn files(path: &Path, inputs: &mut Vec<Vec<u8>>) {
    if path.is_dir() {
        let entries = std::fs::read_dir(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut paths = entries.map(|entry| entry.expect("a file's name").path()).collect::<Vec<PathBuf>>();
        paths.sort();
        paths.iter().for_each(|path| files(path, inputs));
    } else {
        inputs.push(std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())));
    }
}

fn run(target: fn(&[u8]), input: &[u8]) {
    if let Err(panic) = std::panic::catch_unwind(|| target(input)) {
        eprintln!("the input was {input:?}");
        std::panic::resume_unwind(panic);
    }
}
