//! The evidence of a failure: Nix's own messages, and the last lines of each build.

use std::collections::VecDeque;

use crate::timer::Timed;

/// How many of a build's last lines are kept.
const TAIL: usize = 60;

/// The evidence of a failure.
#[derive(Clone, Debug, Default)]
pub(crate) struct Evidence {
    /// Nix's errors, in order, without terminal codes. An error may have several lines.
    pub(crate) errors: Vec<String>,
    /// Nix's warnings, and other lines of stderr.
    pub(crate) remarks: VecDeque<String>,
    /// The builds that Nix has started.
    pub(crate) builds: Vec<Trace>,
    /// The times of those that have ended.
    pub(crate) timed: Vec<Timed>,
    /// The derivations that Nix was to build.
    pub(crate) planned: Vec<String>,
    /// Whether the derivation that failed is a download (has a fixed output), if that is known.
    pub(crate) download: Option<bool>,
    /// Whether a daemon may have built, in which case the exit code has no meaning.
    pub(crate) daemon: bool,
    /// Whether the kernel's OOM killer ended one of our processes meanwhile.
    pub(crate) oom_killed: bool,
    /// Whether the disk is full.
    pub(crate) disk_full: bool,
}

impl Evidence {
    /// The error that names the failed derivation. Others only name what could not be done without it, or concern a
    /// cache that Nix could do without.
    pub(crate) fn decisive_error(&self) -> &str {
        // The newest versions print "Reason: 1 dependency failed".
        let consequence = ["dependencies of derivation", "dependency failed", "dependencies failed"];
        let of_one = |error: &&String| error.contains(".drv") && !consequence.iter().any(|mark| error.contains(mark));
        self.errors.iter().find(of_one).or(self.errors.last()).map_or("", String::as_str)
    }
}

/// The trace of one build.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trace {
    /// Its derivation's path.
    pub(crate) drv: String,
    /// Its last phase.
    pub(crate) phase: String,
    /// The first line of that phase that looks like a compiler's error.
    pub(crate) first_error: Option<String>,
    /// Its last lines.
    pub(crate) tail: VecDeque<String>,
}

impl Trace {
    /// Records a line of the build's log.
    pub(crate) fn hear(&mut self, line: &str) {
        if self.first_error.is_none() && looks_decisive(line) {
            self.first_error = Some(line.to_owned());
        }
        keep(&mut self.tail, line, TAIL);
    }
}

/// The name in a derivation's path: `/nix/store/HASH-tree-2.1.0.drv` → `tree-2.1.0`.
pub(crate) fn name_of(drv: &str) -> &str {
    let file = drv.rsplit('/').next().unwrap_or(drv);
    let file = file.strip_suffix(".drv").unwrap_or(file);
    file.split_once('-').map_or(file, |(_, name)| name)
}

/// Whether a line looks like an error of a compiler, linker or build tool.
pub(crate) fn looks_decisive(line: &str) -> bool {
    let line = line.trim_start();
    ["error: ", "fatal error: ", "undefined reference to"].iter().any(|mark| line.contains(mark))
        || ["error[", "configure: error", "CMake Error", "E: ", "Error: "].iter().any(|mark| line.starts_with(mark))
}

/// Appends a line, and drops the first one beyond `max` lines.
pub(crate) fn keep(lines: &mut VecDeque<String>, line: &str, max: usize) {
    if lines.len() == max {
        lines.pop_front();
    }
    lines.push_back(line.to_owned());
}
