//! A large answer waits on the disk for its client, not in memory: however slowly it is read, it costs a small piece of
//! memory. Few of them are made at a time, so that making them has a bound, too.

use std::{
    fs::File,
    io::{self, Seek, Write},
    panic::resume_unwind,
    path::PathBuf,
    sync::Arc,
};

use axum::{
    body::{Body, Bytes, HttpBody, to_bytes},
    extract::Request,
    http::{HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use futures_util::StreamExt;
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
    task::spawn_blocking,
};
use tokio_util::io::ReaderStream;
use tracing::Instrument;

/// The most bytes of a body that stays in memory.
const IN_MEMORY: u64 = 64 << 10;
/// How much of a spooled body is read at a time, in bytes.
const PIECE: usize = 16 << 10;
/// The most answers that are made at a time. A log's takes some 30 MB meanwhile.
const MAKING: usize = 2;
/// The most that spooled answers take of the disk, in kB.
const SPOOLED_MAX: usize = 1 << 20;

/// The answers that are being made, and those on the disk.
#[derive(Debug)]
pub(crate) struct Spool {
    dir: PathBuf,
    making: Arc<Semaphore>,
    room: Arc<Semaphore>,
}

/// Bytes that are in memory, and the place that they take until they are sent.
struct Held {
    bytes: Bytes,
    _place: Option<OwnedSemaphorePermit>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Spool {
    /// Spools to files in `dir` that have no name.
    pub(crate) fn new(dir: PathBuf) -> Arc<Spool> {
        let (making, room) = (Arc::new(Semaphore::new(MAKING)), Arc::new(Semaphore::new(SPOOLED_MAX)));
        Arc::new(Spool { dir, making, room })
    }

    /// The answer, spooled if it is large.
    pub(crate) async fn pass(&self, request: Request, next: Next) -> Response {
        if !may_be_large(&request) {
            return next.run(request).await;
        }
        let place = Arc::clone(&self.making).acquire_owned().await.ok();
        // Making it takes the processor for a while: on a thread of its own, no hit waits for that.
        let (runtime, making) = (Handle::current(), next.run(request).in_current_span());
        let response = match spawn_blocking(move || runtime.block_on(making)).await {
            Ok(response) => response,
            Err(ended) => match ended.try_into_panic() {
                Ok(panic) => resume_unwind(panic),
                // The runtime is shutting down.
                Err(_) => return StatusCode::SERVICE_UNAVAILABLE.into_response(),
            },
        };
        let size = response.body().size_hint().lower();
        if size <= IN_MEMORY {
            return response;
        }
        let (mut parts, body) = response.into_parts();
        let Ok(whole) = to_bytes(body, usize::MAX).await else { return Response::from_parts(parts, Body::empty()) };
        let spooled = self.spooled(whole.clone()).await;
        let body = spooled.unwrap_or_else(|error| {
            tracing::warn!(%error, "an answer was not spooled");
            Body::from(Bytes::from_owner(Held { bytes: whole, _place: place }))
        });
        parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(size));
        Response::from_parts(parts, body)
    }

    async fn spooled(&self, whole: Bytes) -> io::Result<Body> {
        let kilobytes = u32::try_from(whole.len().div_ceil(1024)).map_err(io::Error::other)?;
        let room = Arc::clone(&self.room).try_acquire_many_owned(kilobytes).map_err(io::Error::other)?;
        let dir = self.dir.clone();
        let file = spawn_blocking(move || {
            let mut file = tempfile::tempfile_in(dir)?;
            file.write_all(&whole)?;
            file.rewind()?;
            Ok::<File, io::Error>(file)
        });
        let pieces = ReaderStream::with_capacity(tokio::fs::File::from_std(file.await??), PIECE);
        Ok(Body::from_stream(pieces.map(move |piece| {
            // Taken until the stream is dropped.
            let _ = &room;
            piece
        })))
    }
}

/// Whether a request's answer may be large: logs, lists, and pages, of which some show the end of a log.
fn may_be_large(request: &Request) -> bool {
    let path = request.uri().path();
    let page = || {
        let accept = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
        accept.is_some_and(|accept| accept.contains("text/html"))
    };
    let listed = ["/-/log/", "/-/p/", "/-/search", "/-/builds"].iter().any(|prefix| path.starts_with(prefix));
    listed || (!path.starts_with("/-/wait/") && page())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use axum::{Router, middleware::from_fn, routing::get};
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;

    const LARGE: usize = 4 << 20;

    fn service(spool: &Arc<Spool>) -> Router {
        let spool = Arc::clone(spool);
        let content = async || (0..LARGE).map(|n| (n % 251) as u8).collect::<Vec<_>>();
        Router::new().route("/-/log/x", get(content)).layer(from_fn(move |request, next| {
            let spool = Arc::clone(&spool);
            async move { spool.pass(request, next).await }
        }))
    }

    async fn ask(service: &Router) -> Response {
        let request = Request::get("/-/log/x").body(Body::empty()).expect("a request");
        service.clone().oneshot(request).await.expect("an answer")
    }

    #[tokio::test]
    async fn an_answer_that_is_not_read_keeps_nothing_in_memory_and_comes_whole_when_it_is() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let spool = Spool::new(dir.path().to_path_buf());
        let service = service(&spool);
        let mut unread = Vec::new();
        // More than may be made at a time: each has given up its place.
        for _ in 0..MAKING * 3 {
            unread.push(ask(&service).await);
        }
        assert_eq!(spool.making.available_permits(), MAKING);
        assert_eq!(spool.room.available_permits(), SPOOLED_MAX - MAKING * 3 * LARGE / 1024);
        let response = unread.pop().expect("an answer");
        assert_eq!(response.headers()["content-length"], LARGE.to_string().as_str());
        let mut body = response.into_body();
        let mut whole = Vec::new();
        while let Some(frame) = body.frame().await {
            let piece = frame.expect("a frame").into_data().expect("data");
            assert!(piece.len() <= PIECE);
            whole.extend_from_slice(&piece);
        }
        assert!(whole.len() == LARGE && whole.iter().enumerate().all(|(n, byte)| *byte == (n % 251) as u8));
        drop((unread, body));
        assert_eq!(spool.room.available_permits(), SPOOLED_MAX);
        assert_eq!(fs::read_dir(dir.path()).expect("a directory").count(), 0);
    }

    #[tokio::test]
    async fn where_no_answer_can_be_spooled_few_are_in_memory_at_a_time() {
        let spool = Spool::new("/nowhere".into());
        let service = service(&spool);
        let mut unread = Vec::new();
        for _ in 0..MAKING {
            unread.push(ask(&service).await);
        }
        assert_eq!(spool.making.available_permits(), 0);
        let first = unread.remove(0).into_body().collect().await.expect("a body").to_bytes();
        assert_eq!(first.len(), LARGE);
        drop(first);
        assert_eq!(spool.making.available_permits(), 1);
    }
}
