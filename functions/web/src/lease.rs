//! The builders' endpoint (`binplz_core::protocol`).

use std::sync::Arc;

use axum::{
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, header},
    response::Response,
};
use binplz_core::{
    flow::{
        lease::{self, Bearer, Denied},
        settle as settling,
    },
    key::BuildKey,
    ports::Deployment,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;

use crate::respond::plain;

type Names = Path<(String, String, String, String)>;

/// `GET …`: what to build.
pub(crate) async fn job<D: Deployment>(State(d): State<Arc<D>>, names: Names, headers: HeaderMap) -> Response {
    finish(&*d, async { lease::job(&*d, &bearer(&names, &headers)?).await }.await)
}

/// `POST …/pulse`: the builder is alive.
pub(crate) async fn pulse<D: Deployment>(
    State(d): State<Arc<D>>,
    names: Names,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    finish(&*d, async { lease::pulse(&*d, &bearer(&names, &headers)?, &read(&body)?).await }.await)
}

/// `POST …/uploads`: permission to store objects.
pub(crate) async fn uploads<D: Deployment>(
    State(d): State<Arc<D>>,
    names: Names,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let grants = async {
        let uploads: Vec<_> = read(&body)?;
        lease::uploads(&*d, &bearer(&names, &headers)?, &uploads).await
    };
    finish(&*d, grants.await)
}

/// `POST …/settle`: the build is over.
pub(crate) async fn settle<D: Deployment>(
    State(d): State<Arc<D>>,
    names: Names,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let settled = async {
        settling::settle(&*d, &bearer(&names, &headers)?, read(&body)?).await?;
        Ok(json!({}))
    };
    finish(&*d, settled.await)
}

fn bearer(Path((rev, system, attr, lease)): &Names, headers: &HeaderMap) -> Result<Bearer, Denied> {
    let token = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = token.and_then(|value| value.strip_prefix("Bearer ")).ok_or(Denied::Token)?;
    let wrong = |_| Denied::Nonsense("the URL names no lease");
    Ok(Bearer {
        key: format!("{rev}/{system}/{attr}").parse::<BuildKey>().map_err(wrong)?,
        lease: lease.parse().map_err(wrong)?,
        token: token.parse().map_err(|_| Denied::Token)?,
    })
}

fn read<T: DeserializeOwned>(body: &Bytes) -> Result<T, Denied> {
    serde_json::from_slice(body).map_err(|_| Denied::Nonsense("the body is not what it should be"))
}

fn finish<D: Deployment>(d: &D, result: Result<impl Serialize, Denied>) -> Response {
    let (status, body) = match result {
        Ok(value) => (200, json!(value)),
        Err(Denied::Token) => (401, json!({ "error": "not the lease's token" })),
        Err(Denied::NotLive) => (409, json!({ "error": "the lease is not live" })),
        Err(Denied::Forbidden(what)) => (403, json!({ "error": what })),
        Err(Denied::Nonsense(what)) => (400, json!({ "error": what })),
        Err(Denied::Unavailable(error)) => {
            d.note("a builder was not answered", &error);
            (503, json!({ "error": "try again" }))
        }
    };
    plain(status, "application/json", body.to_string())
}
