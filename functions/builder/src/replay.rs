//! A failed run of Nix, from what it has written to stderr: for recorded runs, and for the fuzzer.

use std::time::Instant;

use binplz_core::{
    build::{failure::Failure, protocol::Progress},
    id::key::Token,
};

use crate::{
    classify::{self, NixExit},
    log::Log,
    nix::Exit,
    progress_channel::ProgressChannel,
    watch::Watch,
};

/// What a builder reports of a run.
#[derive(Debug)]
pub struct Replay {
    /// The last progress.
    pub progress: Progress,
    /// The log.
    pub log: Vec<u8>,
    /// Why `nix-store --realise` failed.
    pub realisation: Failure,
    /// Why an evaluation failed.
    pub evaluation: Failure,
}

/// Hears the stderr of the second run of Nix for a package, which was to build `asked` and has ended with this exit code. The log has at
/// most `log_bytes`.
pub fn replay(stderr: &[u8], code: i32, asked: &str, token: &Token, log_bytes: u64) -> Replay {
    let (progress_channel, log) = (ProgressChannel::default(), Log::new(log_bytes, token));
    let mut watch = Watch::new(&progress_channel, &log).counting(1, 2);
    stderr.split(|byte| *byte == b'\n').for_each(|line| watch.hear(line));
    let mut evidence = watch.into_evidence();
    evidence.planned = evidence.builds.iter().map(|trace| trace.drv.clone()).collect();
    let ended = NixExit::Exit(Exit::Code(code));
    Replay {
        progress: progress_channel.read(None, Instant::now()).progress,
        log: log.into_text(),
        realisation: classify::realisation(ended, &evidence, asked),
        evaluation: classify::evaluation(ended, &evidence),
    }
}
