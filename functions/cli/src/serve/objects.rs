//! The local store over HTTP: `GET` and `HEAD /-/objects/PATH` for clients and builders, `PUT` with a grant for builders. On AWS this
//! is S3.

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    extract::{DefaultBodyLimit, Request, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, put},
};
use binplz_core::{
    answer::{
        asked::{Asked, Format},
        problem::Problem,
        reply::Body as Text,
    },
    flow::{integrity, request::denial::Denial},
    id::key::Bin,
    objects::{
        artifact::{ObjectName, ObjectPath, programs_at},
        stored::{Integrity, attachment},
    },
    ports::{Deployment, HasStore},
    telemetry::About,
};
use binplz_local::{Local, UploadError};
use http_body_util::BodyExt;
use percent_encoding::percent_decode_str;
use tower::ServiceExt;
use tower_http::services::ServeFile;

const PREFIX: &str = "/-/objects/";

/// The routes for clients.
pub(crate) fn downloads(local: Arc<Local>) -> Router {
    Router::new().route("/-/objects/{*path}", get(read)).with_state(local)
}

/// The routes for builders: uploads, databases of programs, and the checkpoint of an earlier attempt.
pub(crate) fn uploads(local: Arc<Local>) -> Router {
    // An upload's size is part of its grant.
    Router::new()
        .route("/-/objects/{*path}", put(write).get(read_for_builders))
        .layer(DefaultBodyLimit::disable())
        .with_state(local)
}

fn parse(path: &str) -> Option<ObjectPath> {
    percent_decode_str(path.strip_prefix(PREFIX)?).decode_utf8().ok()?.parse().ok()
}

/// The object of a URL for clients. One that is named by its content has one more component: the name under which clients
/// save it.
fn parse_named(path: &str) -> Option<(ObjectPath, Option<Bin>)> {
    if let Some(object) = parse(path) {
        return Some((object, None));
    }
    let (path, name) = path.rsplit_once('/')?;
    let object = parse(path).filter(|object| matches!(object.name, ObjectName::Blob(_) | ObjectName::Program(_)))?;
    Some((object, Some(percent_decode_str(name).decode_utf8().ok()?.parse().ok()?)))
}

async fn read(State(d): State<Arc<Local>>, request: Request) -> Response {
    // An offer to the cache has not been verified yet.
    let Some((path, name)) = parse_named(request.uri().path()).filter(|(path, _)| !path.name.is_offer()) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    if !d.store().is_checked(&path) {
        match integrity::check(&*d, &path).await {
            Ok(Integrity::Intact) => {}
            Ok(_) => return told(&d, Problem::not_whole()),
            Err(error) => {
                d.warn(About::Build(&path.key), "an object was not looked at", &error);
                return told(&d, Problem::from(&Denial::Unavailable(error)));
            }
        }
    }
    let mime = path.name.media_type().parse().unwrap_or(mime::APPLICATION_OCTET_STREAM);
    let served = ServeFile::new_with_mime(d.store().file(&path), &mime).oneshot(request).await;
    let mut response = served.unwrap_or_else(|never| match never {}).map(Body::new);
    if response.status().is_success() {
        // An object never changes under its name.
        let forever = HeaderValue::from_static("public, max-age=31536000, immutable");
        response.headers_mut().insert(header::CACHE_CONTROL, forever);
        response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if let Some(saved) = name.and_then(|name| HeaderValue::from_str(&attachment(&name)).ok()) {
            response.headers_mut().insert(header::CONTENT_DISPOSITION, saved);
        }
    }
    response
}

async fn read_for_builders(State(d): State<Arc<Local>>, request: Request) -> Response {
    let Some(sha256) = request.uri().path().strip_prefix(PREFIX).and_then(programs_at) else {
        return read(State(d), request).await;
    };
    // The builder compares its content.
    let served = ServeFile::new(d.store().programs_file(&sha256)).oneshot(request).await;
    served.unwrap_or_else(|never| match never {}).map(Body::new)
}

/// The answer in the place of an object that is missing or damaged: one that a client which saves it can run.
fn told(d: &Local, problem: Problem) -> Response {
    let asked = Asked { origin: d.origin(), target: None, format: Format::Shell, retry: false };
    let answer = problem.answer(&asked);
    let body = match answer.body {
        Text::Text(text) => text,
        _ => String::new(),
    };
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    (status, [(header::RETRY_AFTER, "60"), (header::CACHE_CONTROL, "no-store")], body).into_response()
}

async fn write(State(d): State<Arc<Local>>, request: Request) -> Response {
    let Some(path) = parse(request.uri().path()) else { return StatusCode::NOT_FOUND.into_response() };
    let query = request.uri().query().unwrap_or("").to_owned();
    let written = receive(&d, &path, &query, request.into_body()).await;
    match written {
        Ok(()) => StatusCode::OK.into_response(),
        Err(refused) => {
            let status = match &refused {
                UploadError::Forged | UploadError::Expired => StatusCode::FORBIDDEN,
                UploadError::Size | UploadError::Content => StatusCode::BAD_REQUEST,
                UploadError::Taken => StatusCode::CONFLICT,
                UploadError::Unavailable(error) => {
                    d.warn(About::Attempt(&path.key, &path.lease), "an upload was not stored", error);
                    StatusCode::SERVICE_UNAVAILABLE
                }
            };
            (status, format!("{refused}\n")).into_response()
        }
    }
}

async fn receive(d: &Local, path: &ObjectPath, query: &str, mut body: Body) -> Result<(), UploadError> {
    let mut receiver = d.store().receive(path, query, d.now()).await?;
    while let Some(frame) = body.frame().await {
        // A body that breaks off is shorter than was announced.
        if let Ok(chunk) = frame.map_err(|_| UploadError::Size)?.into_data() {
            receiver.write(chunk).await?;
        }
    }
    receiver.finish().await
}
