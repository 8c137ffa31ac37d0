//! The builders' endpoint (`binplz_core::build::protocol`).

use std::sync::Arc;

use axum::{
    body::Bytes,
    extract::{FromRequest, Path, Request, State},
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use binplz_core::{
    flow::lease::{
        built, checkpoint as checkpoints, claim, dependencies as dependency,
        job::{self, Bearer, Denied},
        learned, settle as settling,
    },
    id::key::BuildKey,
    ports::{Deployment, HasBell, HasLedger, HasStore, Intake},
    telemetry::About,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;

use crate::respond::plain;

/// A builder's request: its lease, token and body.
pub(crate) struct Word {
    bearer: Bearer,
    said: Bytes,
}

impl<S: Send + Sync> FromRequest<S> for Word {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Word, Response> {
        let (mut parts, body) = request.into_parts();
        let names = axum::RequestPartsExt::extract::<Names>(&mut parts).await.map_err(IntoResponse::into_response)?;
        let bearer = bearer(names, &parts.headers).map_err(|denied| refusal(&denied))?;
        let said = Bytes::from_request(Request::from_parts(parts, body), state).await;
        Ok(Word { bearer, said: said.map_err(IntoResponse::into_response)? })
    }
}

type Names = Path<(String, String, String, String)>;

fn bearer(Path((rev, system, attr, lease)): Names, headers: &HeaderMap) -> Result<Bearer, Denied> {
    let token = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = token.and_then(|value| value.strip_prefix("Bearer ")).ok_or(Denied::Token)?;
    let wrong = |_| Denied::Nonsense("the URL is not of a lease");
    Ok(Bearer {
        key: format!("{rev}/{system}/{attr}").parse::<BuildKey>().map_err(wrong)?,
        lease: lease.parse().map_err(wrong)?,
        token: token.parse().map_err(|_| Denied::Token)?,
    })
}

impl Word {
    fn read<T: DeserializeOwned>(&self) -> Result<T, Denied> {
        serde_json::from_slice(&self.said).map_err(|_| Denied::Nonsense("the body is malformed"))
    }

    fn answer<D: Deployment>(&self, d: &D, result: Result<impl Serialize, Denied>) -> Response {
        match result {
            Ok(value) => json_of(200, &json!(value)),
            Err(denied) => {
                if let Denied::Unavailable(error) = &denied {
                    d.warn(About::Attempt(&self.bearer.key, &self.bearer.lease), "a builder was not answered", error);
                }
                refusal(&denied)
            }
        }
    }
}

fn refusal(denied: &Denied) -> Response {
    let (status, error) = match denied {
        Denied::Token => (401, "not the lease's token"),
        Denied::NotLive => (409, "the lease is not live"),
        Denied::Forbidden(what) => (403, *what),
        Denied::Nonsense(what) => (400, *what),
        Denied::Unavailable(_) => (503, "try again"),
    };
    json_of(status, &json!({ "error": error }))
}

fn json_of(status: u16, body: &serde_json::Value) -> Response {
    plain(status, "application/json", body.to_string())
}

/// `GET …`: the job.
pub(crate) async fn job<D: HasLedger + HasStore<Store: Intake>>(State(d): State<Arc<D>>, word: Word) -> Response {
    word.answer(&*d, job::job(&*d, &word.bearer).await)
}

/// `POST …/pulse`: the builder is alive.
pub(crate) async fn heartbeat<D: HasLedger>(State(d): State<Arc<D>>, word: Word) -> Response {
    word.answer(&*d, async { job::heartbeat(&*d, &word.bearer, &word.read()?).await }.await)
}

/// `POST …/derivation`: claims the derivation.
pub(crate) async fn derivation<D: HasLedger + HasStore<Store: Intake> + HasBell>(
    State(d): State<Arc<D>>,
    word: Word,
) -> Response {
    word.answer(&*d, async { claim::claim(&*d, &word.bearer, word.read()?).await }.await)
}

/// `POST …/dependencies`: which dependencies it may build.
pub(crate) async fn dependencies<D: HasLedger + HasStore<Store: Intake> + HasBell>(
    State(d): State<Arc<D>>,
    word: Word,
) -> Response {
    word.answer(&*d, async { dependency::dependencies(&*d, &word.bearer, word.read()?).await }.await)
}

/// `POST …/built`: the manifests of built packages, for a catalogue.
pub(crate) async fn built<D: HasLedger + HasStore>(State(d): State<Arc<D>>, word: Word) -> Response {
    word.answer(&*d, async { built::built(&*d, &word.bearer, word.read()?).await }.await)
}

/// `POST …/measured`: how long derivations took.
pub(crate) async fn measured<D: HasLedger>(State(d): State<Arc<D>>, word: Word) -> Response {
    let recorded = async { learned::measured(&*d, &word.bearer, word.read()?).await.map(|()| json!({})) };
    word.answer(&*d, recorded.await)
}

/// `POST …/checkpoint`: parts of a catalogue are stored.
pub(crate) async fn checkpoint<D: HasLedger + HasStore<Store: Intake>>(
    State(d): State<Arc<D>>,
    word: Word,
) -> Response {
    let stored = async { checkpoints::checkpoint(&*d, &word.bearer, word.read()?).await.map(|()| json!({})) };
    word.answer(&*d, stored.await)
}

/// `POST …/uploads`: presigned upload URLs.
pub(crate) async fn uploads<D: HasLedger + HasStore<Store: Intake>>(State(d): State<Arc<D>>, word: Word) -> Response {
    word.answer(&*d, async { job::uploads(&*d, &word.bearer, &word.read::<Vec<_>>()?).await }.await)
}

/// `POST …/settle`: the build is over.
pub(crate) async fn settle<D: HasLedger + HasStore<Store: Intake> + HasBell>(
    State(d): State<Arc<D>>,
    word: Word,
) -> Response {
    let settled = async { settling::settle(&*d, &word.bearer, word.read()?).await.map(|()| json!({})) };
    word.answer(&*d, settled.await)
}
