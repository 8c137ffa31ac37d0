//! What a failure can be judged by: what Nix and the failing build said, as far as it is worth keeping.

use std::collections::VecDeque;

/// Lines of a build that are kept.
const TAIL: usize = 60;

/// What a failure can be judged by.
#[derive(Clone, Debug, Default)]
pub(crate) struct Evidence {
    /// Nix's errors, in order, without terminal codes. One may have several lines.
    pub(crate) errors: Vec<String>,
    /// Nix's warnings, and whatever else stood on stderr.
    pub(crate) remarks: VecDeque<String>,
    /// The builds that were started.
    pub(crate) builds: Vec<Trace>,
    /// Whether the derivation that failed is a download (has a fixed output), if that is known.
    pub(crate) download: Option<bool>,
    /// Whether a daemon may have built, whose exit code says nothing.
    pub(crate) daemon: bool,
    /// Whether the kernel killed something of ours for its memory meanwhile.
    pub(crate) oom_killed: bool,
    /// Whether there is hardly any disk left.
    pub(crate) disk_full: bool,
}

impl Evidence {
    /// The error that says what failed. It names its derivation; others only say what could not be done without it, or
    /// tell of a cache that Nix could do without.
    pub(crate) fn decisive_error(&self) -> &str {
        // The newest versions say "Reason: 1 dependency failed".
        let consequence = ["dependencies of derivation", "dependency failed", "dependencies failed"];
        let of_one = |error: &&String| error.contains(".drv") && !consequence.iter().any(|mark| error.contains(mark));
        self.errors.iter().find(of_one).or(self.errors.last()).map_or("", String::as_str)
    }
}

/// What is known of one build.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trace {
    /// Its derivation's path.
    pub(crate) drv: String,
    /// The phase that it was in last.
    pub(crate) phase: String,
    /// The first line of that phase that looks like a compiler's error.
    pub(crate) first_error: Option<String>,
    /// Its last lines.
    pub(crate) tail: VecDeque<String>,
}

impl Trace {
    /// Takes a line of the build's log.
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

/// Whether a line is how compilers, linkers and build tools say what is wrong.
pub(crate) fn looks_decisive(line: &str) -> bool {
    let line = line.trim_start();
    ["error: ", "fatal error: ", "undefined reference to"].iter().any(|mark| line.contains(mark))
        || ["error[", "configure: error", "CMake Error", "E: ", "Error: "].iter().any(|mark| line.starts_with(mark))
}

/// Appends a line, and lets go of the first where there are more than `max`.
pub(crate) fn keep(lines: &mut VecDeque<String>, line: &str, max: usize) {
    if lines.len() == max {
        lines.pop_front();
    }
    lines.push_back(line.to_owned());
}
