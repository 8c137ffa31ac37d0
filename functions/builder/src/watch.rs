//! Listens to one run of Nix: everything becomes lines of the log; what is Nix's own ([`Testimony`]) becomes progress,
//! and evidence in case that it fails.

use std::{collections::HashMap, sync::mpsc::Sender, time::Instant};

use binplz_core::build::protocol::{CACHES_MAX, OWN_CACHE, Progress};

use crate::{
    caches::public,
    evidence::{Evidence, Trace, keep, name_of},
    internal_json::{Activity, Event, parse},
    log::{Log, plain},
    offer::Built,
    progress_channel::ProgressChannel,
    testimony::{Testimony, without_log_tail},
    timer::Timer,
};

/// How many of Nix's own messages are kept as evidence.
const MESSAGES: usize = 200;
/// The highest level that goes to the log, "information"; higher ones are for debugging Nix.
const FOR_PEOPLE: u64 = 3;

/// The listener.
pub(crate) struct Watch<'a> {
    progress_channel: &'a ProgressChannel,
    log: &'a Log,
    evidence: Evidence,
    testimony: Testimony,
    /// Build activities by id, with the index of their trace.
    running: HashMap<u64, usize>,
    timer: Timer,
    /// The activity that counts all builds.
    builds: Option<u64>,
    /// Bytes of each download, and of each copy between stores.
    transfers: HashMap<u64, u64>,
    copies: HashMap<u64, u64>,
    expected: u64,
    /// Builds of earlier runs of Nix, and of all runs together.
    before: u64,
    total: u64,
    /// Receives a signal for each derivation that is built.
    built: Option<Sender<Built>>,
    /// The URL of the builders' own cache.
    own_cache: Option<&'a str>,
}

impl<'a> Watch<'a> {
    /// A listener that writes to `progress_channel` and `log`.
    pub(crate) fn new(progress_channel: &'a ProgressChannel, log: &'a Log) -> Watch<'a> {
        Watch {
            progress_channel,
            log,
            evidence: Evidence::default(),
            testimony: Testimony::default(),
            running: HashMap::new(),
            timer: Timer::default(),
            builds: None,
            transfers: HashMap::new(),
            copies: HashMap::new(),
            expected: 0,
            before: 0,
            total: 0,
            built: None,
            own_cache: None,
        }
    }

    /// The same for a builder that shares a cache with others.
    pub(crate) fn with_cache(self, url: Option<&'a str>) -> Watch<'a> {
        Watch { own_cache: url, ..self }
    }

    /// The same, with a signal for each derivation that is built.
    pub(crate) fn telling(self, built: Sender<Built>) -> Watch<'a> {
        Watch { built: Some(built), ..self }
    }

    /// The same, as one of several runs of Nix that build `total` derivations: `before` were built.
    pub(crate) fn counting(self, before: u64, total: u64) -> Watch<'a> {
        Watch { before, total, expected: total, ..self }
    }

    /// Processes one line of Nix's stderr.
    pub(crate) fn hear(&mut self, line: &[u8]) {
        let event = parse(line);
        let own = self.testimony.is_own(&event);
        match event {
            Event::Message { level: 0, text, .. } => {
                let text = text.lines().map(plain).collect::<Vec<_>>().join("\n");
                self.log.line(&text);
                // Nix uses this level for hints and for warnings about its settings too.
                match text.trim_start().starts_with("error:") {
                    true if own && self.evidence.errors.len() < MESSAGES => {
                        self.evidence.errors.push(without_log_tail(&text));
                    }
                    false if own => keep(&mut self.evidence.remarks, &text, MESSAGES),
                    _ => {}
                }
            }
            Event::Message { level, text, .. } if level <= FOR_PEOPLE => self.remark(&text, own),
            Event::Text(text) => self.remark(&text, own),
            Event::Start { id, activity, level, text } => {
                if level <= FOR_PEOPLE && !text.is_empty() {
                    self.log.line(&text);
                }
                if own {
                    self.start(id, activity);
                }
            }
            Event::Log { id, text } => self.log_line(id, &text),
            Event::Phase { id, name } => self.phase(id, name),
            Event::Progress { id, done, expected, .. } => self.progress(id, done, expected),
            Event::Stop { id } => self.timer.stop(id, Instant::now()),
            Event::Message { .. } | Event::Other => {}
        }
    }

    /// The evidence, in case that the run failed.
    pub(crate) fn into_evidence(self) -> Evidence {
        Evidence { timed: self.timer.into_timed(), ..self.evidence }
    }

    fn remark(&mut self, text: &str, own: bool) {
        self.log.line(text);
        if own {
            text.lines().for_each(|line| keep(&mut self.evidence.remarks, &plain(line), MESSAGES));
        }
    }

    fn start(&mut self, id: u64, activity: Activity) {
        match activity {
            Activity::Build(drv) => {
                self.running.insert(id, self.evidence.builds.len());
                self.timer.start(id, &drv, Instant::now());
                self.step(name_of(&drv).to_owned());
                self.evidence.builds.push(Trace { drv, ..Trace::default() });
            }
            Activity::Builds => self.builds = Some(id),
            Activity::Transfer => drop(self.transfers.insert(id, 0)),
            Activity::Copy(from) => {
                self.copies.insert(id, 0);
                self.fetch(&from);
            }
            Activity::Other => {}
        }
    }

    /// A path is fetched from a cache. What is copied to and from other builders is not.
    fn fetch(&self, from: &str) {
        if !["http://", "https://", "s3://", "file://"].iter().any(|scheme| from.starts_with(scheme)) {
            return;
        }
        let name = if self.own_cache == Some(from) { OWN_CACHE.to_owned() } else { public(from) };
        self.progress_channel.update(|progress| {
            let known = progress.fetched.len();
            match progress.fetched.get_mut(&name) {
                Some(paths) => *paths = paths.saturating_add(1),
                None if known < CACHES_MAX => drop(progress.fetched.insert(name, 1)),
                None => {}
            }
        });
    }

    /// Lines are marked with their derivation only if those of several may mix.
    fn log_line(&mut self, id: u64, text: &str) {
        let several = self.expected > 1 || self.evidence.builds.len() > 1;
        let Some(trace) = self.running.get(&id).and_then(|&build| self.evidence.builds.get_mut(build)) else {
            return self.log.line(text);
        };
        let text = setup_error(text).unwrap_or(text);
        if several {
            self.log.line(&format!("{}> {text}", name_of(&trace.drv)));
        } else {
            self.log.line(text);
        }
        trace.hear(&plain(text));
    }

    fn phase(&mut self, id: u64, name: String) {
        if let Some(trace) = self.running.get(&id).and_then(|&build| self.evidence.builds.get_mut(build)) {
            let step = format!("{} {}", name_of(&trace.drv), plain(&name));
            trace.phase = name;
            trace.first_error = None;
            self.step(step);
        }
    }

    fn step(&self, step: String) {
        let step = step.chars().take(200).collect();
        self.progress_channel.update(|progress| progress.step = Some(step));
    }

    fn progress(&mut self, id: u64, done: u64, expected: u64) {
        if self.builds == Some(id) {
            // The plan knows how many there are in all; one run of Nix does not.
            let done = self.before.saturating_add(done);
            let expected = if self.total > 0 { self.total.max(done) } else { expected };
            self.expected = self.expected.max(expected);
            // Fails when the receiver is gone, which does not matter.
            let _ = self.built.as_ref().map(|built| built.send(Built::Some));
            return self.progress_channel.update(|progress: &mut Progress| {
                progress.done = progress.done.max(done);
                progress.expected = progress.expected.max(expected);
            });
        }
        let Some(bytes) = self.transfers.get_mut(&id).or(self.copies.get_mut(&id)) else { return };
        *bytes = done;
        // A download is copied as well; a path from a store on this machine is only copied.
        let sum = |bytes: &HashMap<u64, u64>| bytes.values().fold(0u64, |sum, &n| sum.saturating_add(n));
        let fetched = sum(&self.transfers).max(sum(&self.copies));
        self.progress_channel.update(|progress| progress.bytes_fetched = progress.bytes_fetched.max(fetched));
    }
}

/// Nix's message if it cannot start a build's process. Nix 2.8 writes it to the build's log in its internal form: a
/// length and a text, several times, between NULs.
fn setup_error(text: &str) -> Option<&str> {
    let words = text.contains('\0').then(|| text.split('\0'))?;
    words.max_by_key(|word| word.len())
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    /// The progress and the evidence after these lines.
    fn heard(lines: &[&str]) -> (Progress, Evidence) {
        let (progress_channel, log) =
            (ProgressChannel::default(), Log::new(1 << 20, &"0".repeat(64).parse().expect("a token")));
        let mut watch = Watch::new(&progress_channel, &log);
        lines.iter().for_each(|line| watch.hear(line.as_bytes()));
        let evidence = watch.into_evidence();
        (progress_channel.read(None, Instant::now()).progress, evidence)
    }

    const BUILDS: &str = r#"@nix {"action":"start","id":1,"level":0,"text":"","type":104}"#;
    const ONE: &str =
        r#"@nix {"action":"start","fields":["/nix/store/x-one-1.0.drv","",1,1],"id":2,"level":3,"text":"","type":105}"#;
    const TWO: &str =
        r#"@nix {"action":"start","fields":["/nix/store/y-two-1.0.drv","",1,1],"id":3,"level":3,"text":"","type":105}"#;

    #[test]
    fn progress_counts_builds_and_names_the_newest_step() {
        let (progress, evidence) = heard(&[
            BUILDS,
            r#"@nix {"action":"result","fields":[0,2,0,0],"id":1,"type":105}"#,
            ONE,
            r#"@nix {"action":"result","fields":["buildPhase"],"id":2,"type":104}"#,
            r#"@nix {"action":"result","fields":[1,2,0,0],"id":1,"type":105}"#,
            // Of another activity, not of builds.
            r#"@nix {"action":"result","fields":[7,9,0,0],"id":4,"type":105}"#,
        ]);
        assert_eq!((progress.done, progress.expected, progress.step.as_deref()), (1, 2, Some("one-1.0 buildPhase")));
        assert_eq!(evidence.builds.len(), 1);
    }

    #[test]
    fn a_count_that_no_run_can_have_is_the_largest() {
        let (progress_channel, log) =
            (ProgressChannel::default(), Log::new(1 << 20, &"0".repeat(64).parse().expect("a token")));
        let mut watch = Watch::new(&progress_channel, &log).counting(3, 5);
        watch.hear(BUILDS.as_bytes());
        watch.hear(br#"@nix {"action":"result","fields":[18446744073709551615,9,0,0],"id":1,"type":105}"#);
        assert_eq!(progress_channel.now().done, u64::MAX);
    }

    #[test]
    fn bytes_that_are_downloaded_and_then_copied_count_once() {
        let (progress, _) = heard(&[
            r#"@nix {"action":"start","id":5,"level":4,"text":"","fields":["http://x"],"type":101}"#,
            r#"@nix {"action":"start","id":6,"level":4,"text":"","fields":["http://y"],"type":101}"#,
            r#"@nix {"action":"start","id":7,"level":4,"text":"","fields":["/nix/store/x"],"type":100}"#,
            r#"@nix {"action":"result","fields":[10,99,0,0],"id":5,"type":105}"#,
            r#"@nix {"action":"result","fields":[20,99,0,0],"id":5,"type":105}"#,
            r#"@nix {"action":"result","fields":[5,99,0,0],"id":6,"type":105}"#,
            r#"@nix {"action":"result","fields":[22,99,0,0],"id":7,"type":105}"#,
        ]);
        assert_eq!(progress.bytes_fetched, 25);
    }

    #[test]
    fn evidence_is_kept_for_each_build_apart_and_for_its_last_phase() {
        let (_, evidence) = heard(&[
            ONE,
            TWO,
            r#"@nix {"action":"result","fields":["x.c:1: error: of the first phase"],"id":2,"type":101}"#,
            r#"@nix {"action":"result","fields":["checkPhase"],"id":2,"type":104}"#,
            r#"@nix {"action":"result","fields":["of two"],"id":3,"type":101}"#,
            r#"@nix {"action":"msg","level":0,"msg":"\u001b[31;1merror:\u001b[0m one\nmore","raw_msg":"one\nmore"}"#,
            r#"@nix {"action":"msg","level":0,"msg":"(use '--show-trace' to show detailed location information)"}"#,
        ]);
        let [one, two] = evidence.builds.as_slice() else { panic!("{:?}", evidence.builds) };
        assert_eq!((one.phase.as_str(), one.first_error.as_deref()), ("checkPhase", None));
        assert_eq!((two.phase.as_str(), two.tail.iter().map(String::as_str).collect::<Vec<_>>()), ("", vec!["of two"]));
        assert_eq!(evidence.errors, ["error: one\nmore"]);
    }
}
