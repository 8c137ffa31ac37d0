//! A lease endpoint and store in one, strict about the protocol, which fails on demand.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::{Duration, Instant},
};

use binplz_catalogue::part;
use binplz_core::{
    build::{
        learned::Measured,
        protocol::{
            Checkpointed, DependencyRequest, DependencyTurn, Evaluated, Heartbeat, Job, Outcome, PresignedUpload,
            Progress, Report, Resume, Turn, Upload,
        },
    },
    objects::{artifact::ObjectName, gzip},
};
use serde_json::json;
use sha2::{Digest, Sha256};

pub(crate) const TOKEN: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// The endpoint's reaction to requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Answers them.
    Serves,
    /// 503.
    Unwell,
    /// Closes the connection.
    Away,
    /// 409.
    Gone,
    /// 401.
    Unknown,
    /// Refuses all content with 403.
    StoreRefuses,
    /// 400 for a whole log, as before whole logs existed.
    Old,
}

/// A request at which a test stops: the builder never gets its answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Point {
    /// A part of its method, path and, if short, body: `PUT /store/lookup`.
    pub(crate) request: &'static str,
    /// Which one of these, from 1.
    pub(crate) nth: usize,
    /// Whether it is carried out.
    pub(crate) done: bool,
}

/// What the service keeps of an attempt at a catalogue for the next one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kept {
    /// The parts of the newest checkpoint; `None`: a part that is not in the store any more.
    pub(crate) parts: Vec<Option<Vec<u8>>>,
    /// Whether the top level is published.
    pub(crate) published: bool,
}

impl Kept {
    /// The attributes in its parts, each once.
    pub(crate) fn attrs(&self) -> usize {
        let records = |part: &Vec<u8>| part::read(part).expect("a part").1;
        let attrs = self.parts.iter().flatten().flat_map(records).map(|record| record.attr);
        attrs.collect::<BTreeSet<_>>().len()
    }
}

/// The longest body that is a part of a [`Point`].
const SHORT: usize = 1000;

/// What happened so far.
pub(crate) struct Seen {
    pub(crate) mode: Mode,
    pub(crate) pulses: Vec<Progress>,
    pub(crate) objects: BTreeMap<String, Vec<u8>>,
    pub(crate) granted: BTreeMap<String, Upload>,
    pub(crate) grant_requests: usize,
    pub(crate) report: Option<Report>,
    /// The derivations that it has measured.
    pub(crate) measured: Vec<Measured>,
    /// The checkpoints that it reported.
    pub(crate) checkpoints: Vec<Checkpointed>,
    /// What is kept of the attempt before.
    earlier: Kept,
    /// What is kept for the next attempt.
    kept: Kept,
    hold_at: Option<Point>,
    held: bool,
    /// The evaluations that the builder reported.
    pub(crate) claims: Vec<Evaluated>,
    /// The endpoint's answer to them.
    pub(crate) turn: Turn,
    /// What the builder asked for and reported of dependencies.
    pub(crate) dependencies: Vec<DependencyRequest>,
    /// Dependencies, by name, that other tasks build, and whether they may be there soon.
    pub(crate) elsewhere: (Vec<&'static str>, bool),
    /// Whether other builds need the package itself.
    pub(crate) wanted: bool,
    /// Dependencies, by name, that it says can be fetched.
    pub(crate) fetched: Vec<&'static str>,
    /// The sha256 of contents that it says it has stored.
    pub(crate) stored: Vec<binplz_core::id::key::Sha256>,
    /// Uploads whose names begin so are refused.
    pub(crate) refused: Option<&'static str>,
    /// Requests that came while the mode was not [`Mode::Serves`].
    pub(crate) turned_away: usize,
    /// The builder's violations of the protocol.
    pub(crate) wrong: Vec<String>,
}

impl Seen {
    /// Whether to hold a request.
    fn hold(&mut self, request: &str, body: &[u8]) -> Option<Point> {
        let text = if body.len() < SHORT { String::from_utf8_lossy(body) } else { "".into() };
        let point = self.hold_at.as_mut().filter(|point| format!("{request} {text}").contains(point.request))?;
        point.nth = point.nth.checked_sub(1)?;
        (point.nth == 0).then_some(*point)
    }

    /// A checkpoint is recorded, as in the row of a catalogue.
    fn checkpointed(&mut self, stored: Checkpointed) {
        let parts = (1..=stored.parts).map(|number| self.objects.get(&format!("partial/{number:06}")).cloned());
        let parts: Vec<_> = parts.collect();
        let top_level = ["lookup", "details"].iter().all(|name| self.objects.contains_key(&format!("partial/{name}")));
        if parts.is_empty() || parts.iter().any(Option::is_none) || (stored.top_level && !top_level) {
            self.wrong.push(format!("a report of what is not stored: {stored:?}"));
        }
        self.kept = Kept { parts, published: self.kept.published || stored.top_level };
        self.checkpoints.push(stored);
    }

    /// What a builder may do about dependencies: all, but for those that are held or made.
    fn turn(&self, request: &DependencyRequest) -> DependencyTurn {
        let wanted = self.wanted && request.ready.is_empty();
        let mut turn = DependencyTurn { soon: self.elsewhere.1, wanted, ..DependencyTurn::default() };
        for ready in &request.ready {
            let list = if self.elsewhere.0.contains(&&*ready.name) {
                &mut turn.held
            } else if self.fetched.contains(&&*ready.name) && !ready.missing {
                &mut turn.fetch
            } else {
                &mut turn.build
            };
            list.push(ready.drv.clone());
        }
        turn.build.truncate(request.most);
        turn
    }

    /// The stored part of the log.
    pub(crate) fn log(&self) -> String {
        self.segments().iter().map(|bytes| String::from_utf8_lossy(bytes)).collect()
    }

    /// Its segments.
    pub(crate) fn segments(&self) -> Vec<&[u8]> {
        let segments = self.objects.iter().filter(|(name, _)| name.starts_with("log/"));
        segments.map(|(_, bytes)| bytes.as_slice()).collect()
    }

    /// Whether the whole log is stored too, with the same segments.
    pub(crate) fn has_whole_log(&self) -> bool {
        let Some(whole) = self.objects.get("log.gz") else { return false };
        gzip::segments(whole, usize::MAX).map(|segment| segment.expect("gzip")).eq(self.segments())
    }
}

struct Shared {
    job: Job,
    url: String,
    seen: Mutex<Seen>,
    changed: Condvar,
}

pub(crate) struct Endpoint(Arc<Shared>);

impl Endpoint {
    pub(crate) fn new(job: Job) -> Endpoint {
        Endpoint::continuing(job, Kept::default())
    }

    /// An endpoint for the attempt after the one of which that is kept.
    pub(crate) fn continuing(job: Job, kept: Kept) -> Endpoint {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let parts = (0..kept.parts.len()).map(|number| format!("{url}/earlier/{number}")).collect();
        let job = Job { resume: Resume { parts, published: kept.published }, ..job };
        let seen = Seen {
            mode: Mode::Serves,
            pulses: Vec::new(),
            objects: BTreeMap::new(),
            granted: BTreeMap::new(),
            grant_requests: 0,
            report: None,
            measured: Vec::new(),
            checkpoints: Vec::new(),
            earlier: kept.clone(),
            kept,
            hold_at: None,
            held: false,
            claims: Vec::new(),
            turn: Turn::Go,
            dependencies: Vec::new(),
            elsewhere: (Vec::new(), false),
            wanted: false,
            fetched: Vec::new(),
            stored: Vec::new(),
            refused: None,
            turned_away: 0,
            wrong: Vec::new(),
        };
        let shared = Arc::new(Shared { job, url, seen: Mutex::new(seen), changed: Condvar::new() });
        let serving = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let serving = Arc::clone(&serving);
                thread::spawn(move || while serving.answer(&stream).is_some() {});
            }
        });
        Endpoint(shared)
    }

    pub(crate) fn url(&self) -> String {
        format!("{}/lease", self.0.url)
    }

    /// The job that it hands out.
    pub(crate) fn job(&self) -> &Job {
        &self.0.job
    }

    /// Answers that another task builds its derivation, as a dependency.
    pub(crate) fn builds_it_elsewhere(&self) {
        self.0.change(|seen| seen.turn = Turn::Ask);
    }

    /// Answers that another build has every derivation.
    pub(crate) fn has_all_elsewhere(&self) {
        self.0.change(|seen| seen.turn = Turn::Elsewhere);
    }

    /// Answers that other tasks build these dependencies, by name, and whether they may be there soon.
    pub(crate) fn holds(&self, names: &[&'static str], soon: bool) {
        self.0.change(|seen| seen.elsewhere = (names.to_vec(), soon));
    }

    /// Answers that other builds need the package itself.
    pub(crate) fn wants_the_package(&self) {
        self.0.change(|seen| seen.wanted = true);
    }

    /// Answers that these dependencies, by name, can be fetched.
    pub(crate) fn has_made(&self, names: &[&'static str]) {
        self.0.change(|seen| (seen.elsewhere, seen.fetched) = (Default::default(), names.to_vec()));
    }

    /// Says that it has stored these contents.
    pub(crate) fn has_stored(&self, contents: Vec<binplz_core::id::key::Sha256>) {
        self.0.change(|seen| seen.stored = contents);
    }

    /// Refuses objects whose names begin so.
    pub(crate) fn refuses(&self, names: &'static str) {
        self.0.change(|seen| seen.refused = Some(names));
    }

    pub(crate) fn set_mode(&self, mode: Mode) {
        self.0.change(|seen| seen.mode = mode);
    }

    /// Does not answer that request.
    pub(crate) fn holds_at(&self, point: Point) {
        self.0.change(|seen| seen.hold_at = Some(point));
    }

    /// Waits until a request is held.
    pub(crate) fn wait_for_hold(&self) {
        self.wait("the request to hold", |seen| seen.held);
    }

    /// What the service keeps for the next attempt.
    pub(crate) fn kept(&self) -> Kept {
        self.see(|seen| seen.kept.clone())
    }

    /// Reads what happened.
    pub(crate) fn see<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(&self.0.seen.lock().expect("no panic"))
    }

    /// Waits until something has happened.
    pub(crate) fn wait(&self, what: &str, happened: impl Fn(&Seen) -> bool) {
        let seen = self.0.seen.lock().expect("no panic");
        let (seen, _) = self
            .0
            .changed
            .wait_timeout_while(seen, Duration::from_secs(120), |seen| !happened(seen))
            .expect("no panic");
        assert!(happened(&seen), "waited in vain for {what}; the log: {}", seen.log());
    }

    /// Waits until the build stands at its gate, and its log says so in the store.
    pub(crate) fn wait_for_gate(&self) {
        self.wait("the build at its gate", |seen| seen.log().contains("waiting at the gate"));
    }

    /// The builder's report; asserts that it kept the protocol.
    pub(crate) fn report(&self) -> Report {
        self.see(|seen| {
            assert_eq!(seen.wrong, Vec::<String>::new());
            seen.report.clone().expect("a report")
        })
    }

    pub(crate) fn outcome(&self) -> Outcome {
        self.report().outcome
    }
}

impl Shared {
    fn change<T>(&self, change: impl FnOnce(&mut Seen) -> T) -> T {
        let result = change(&mut self.seen.lock().expect("no panic"));
        self.changed.notify_all();
        result
    }

    /// The test goes on, and this request does not.
    fn hold(&self) -> ! {
        self.change(|seen| seen.held = true);
        loop {
            thread::park();
        }
    }

    /// One request; `None` ends the connection.
    fn answer(&self, stream: &TcpStream) -> Option<()> {
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let (method, path) = line.split_once(' ')?;
        let (method, path) = (method.to_owned(), path.split(' ').next()?.to_owned());
        let mut headers = BTreeMap::new();
        loop {
            let mut header = String::new();
            reader.read_line(&mut header).ok()?;
            let Some((name, value)) = header.trim_end().split_once(": ") else { break };
            headers.insert(name.to_ascii_lowercase(), value.to_owned());
        }
        let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let point = self.change(|seen| seen.hold(&format!("{method} {path}"), &body));
        if point.is_some_and(|point| !point.done) {
            self.hold();
        }
        if let Some(number) = path.strip_prefix("/earlier/") {
            let part = self.change(|seen| seen.earlier.parts[number.parse::<usize>().ok()?].clone());
            let status = if part.is_some() { 200 } else { 404 };
            let part = part.unwrap_or_default();
            let mut stream = stream;
            write!(stream, "HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n", part.len()).ok()?;
            return stream.write_all(&part).ok();
        }
        let mode = self.change(|seen| {
            seen.turned_away += usize::from(seen.mode != Mode::Serves);
            seen.mode
        });
        let (status, answer) = match (mode, path.strip_prefix("/store/")) {
            (Mode::Away, _) => return None,
            (Mode::Unwell, _) => (503, json!({})),
            (Mode::StoreRefuses, Some(_)) => (403, json!({})),
            (Mode::Gone, None) => (409, json!({})),
            (Mode::Unknown, None) => (401, json!({})),
            (_, Some(name)) => self.store(name, &headers, body),
            (_, None) => self.lease(&method, &path, &headers, &body),
        };
        if point.is_some() {
            self.hold();
        }
        let answer = answer.to_string();
        let mut stream = stream;
        write!(stream, "HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n{answer}", answer.len()).ok()
    }

    fn lease(
        &self,
        method: &str,
        path: &str,
        headers: &BTreeMap<String, String>,
        body: &[u8],
    ) -> (u16, serde_json::Value) {
        self.change(|seen| {
            if headers.get("authorization") != Some(&format!("Bearer {TOKEN}")) {
                seen.wrong.push(format!("{path} without the token"));
            }
            let claimed = !seen.claims.is_empty();
            if claimed && seen.turn == Turn::Elsewhere && path == "/lease/settle" {
                seen.wrong.push("a report of what was left to another".to_owned());
            }
            if seen.report.is_some() && path != "/lease/pulse" {
                seen.wrong.push(format!("{path} after the report"));
            }
            let value = match (method, path) {
                ("GET", "/lease") => serde_json::to_value(&self.job),
                ("POST", "/lease/pulse") => {
                    seen.pulses.push(serde_json::from_slice(body).expect("progress"));
                    serde_json::to_value(Heartbeat { lease_seconds: self.job.lease_seconds })
                }
                // Nothing was built before.
                ("POST", "/lease/built") => Ok(json!({ "packages": [] })),
                ("POST", "/lease/derivation") => {
                    seen.claims.push(serde_json::from_slice(body).expect("what it has evaluated to"));
                    serde_json::to_value(seen.turn)
                }
                ("POST", "/lease/dependencies") => {
                    let request: DependencyRequest = serde_json::from_slice(body).expect("dependencies");
                    if !claimed {
                        seen.wrong.push("dependencies before the derivation".to_owned());
                    }
                    let turn = seen.turn(&request);
                    seen.dependencies.push(request);
                    serde_json::to_value(turn)
                }
                ("POST", "/lease/uploads") => {
                    let uploads: Vec<Upload> = serde_json::from_slice(body).expect("uploads");
                    if seen.mode == Mode::Old && uploads.iter().any(|upload| upload.name == ObjectName::WholeLog) {
                        return (400, json!({}));
                    }
                    seen.grant_requests += 1;
                    let grant = |upload: &Upload| PresignedUpload {
                        url: format!("{}/store/{}", self.url, upload.name),
                        headers: vec![("x-granted".into(), upload.name.to_string())],
                        stored: seen.stored.contains(&upload.sha256),
                    };
                    let grants: Vec<PresignedUpload> = uploads.iter().map(grant).collect();
                    seen.granted.extend(uploads.into_iter().map(|upload| (upload.name.to_string(), upload)));
                    serde_json::to_value(grants)
                }
                ("POST", "/lease/measured") => {
                    let measured: Vec<Measured> = serde_json::from_slice(body).expect("measurements");
                    seen.measured.extend(measured);
                    Ok(json!({}))
                }
                ("POST", "/lease/checkpoint") => {
                    let stored = serde_json::from_slice(body).expect("a checkpoint");
                    seen.checkpointed(stored);
                    Ok(json!({}))
                }
                ("POST", "/lease/settle") => {
                    seen.report = Some(serde_json::from_slice(body).expect("a report"));
                    Ok(json!({}))
                }
                _ => {
                    seen.wrong.push(format!("{method} {path}"));
                    return (404, json!({}));
                }
            };
            (200, value.expect("JSON"))
        })
    }

    fn store(&self, name: &str, headers: &BTreeMap<String, String>, body: Vec<u8>) -> (u16, serde_json::Value) {
        self.change(|seen| {
            if seen.refused.is_some_and(|names| name.starts_with(names)) {
                return (403, json!({}));
            }
            let granted = seen.granted.get(name);
            let sha256: String = Sha256::digest(&body).iter().map(|byte| format!("{byte:02x}")).collect();
            let matches =
                granted.is_some_and(|upload| upload.size == body.len() as u64 && upload.sha256.as_str() == sha256);
            let known = seen.objects.get(name).is_some_and(|old| *old != body);
            let bare =
                headers.get("x-granted").map(String::as_str) == Some(name) && !headers.contains_key("authorization");
            if !matches || known || !bare {
                seen.wrong.push(format!("the content of {name}"));
                return (400, json!({}));
            }
            seen.objects.insert(name.to_owned(), body);
            (200, json!({}))
        })
    }
}

/// Polls for a condition that sends no event.
#[expect(clippy::disallowed_methods, reason = "no event says when")]
pub(crate) fn patiently(happened: impl Fn() -> bool, what: &str) {
    let until = Instant::now() + Duration::from_secs(60);
    while !happened() {
        assert!(Instant::now() < until, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(20));
    }
}
