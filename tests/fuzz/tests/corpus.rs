//! The short form of fuzzing: each target on its corpus, and on changed inputs of it. The changes follow from a seed, so a run is
//! repeatable; `scripts/fuzz` searches further.

use std::{
    collections::BTreeSet,
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
};

use binplz_fuzz::{TARGETS, Target};

/// The changed inputs of each target.
const CHANGED: usize = 3000;
/// The longest of them, in bytes.
const LENGTH_MAX: usize = 4096;
/// The most that the corpus of a target may take in the repository, in bytes.
const CORPUS_MAX: usize = 200 << 10;

fn directory() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "corpus"].iter().collect()
}

/// The files of a target's corpus, in order.
fn corpus(target: &Target) -> Vec<Vec<u8>> {
    let files = fs::read_dir(directory().join(target.name)).expect("each target has a corpus");
    let mut paths: Vec<PathBuf> = files.map(|file| file.expect("a file").path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).expect("a readable file")).collect()
}

/// Whether a target keeps its promises for an input; if not, this is the input as text.
fn run(target: &Target, input: &[u8]) -> Result<(), String> {
    let ran = catch_unwind(AssertUnwindSafe(|| (target.check)(input)));
    ran.map_err(|_| format!("{} fails on {:?}", target.name, String::from_utf8_lossy(input)))
}

/// Pseudo-random numbers (xorshift64*).
struct Random(u64);

impl Random {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % most.max(1)
    }

    /// A part of these bytes.
    fn part(&mut self, bytes: &[u8]) -> std::ops::Range<usize> {
        let from = self.below(bytes.len() + 1);
        from..(from + self.below(40)).min(bytes.len())
    }
}

/// An input of the corpus with one to four changes: a bit, a byte, a part left out, repeated, cut off, or taken from another input.
fn changed(corpus: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut input = corpus[random.below(corpus.len())].clone();
    for _ in 0..=random.below(4) {
        let at = random.below(input.len() + 1);
        match (random.below(7), input.get_mut(at)) {
            (0, Some(byte)) => *byte ^= 1 << random.below(8),
            (1, Some(byte)) => *byte = random.below(256) as u8,
            (2, _) => drop(input.drain(random.part(&input))),
            (3, _) => {
                let part = input[random.part(&input)].to_vec();
                drop(input.splice(at..at, part));
            }
            (4, _) if random.below(4) == 0 => input.truncate(at),
            (5, _) => {
                let other = &corpus[random.below(corpus.len())];
                let part = other[random.part(other)].to_vec();
                drop(input.splice(at..at, part));
            }
            _ => input.insert(at, b"\"\\,:/0{}[] \n\0.-"[random.below(15)]),
        }
    }
    input.truncate(LENGTH_MAX);
    input
}

#[test]
fn every_target_keeps_its_promises_on_its_corpus_and_on_changed_inputs() {
    let searched = |target: &Target| {
        let (corpus, mut random) = (corpus(target), Random(0x20_26_11_30));
        corpus.iter().try_for_each(|input| run(target, input))?;
        run(target, b"")?;
        (0..CHANGED).try_for_each(|_| run(target, &changed(&corpus, &mut random)))
    };
    let broken: Vec<String> = TARGETS.iter().filter_map(|target| searched(target).err()).collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn a_corpus_is_small_and_belongs_to_a_target() {
    let names: BTreeSet<String> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    for entry in fs::read_dir(directory()).expect("the corpus") {
        let name = entry.expect("a directory").file_name().to_string_lossy().into_owned();
        assert!(names.contains(&name) || name == "event" && cfg!(not(feature = "aws")), "{name} is of no target");
    }
    for target in TARGETS {
        let bytes: usize = corpus(target).iter().map(Vec::len).sum();
        assert!((1..=CORPUS_MAX).contains(&bytes), "the corpus of {} has {bytes} bytes", target.name);
    }
}
