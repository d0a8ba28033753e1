//! Everything that reads what others wrote is fed the seeds of `fuzz/`, and thousands of spoilt copies of them.
//!
//! This is mutation without a look at coverage, on any Rust; scripts/fuzz has the other kind.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use binfmtctl::fuzzing::READERS;

/// How many spoilt inputs each reader gets, unless `BINFMTCTL_FUZZ_ROUNDS` says otherwise.
const ROUNDS: usize = 2_000;

/// Numbers that look random, and are the same for the same seed (xorshift64).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit.max(1) as u64) as usize
    }

    /// One change: a bit, a byte, a piece removed, doubled or from another seed, a field in its place.
    fn spoil(&mut self, input: &mut Vec<u8>, others: &[Vec<u8>]) {
        const ODD: [&[u8]; 12] = [
            b"\n",
            b"\0",
            b"\xff",
            b" ",
            b":",
            b"\\x",
            b"\\777",
            b"4294967296",
            b"-1",
            b"99999999999999999999",
            b"\xf0\x9f\x90\xa7",
            b"\r\n",
        ];
        let at = self.below(input.len() + 1);
        let end = (at + self.below(40)).min(input.len());
        match self.below(7) {
            0 if at < input.len() => input[at] ^= 1 << self.below(8),
            1 if at < input.len() => input[at] = self.below(256) as u8,
            2 => drop(input.drain(at..end)),
            3 => {
                let piece = input[at..end].repeat(1 + self.below(50));
                input.splice(at..at, piece);
            }
            4 => {
                let other = &others[self.below(others.len())];
                input.splice(at..end, other[self.below(other.len() + 1)..].to_vec());
            }
            5 => input.truncate(at),
            _ => drop(input.splice(at..end, ODD[self.below(ODD.len())].to_vec())),
        }
    }
}

#[test]
fn no_reader_panics_or_hangs_on_spoilt_input() {
    let number =
        |name: &str, default| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let rounds = number("BINFMTCTL_FUZZ_ROUNDS", ROUNDS);
    let seed = number("BINFMTCTL_SEED", 20_240_805);
    for (name, reader) in READERS {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(name);
        let mut files: Vec<_> =
            fs::read_dir(dir).unwrap().map(|file| file.unwrap().path()).collect();
        files.sort();
        let seeds: Vec<_> = files.iter().map(|file| fs::read(file).unwrap()).collect();
        seeds.iter().for_each(|seed| reader(seed));
        let mut random = Random(seed as u64 | 1);
        for round in 0..rounds {
            let mut input = seeds[random.below(seeds.len())].clone();
            for _ in 0..=random.below(4) {
                random.spoil(&mut input, &seeds);
            }
            let start = Instant::now();
            let result = std::panic::catch_unwind(|| reader(&input));
            let slow = start.elapsed() > Duration::from_secs(2);
            assert!(
                result.is_ok() && !slow,
                "{name}, seed {seed}, round {round}: {:?}",
                input.escape_ascii().to_string()
            );
        }
    }
    crate::support::say(&format!("{} readers, {rounds} spoilt inputs each", READERS.len()));
}
