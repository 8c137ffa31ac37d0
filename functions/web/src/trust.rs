//! The routes by which clients check what they get: keys, signatures, proofs, and the transparency log.

use std::sync::Arc;

use askama::Template;
use axum::{
    extract::{Path, State},
    http::{HeaderMap, HeaderValue, Uri, header},
    response::{IntoResponse, Response},
};
use binplz_core::{
    answer::{asked::Format, problem::Problem, source::SourceText},
    flow::{
        request::{
            outcome::RequestOutcome,
            program,
            trust::{self, Entry},
        },
        tlog,
    },
    nixpkgs::served::Served,
    objects::{artifact::ObjectName, materials::Materials, stored},
    ports::{Deployment, HasBell, HasCatalogues, HasLedger, HasStore, Unavailable},
    trust::{
        head::{Cosignature, LogHead},
        provenance::{self, Level},
        tile::TileName,
    },
};

use serde::Serialize;

use crate::{
    pages::show,
    respond::{self, TEXT, for_ever, of_now, plain},
    target::{asked_for, denied, parse, problem},
};

/// The page that explains how to check a download.
#[derive(Serialize)]
struct Trust<'a> {
    origin: &'a str,
    /// All keys, one a line; empty: the service does not sign.
    keys: String,
    /// The key that signs now, for `minisign -P`.
    minisign: String,
    /// The last cosignatures of the log.
    witnesses: Vec<Cosignature>,
    /// SLSA's build level.
    level: String,
}

impl Trust<'_> {
    fn by_minisign(&self) -> String {
        let Trust { origin, minisign, .. } = self;
        format!("curl -fsS {origin}/-/sig/tree -o tree.minisig && minisign -Vm tree -P {minisign}")
    }

    fn by_proof(&self) -> String {
        let origin = self.origin;
        format!(
            "curl -fsS {origin}/-/keys -o keys && curl -fsS {origin}/-/proof/tree -o tree.proof && \
             binplz verify tree --proof tree.proof --keys keys --as tree"
        )
    }

    fn by_documents(&self) -> String {
        let origin = self.origin;
        format!(
            "curl -fsS {origin}/-/provenance/tree -o provenance && curl -fsS {origin}/-/sbom/tree -o sbom && \
             curl -fsS {origin}/-/source/tree"
        )
    }

    fn by_installer(&self) -> String {
        let Trust { origin, minisign, .. } = self;
        format!("curl -fsSL {origin}/-/install/tree | sh -s -- --require-signature {minisign}")
    }

    fn by_building(&self) -> String {
        format!("binplz reproduce {} tree", self.origin)
    }

    fn by_audit(&self) -> String {
        format!("binplz audit {}", self.origin)
    }
}

#[derive(Template)]
#[template(path = "trust.html")]
struct TrustPage<'a> {
    trust: &'a Trust<'a>,
}

#[derive(Template)]
#[template(path = "trust.txt", escape = "none")]
struct TrustText<'a> {
    trust: &'a Trust<'a>,
}

/// `GET /-/trust`: how to check a download, and what that does not show.
pub(crate) async fn page<D: HasLedger>(State(d): State<Arc<D>>, headers: HeaderMap) -> Result<Response, Refusal> {
    let format = respond::format(&headers);
    let head = found(&*d, &headers, tlog::head(&*d).await.map(Some), Problem::not_signed)?;
    let keyring = head.as_ref().map(LogHead::keyring).unwrap_or_default();
    let minisign = keyring.artifacts.last().map_or(String::new(), |last| last.key.to_string());
    let trust = Trust {
        origin: d.origin(),
        keys: keyring.to_string(),
        minisign,
        witnesses: head.as_ref().map(LogHead::cosignatures).unwrap_or_default(),
        level: Level::of(d.policy()).to_string(),
    };
    Ok(show(format, &trust, &TrustPage { trust: &trust }, &TrustText { trust: &trust }))
}

/// `GET /-/keys`: the public keys, one a line, and when each signs.
pub(crate) async fn keys<D: HasLedger>(State(d): State<Arc<D>>, headers: HeaderMap) -> Result<Response, Refusal> {
    let keys = found(&*d, &headers, trust::keys(&*d).await, Problem::not_signed)?;
    let (media_type, text) = match respond::format(&headers) == Format::Json {
        true => ("application/json", keys.json()),
        false => (TEXT, keys.to_string()),
    };
    Ok(of_now(plain(200, media_type, text)))
}

/// `GET /-/tlog/checkpoint`: the signed head of the log.
pub(crate) async fn checkpoint<D: HasLedger>(State(d): State<Arc<D>>, headers: HeaderMap) -> Result<Response, Refusal> {
    let checkpoint = tlog::head(&*d).await.map(|head| head?.checkpoint().map(str::to_owned));
    let checkpoint = found(&*d, &headers, checkpoint, Problem::not_signed)?;
    Ok(of_now(plain(200, TEXT, checkpoint)))
}

/// `GET /-/tlog/witnessed`: the last checkpoint that witnesses have cosigned.
pub(crate) async fn witnessed<D: HasLedger>(State(d): State<Arc<D>>, headers: HeaderMap) -> Result<Response, Refusal> {
    let witnessed = tlog::head(&*d).await.map(|head| head?.witnessed);
    let tree = found(&*d, &headers, witnessed, Problem::not_witnessed)?;
    Ok(of_now(plain(200, TEXT, tree.checkpoint)))
}

/// `GET /-/tlog/tile/…`: a tile of hashes, or a bundle of entries.
pub(crate) async fn tile<D: HasLedger + HasStore>(
    State(d): State<Arc<D>>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let object = match format!("tile/{name}").parse::<TileName>() {
        Ok(name) => trust::object(&*d, &name).await,
        Err(_) => Ok(None),
    };
    let bytes = found(&*d, &headers, object, Problem::no_such_page)?;
    Ok(for_ever(plain(200, "application/octet-stream", bytes)))
}

/// `GET /-/sig/TARGET`: the artifact's signature, for minisign.
pub(crate) async fn signature<D: HasLedger + HasStore + HasBell + HasCatalogues>(
    State(d): State<Arc<D>>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let entry = entry(&*d, &uri, "/-/sig/", &headers).await?;
    Ok(of_now(plain(200, TEXT, entry.text)))
}

/// `GET /-/proof/TARGET`: the artifact's entry, and the proof that the log has it.
pub(crate) async fn proof<D: HasLedger + HasStore + HasBell + HasCatalogues>(
    State(d): State<Arc<D>>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let entry = entry(&*d, &uri, "/-/proof/", &headers).await?;
    let proof = found(&*d, &headers, trust::proof(&*d, entry).await.map(Some), Problem::not_signed)?;
    Ok(of_now(plain(200, TEXT, proof.to_string())))
}

/// `GET /-/provenance/TARGET`: who has built it, and from what: in-toto's statement with SLSA's provenance, signed.
pub(crate) async fn provenance<D: HasLedger + HasStore + HasBell + HasCatalogues>(
    State(d): State<Arc<D>>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let entry = entry(&*d, &uri, "/-/provenance/", &headers).await?;
    let envelope = found(&*d, &headers, trust::provenance(&*d, &entry).await, Problem::not_documented)?;
    Ok(of_now(plain(200, provenance::MEDIA_TYPE, envelope)))
}

/// `GET /-/sbom/TARGET`: what is in it, as CycloneDX.
pub(crate) async fn sbom<D: HasLedger + HasStore + HasBell + HasCatalogues>(
    State(d): State<Arc<D>>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let (served, sbom) = document(&*d, &uri, "/-/sbom/", &headers, ObjectName::Sbom).await?;
    Ok(described(of_now(plain(200, ObjectName::Sbom.media_type(), sbom)), &served))
}

/// `GET /-/source/TARGET`: its licence and sources.
pub(crate) async fn source<D: HasLedger + HasStore + HasBell + HasCatalogues>(
    State(d): State<Arc<D>>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let (served, json) = document(&*d, &uri, "/-/source/", &headers, ObjectName::Materials).await?;
    if respond::format(&headers) == Format::Json {
        return Ok(described(of_now(plain(200, ObjectName::Materials.media_type(), json)), &served));
    }
    // They were cleaned before they were stored.
    let materials = serde_json::from_slice::<Materials>(&json).map(Some);
    let materials = materials.map_err(|error| Unavailable::new("materials", error));
    let text = SourceText(&found(&*d, &headers, materials, Problem::not_documented)?).to_string();
    Ok(described(of_now(plain(200, TEXT, text)), &served))
}

/// A document with a link to the provenance.
fn described(mut document: Response, served: &Served) -> Response {
    let link = format!("</-/provenance/{}>; rel=\"describedby\"", served.asked);
    if let Ok(link) = HeaderValue::try_from(link) {
        document.headers_mut().insert(header::LINK, link);
    }
    document
}

/// A document on what the target's redirect leads to now, and that.
async fn document<D: HasLedger + HasStore + HasBell + HasCatalogues>(
    d: &D,
    uri: &Uri,
    prefix: &str,
    headers: &HeaderMap,
    name: ObjectName,
) -> Result<(Served, Vec<u8>), Refusal> {
    let served = served(d, uri, prefix, headers).await?;
    let document = found(d, headers, trust::document(d, &served, name).await, Problem::not_documented)?;
    Ok((served, document))
}

/// The entry of what the target's redirect leads to now.
async fn entry<D: HasLedger + HasStore + HasBell + HasCatalogues>(
    d: &D,
    uri: &Uri,
    prefix: &str,
    headers: &HeaderMap,
) -> Result<Entry, Refusal> {
    let served = served(d, uri, prefix, headers).await?;
    found(d, headers, trust::entry(d, &served).await, Problem::not_signed)
}

/// What the target's redirect leads to now. This starts no build.
async fn served<D: HasLedger + HasStore + HasBell + HasCatalogues>(
    d: &D,
    uri: &Uri,
    prefix: &str,
    headers: &HeaderMap,
) -> Result<Served, Refusal> {
    let format = respond::format(headers);
    let refused = |wrong| Refusal(Box::new(problem(d, wrong, format)));
    let target = parse(d, uri, prefix, uri.query()).map_err(refused)?;
    let asked = asked_for(d, Some(&target), format);
    match program::request(d, &target, stored::Method::Head, None).await {
        RequestOutcome::Hit { served, .. } => Ok(served),
        // A stub would be saved as a signature.
        RequestOutcome::Pending(_) | RequestOutcome::Unbuilt { .. } => Err(refused(Problem::not_built())),
        RequestOutcome::Denied(denial) => Err(Refusal(Box::new(denied(d, denial, &asked)))),
    }
}

/// The answer in place of what was asked for.
pub(crate) struct Refusal(Box<Response>);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        *self.0
    }
}

/// What a flow has found, or the answer if it found nothing or failed.
fn found<D: Deployment, T>(
    d: &D,
    headers: &HeaderMap,
    found: Result<Option<T>, Unavailable>,
    absent: fn() -> Problem,
) -> Result<T, Refusal> {
    let format = respond::format(headers);
    let refused = match found {
        Ok(Some(found)) => return Ok(found),
        Ok(None) => problem(d, absent(), format),
        Err(error) => denied(d, error.into(), &asked_for(d, None, format)),
    };
    Err(Refusal(Box::new(refused)))
}
