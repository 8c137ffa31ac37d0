//! The builder's client of the lease endpoint: a few requests that are retried while the lease lasts.
//!
//! The server may restart during a build, so no answer and 5xx mean "retry". 401 and 409 mean that the lease is lost,
//! which is announced at once. No error text contains a URL: presigned upload URLs work without a token.

use std::{
    fs::File,
    io,
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use binplz_core::{
    build::{
        learned::Measured,
        protocol::{
            Built, Checkpointed, DependencyRequest, DependencyTurn, Evaluated, Heartbeat, Job, Looked, PresignedUpload,
            Progress, Report, Turn, Upload,
        },
    },
    id::key::{self, Token, hex},
    objects::{artifact::ObjectName, content::Content},
};
use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};
use thiserror::Error;
use ureq::http::{Request, Response};

use crate::stop::{Stop, Why, lock};

/// The first pause before a retry; it doubles each time (backoff).
const FIRST_DELAY: Duration = Duration::from_millis(200);
/// The longest pause.
const LAST_DELAY: Duration = Duration::from_secs(5);
/// The timeout of a small request.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the endpoint may be unreachable before the job, and so the lease, is known.
const FIRST_LEASE: Duration = Duration::from_secs(60);
/// How long an interrupted builder has for its final calls.
pub(crate) const LAST_WORDS: Duration = Duration::from_secs(8);
/// How many upload URLs are requested for an object that the store refuses (the URL may have expired).
const GRANTS: usize = 3;
/// The largest answer that is read, in bytes.
const ANSWER_MAX: u64 = 4 << 20;

/// Why a call failed.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum CallError {
    /// The lease is lost, or the task is being stopped and the call was not final.
    #[error("the work was stopped")]
    Stopped,
    /// The endpoint or the store refused the request: a bug in the builder.
    #[error("{0}")]
    Refused(String),
    /// The job's deadline has passed.
    #[error("no time was left: {0}")]
    Late(String),
}

/// The priority of a call.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum CallPriority {
    /// Ends when the work is stopped, and at the job's deadline.
    Work,
    /// Also made when the task is interrupted, for [`LAST_WORDS`], and after the deadline.
    Final,
}

/// Why one try failed.
enum Try {
    Again(String),
    Over(CallError),
}

/// The live lease.
pub(crate) struct Lease {
    agent: ureq::Agent,
    base: String,
    token: Token,
    times: Mutex<Times>,
    stop: Arc<Stop>,
}

#[derive(Clone, Copy)]
struct Times {
    /// The end of the lease by our own clock, unless it is renewed.
    lease: Instant,
    /// The deadline of the work.
    work: Instant,
}

impl Lease {
    /// A lease before its first call.
    pub(crate) fn new(base: &str, token: Token, stop: Arc<Stop>) -> Lease {
        let local = ["http://127.", "http://localhost", "http://[::1]"].iter().any(|host| base.starts_with(host));
        let mut config = ureq::config::Config::builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .user_agent("binplz-builder")
            .timeout_connect(Some(PATIENCE / 2));
        if local {
            // The user's proxy is for the internet, not for the endpoint.
            config = config.proxy(None);
        }
        let start = Instant::now();
        let times = Times { lease: start + FIRST_LEASE, work: start + FIRST_LEASE };
        Lease {
            agent: config.build().new_agent(),
            base: base.trim_end_matches('/').to_owned(),
            token,
            times: Mutex::new(times),
            stop,
        }
    }

    /// No lease: only the deadline, in so many seconds from now.
    pub(crate) fn without_endpoint(token: Token, stop: Arc<Stop>, seconds: u64) -> Lease {
        let lease = Lease::new("", token, stop);
        lock(&lease.times).work += Duration::from_secs(seconds);
        lease
    }

    /// Fetches the job. The lease's and the job's times run from here.
    pub(crate) fn job(&self) -> Result<Job, CallError> {
        let sent = Instant::now();
        let job: Job = self.insist(CallPriority::Work, || self.ask("the job", "", None::<&()>))?;
        let mut times = lock(&self.times);
        times.lease = Instant::now() + Duration::from_secs(job.lease_seconds);
        times.work = sent + Duration::from_secs(job.limits.seconds);
        Ok(job)
    }

    /// The deadline of the work.
    pub(crate) fn deadline(&self) -> Instant {
        lock(&self.times).work
    }

    /// Renews the lease, in a single try. After an `Err` another try may succeed, unless the end was announced.
    pub(crate) fn heartbeat(&self, progress: &Progress) -> Result<Duration, String> {
        let sent = Instant::now();
        match self.ask::<Heartbeat>("a pulse", "/pulse", Some(progress)) {
            Ok(heartbeat) => {
                let time = Duration::from_secs(heartbeat.lease_seconds);
                lock(&self.times).lease = sent + time;
                Ok(time)
            }
            Err(Try::Again(why)) => {
                self.still_ours(&why);
                Err(why)
            }
            Err(Try::Over(error)) => Err(error.to_string()),
        }
    }

    /// Stores one object: requests an upload URL, then uploads the bytes.
    pub(crate) fn store(&self, weight: CallPriority, upload: &Upload, body: Body<'_>) -> Result<(), CallError> {
        let grants = self.grants(weight, std::slice::from_ref(upload))?;
        self.store_granted(weight, upload, grants.into_iter().next(), body)
    }

    /// Stores an object whose content is in memory.
    ///
    /// # Errors
    /// [`CallError`].
    pub(crate) fn store_bytes(&self, weight: CallPriority, name: ObjectName, bytes: &[u8]) -> Result<(), CallError> {
        let upload = Upload { name, size: bytes.len() as u64, sha256: key::Sha256::of(bytes) };
        self.store(weight, &upload, Body::Bytes(bytes))
    }

    /// Stores one object for which there is an upload URL already.
    pub(crate) fn store_granted(
        &self,
        weight: CallPriority,
        upload: &Upload,
        mut grant: Option<PresignedUpload>,
        body: Body<'_>,
    ) -> Result<(), CallError> {
        let mut refusal = String::new();
        for _ in 0..GRANTS {
            let granted = match grant.take() {
                Some(granted) => granted,
                None => self.grants(weight, std::slice::from_ref(upload))?.swap_remove(0),
            };
            match self.insist(weight, || self.put(&granted, upload, body)) {
                Err(CallError::Refused(why)) => refusal = why,
                done => return done,
            }
        }
        Err(CallError::Refused(format!("{}: {refusal}", upload.name)))
    }

    /// Reports the derivation, and learns whether to realise it (single-flight).
    pub(crate) fn claim(&self, found: &Evaluated) -> Result<Turn, CallError> {
        self.insist(CallPriority::Work, || self.ask("the derivation", "/derivation", Some(found)))
    }

    /// Asks which dependencies to build, and reports those that were built. Idempotent.
    pub(crate) fn dependencies(&self, request: &DependencyRequest) -> Result<DependencyTurn, CallError> {
        self.insist(CallPriority::Work, || self.ask("dependencies", "/dependencies", Some(request)))
    }

    /// Reports how long derivations took. Idempotent.
    pub(crate) fn measured(&self, measured: &[Measured]) -> Result<(), CallError> {
        let report = || self.ask::<serde_json::Value>("the measurements", "/measured", Some(&measured));
        self.insist(CallPriority::Final, report).map(drop)
    }

    /// Asks which programs earlier builds of packages have.
    pub(crate) fn built(&self, seen: Looked) -> Result<Built, CallError> {
        self.insist(CallPriority::Work, || self.ask("what was built", "/built", Some(&seen)))
    }

    /// Downloads a file that must have a known content.
    pub(crate) fn fetch(&self, what: &str, url: &str, content: &Content, to: &Path) -> Result<(), CallError> {
        self.insist(CallPriority::Work, || self.get(what, url, content, to))
    }

    /// Reports the stored parts of a catalogue. Idempotent.
    pub(crate) fn checkpoint(&self, weight: CallPriority, stored: Checkpointed) -> Result<(), CallError> {
        let report = || self.ask::<serde_json::Value>("a checkpoint", "/checkpoint", Some(&stored));
        self.insist(weight, report).map(drop)
    }

    /// Reads an object of an earlier attempt, of at most `most` bytes, by its presigned URL.
    pub(crate) fn read(&self, url: &str, most: u64) -> Result<Vec<u8>, CallError> {
        self.insist(CallPriority::Work, || {
            let request = Request::builder().method("GET").uri(url);
            let mut answer = self.send("a part", request, &[][..], 6 * PATIENCE)?;
            match answer.status().as_u16() {
                200..300 => {
                    let read = answer.body_mut().with_config().limit(most).read_to_vec();
                    read.map_err(|error| match error {
                        ureq::Error::BodyExceedsLimit(_) => refused("a part", &error),
                        error => Try::Again(format!("a part: {error}")),
                    })
                }
                status => Err(self.by_status("a part", status)),
            }
        })
    }

    /// Requests upload URLs for some objects.
    pub(crate) fn grants(&self, weight: CallPriority, uploads: &[Upload]) -> Result<Vec<PresignedUpload>, CallError> {
        let grants: Vec<PresignedUpload> = self.insist(weight, || self.ask("uploads", "/uploads", Some(&uploads)))?;
        if grants.len() == uploads.len() {
            Ok(grants)
        } else {
            Err(CallError::Refused(format!("{} grants for {} uploads", grants.len(), uploads.len())))
        }
    }

    /// Reports the outcome of the build, which ends the lease. Idempotent.
    pub(crate) fn settle(&self, report: &Report) -> Result<(), CallError> {
        self.insist(CallPriority::Final, || self.ask::<serde_json::Value>("the report", "/settle", Some(report)))
            .map(drop)
    }

    /// Retries with backoff until the call succeeds, is refused, or cannot succeed any more.
    fn insist<T>(&self, weight: CallPriority, mut once: impl FnMut() -> Result<T, Try>) -> Result<T, CallError> {
        let mut delay = FIRST_DELAY;
        loop {
            let why = match once() {
                Ok(done) => return Ok(done),
                Err(Try::Over(error)) => return Err(error),
                Err(Try::Again(why)) => why,
            };
            if !self.still_ours(&why) {
                return Err(CallError::Stopped);
            }
            let now = Instant::now();
            let times = *lock(&self.times);
            let until = match (self.stop.why(), weight) {
                (None, CallPriority::Work) => times.work,
                (None, CallPriority::Final) => times.lease,
                (Some((Why::Interrupted, since)), CallPriority::Final) => since + LAST_WORDS,
                (Some(_), _) => return Err(CallError::Stopped),
            };
            let left = until.saturating_duration_since(now);
            if left.is_zero() {
                return Err(CallError::Late(why));
            }
            let pause = delay.min(left).min(times.lease.saturating_duration_since(now));
            self.stop.pause(pause, |why| weight == CallPriority::Work || matches!(why, Why::LeaseLost(_)));
            delay = (delay * 2).min(LAST_DELAY);
        }
    }

    /// Announces the end when the lease has expired by our own clock.
    fn still_ours(&self, why: &str) -> bool {
        if Instant::now() < lock(&self.times).lease {
            return true;
        }
        self.stop.announce(Why::LeaseLost(format!("it ran out while the endpoint gave no answer ({why})")));
        false
    }

    /// One request to the endpoint.
    fn ask<T: DeserializeOwned>(&self, what: &str, path: &str, body: Option<&impl Serialize>) -> Result<T, Try> {
        let left = lock(&self.times).lease.saturating_duration_since(Instant::now());
        let patience = PATIENCE.min(left).max(Duration::from_millis(100));
        let text = body.map(serde_json::to_vec).transpose().map_err(|error| refused(what, &error))?;
        let request = Request::builder()
            .method(if text.is_some() { "POST" } else { "GET" })
            .uri(format!("{}{path}", self.base))
            .header("authorization", format!("Bearer {}", self.token.reveal()))
            .header("content-type", "application/json");
        let mut answer = self.send(what, request, &text.unwrap_or_default()[..], patience)?;
        match answer.status().as_u16() {
            200..300 => {
                let read = answer.body_mut().with_config().limit(ANSWER_MAX).read_to_vec();
                let text = read.map_err(|error| Try::Again(format!("{what}: {error}")))?;
                serde_json::from_slice(&text).map_err(|error| refused(what, &error))
            }
            status @ (401 | 409) => {
                self.stop.announce(Why::LeaseLost(format!("the endpoint answered {what} with {status}")));
                Err(Try::Over(CallError::Stopped))
            }
            status => Err(self.by_status(what, status)),
        }
    }

    /// One `GET` from the store. Nothing is read beyond the expected size.
    fn get(&self, what: &str, url: &str, content: &Content, to: &Path) -> Result<(), Try> {
        let request = Request::builder().method("GET").uri(url);
        let mut answer = self.send(what, request, &[][..], patience_for(content.size))?;
        match answer.status().as_u16() {
            200 => {}
            status => return Err(self.by_status(what, status)),
        }
        let again = |error: &dyn std::fmt::Display| Try::Again(format!("{what}: {error}"));
        let mut file = Hashed { file: File::create(to).map_err(|error| refused(what, &error))?, hasher: Sha256::new() };
        let body = answer.body_mut().with_config().limit(content.size + 1);
        let size = io::copy(&mut body.reader(), &mut file).map_err(|error| again(&error))?;
        match (size, hex(&file.hasher.finalize())) {
            (size, _) if size < content.size => Err(again(&"it ended early")),
            (size, sha256) if size == content.size && sha256 == content.sha256.to_string() => Ok(()),
            _ => Err(refused(what, &"it has other content than when it was added")),
        }
    }

    /// One `PUT` to the store.
    fn put(&self, grant: &PresignedUpload, upload: &Upload, body: Body<'_>) -> Result<(), Try> {
        let patience = patience_for(upload.size);
        let mut request = Request::builder().method("PUT").uri(&grant.url);
        for (name, value) in &grant.headers {
            // The body sets its own length, which is the announced one.
            if !name.eq_ignore_ascii_case("content-length") {
                request = request.header(name, value);
            }
        }
        let answer = match body {
            Body::Bytes(bytes) => self.send("an upload", request, bytes, patience),
            Body::File(path) => {
                let file = File::open(path).map_err(|error| refused("a program", &error))?;
                self.send("an upload", request, &file, patience)
            }
        }?;
        match answer.status().as_u16() {
            // 412: the object exists, under a name that only this lease may write. The reply to an earlier try was
            // lost.
            200..300 | 412 => Ok(()),
            status => Err(self.by_status("an upload", status)),
        }
    }

    fn send(
        &self,
        what: &str,
        request: ureq::http::request::Builder,
        body: impl ureq::AsSendBody,
        patience: Duration,
    ) -> Result<Response<ureq::Body>, Try> {
        let has_body = request.method_ref().is_some_and(|method| method != "GET");
        let request = request.body(()).map_err(|_| refused(what, &"an invalid URL or header"))?;
        let (parts, ()) = request.into_parts();
        let sent = if has_body {
            let request = Request::from_parts(parts, body);
            let request = self.agent.configure_request(request).timeout_global(Some(patience)).build();
            self.agent.run(request)
        } else {
            let request = Request::from_parts(parts, ());
            let request = self.agent.configure_request(request).timeout_global(Some(patience)).build();
            self.agent.run(request)
        };
        sent.map_err(|error| match error {
            ureq::Error::BadUri(_) => refused(what, &"an invalid URL"),
            error => Try::Again(format!("{what}: {error}")),
        })
    }

    fn by_status(&self, what: &str, status: u16) -> Try {
        match status {
            408 | 425 | 429 | 500.. => Try::Again(format!("{what} was answered with {status}")),
            _ => Try::Over(CallError::Refused(format!("{what} was refused with {status}"))),
        }
    }
}

/// The timeout of a transfer of so many bytes: a connection slower than 64 KiB a second counts as broken.
fn patience_for(bytes: u64) -> Duration {
    6 * PATIENCE + Duration::from_secs(bytes >> 16)
}

/// A file, and the sha256 of what is written to it.
struct Hashed {
    file: File,
    hasher: Sha256,
}

impl io::Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// The content of an upload.
#[derive(Clone, Copy)]
pub(crate) enum Body<'a> {
    /// These bytes.
    Bytes(&'a [u8]),
    /// A file's content, streamed.
    File(&'a Path),
}

fn refused(what: &str, error: &dyn std::fmt::Display) -> Try {
    Try::Over(CallError::Refused(format!("{what}: {error}")))
}
