//! Lambda's runtime API, as the service documents it, for one function at a time.

use std::{
    net::SocketAddr,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use http_body_util::{BodyExt, Full};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
};

use crate::Fallible;

const INVOCATION: &str = "/2018-06-01/runtime/invocation/";
const INIT_ERROR: &str = "/2018-06-01/runtime/init/error";

/// What a function has said, and when it arrived.
pub enum Said {
    /// It is ready for an event.
    Next(Instant, oneshot::Sender<Bytes>),
    /// Its answer.
    Answer(Instant, Bytes),
    /// It could not start, or not answer.
    Failed(Bytes),
}

/// The API, listening.
pub struct Runtime {
    /// `AWS_LAMBDA_RUNTIME_API`.
    pub address: SocketAddr,
    /// What is said to it.
    pub said: mpsc::UnboundedReceiver<Said>,
}

impl Runtime {
    /// Listens on a free port.
    pub async fn start() -> Fallible<Runtime> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (tell, said) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // As Lambda's own endpoint: no answer waits for more to send.
                let _ = stream.set_nodelay(true);
                let tell = tell.clone();
                let service = service_fn(move |request| answer(tell.clone(), request));
                // A function that is killed leaves its connection as it is.
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        Ok(Runtime { address, said })
    }
}

async fn answer(tell: mpsc::UnboundedSender<Said>, request: Request<Incoming>) -> Fallible<Response<Full<Bytes>>> {
    let (head, body) = request.into_parts();
    let path = head.uri.path();
    if head.method == Method::GET && path.strip_prefix(INVOCATION) == Some("next") {
        let (give, event) = oneshot::channel();
        tell.send(Said::Next(Instant::now(), give))?;
        return Ok(with_context(event.await?)?);
    }
    let body = body.collect().await?.to_bytes();
    let said = match path.strip_prefix(INVOCATION).and_then(|rest| rest.split_once('/')) {
        Some((_, "response")) => Said::Answer(Instant::now(), body),
        Some((_, "error")) => Said::Failed(body),
        _ if path == INIT_ERROR => Said::Failed(body),
        _ => return Ok(Response::builder().status(StatusCode::NOT_FOUND).body(Full::default())?),
    };
    tell.send(said)?;
    Ok(Response::builder().status(StatusCode::ACCEPTED).body(Full::from(r#"{"status":"OK"}"#))?)
}

/// An event, with the headers that Lambda sends beside it.
fn with_context(event: Bytes) -> Result<Response<Full<Bytes>>, hyper::http::Error> {
    let deadline = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() + Duration::from_secs(28);
    Response::builder()
        .header("content-type", "application/json")
        .header("lambda-runtime-aws-request-id", "8476a536-e9f4-11e8-9739-2dfe598c3fcd")
        .header("lambda-runtime-deadline-ms", deadline.as_millis().to_string())
        .header("lambda-runtime-invoked-function-arn", "arn:aws:lambda:us-east-1:123456789012:function:binplz-api")
        .header("lambda-runtime-trace-id", "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=0")
        .body(Full::from(event))
}
