//! The routes by which clients check what they get: keys, signatures, proofs, and the transparency log.

use std::sync::Arc;

use askama::Template;
use axum::{
    extract::{Path, State},
    http::{HeaderMap, HeaderValue, Uri, header},
    response::Response,
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
            "curl -fsS {origin}/-/provenance/tree && curl -fsS {origin}/-/sbom/tree && curl -fsS {origin}/-/source/tree"
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
pub(crate) async fn page<D: HasLedger>(State(d): State<Arc<D>>, headers: HeaderMap) -> Response {
    let format = respond::format(&headers);
    let keyring = match trust::keys(&*d).await {
        Ok(keyring) => keyring.unwrap_or_default(),
        Err(error) => return failed(&*d, error, format),
    };
    let minisign = keyring.artifacts.last().map_or(String::new(), |last| last.key.to_string());
    let trust =
        Trust { origin: d.origin(), keys: keyring.to_string(), minisign, level: Level::of(d.policy()).to_string() };
    show(format, &trust, &TrustPage { trust: &trust }, &TrustText { trust: &trust })
}

/// `GET /-/keys`: the public keys, one a line, and when each signs.
pub(crate) async fn keys<D: HasLedger>(State(d): State<Arc<D>>, headers: HeaderMap) -> Response {
    let format = respond::format(&headers);
    match trust::keys(&*d).await {
        Ok(Some(keys)) if format == Format::Json => of_now(plain(200, "application/json", keys.json())),
        Ok(Some(keys)) => of_now(plain(200, TEXT, keys.to_string())),
        Ok(None) => problem(&*d, Problem::not_signed(), format),
        Err(error) => failed(&*d, error, format),
    }
}

/// `GET /-/tlog/checkpoint`: the signed head of the log.
pub(crate) async fn checkpoint<D: HasLedger>(State(d): State<Arc<D>>, headers: HeaderMap) -> Response {
    let format = respond::format(&headers);
    match tlog::head(&*d).await {
        Ok(head) => match head.and_then(|head| head.published) {
            Some(tree) => of_now(plain(200, TEXT, tree.checkpoint)),
            None => problem(&*d, Problem::not_signed(), format),
        },
        Err(error) => failed(&*d, error, format),
    }
}

/// `GET /-/tlog/tile/…`: a tile of hashes, or a bundle of entries.
pub(crate) async fn tile<D: HasLedger + HasStore>(
    State(d): State<Arc<D>>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Response {
    let format = respond::format(&headers);
    let Ok(name) = format!("tile/{name}").parse::<TileName>() else {
        return problem(&*d, Problem::no_such_page(), format);
    };
    match trust::object(&*d, &name).await {
        Ok(Some(bytes)) => for_ever(plain(200, "application/octet-stream", bytes)),
        Ok(None) => problem(&*d, Problem::no_such_page(), format),
        Err(error) => failed(&*d, error, format),
    }
}

/// `GET /-/sig/TARGET`: the artifact's signature, for minisign.
pub(crate) async fn signature<D: HasLedger + HasStore + HasBell + HasCatalogues>(
    State(d): State<Arc<D>>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    match entry(&*d, &uri, "/-/sig/", &headers).await {
        Ok(entry) => of_now(plain(200, TEXT, entry.text)),
        Err(response) => *response,
    }
}

/// `GET /-/proof/TARGET`: the artifact's entry, and the proof that the log has it.
pub(crate) async fn proof<D: HasLedger + HasStore + HasBell + HasCatalogues>(
    State(d): State<Arc<D>>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    match entry(&*d, &uri, "/-/proof/", &headers).await {
        Ok(entry) => match trust::proof(&*d, entry).await {
            Ok(proof) => of_now(plain(200, TEXT, proof.to_string())),
            Err(error) => failed(&*d, error, respond::format(&headers)),
        },
        Err(response) => *response,
    }
}

/// `GET /-/provenance/TARGET`: who has built it, and from what: in-toto's statement with SLSA's provenance, signed.
pub(crate) async fn provenance<D: HasLedger + HasStore + HasBell + HasCatalogues>(
    State(d): State<Arc<D>>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let format = respond::format(&headers);
    match entry(&*d, &uri, "/-/provenance/", &headers).await {
        Ok(entry) => match trust::provenance(&*d, &entry).await {
            Ok(Some(envelope)) => of_now(plain(200, provenance::MEDIA_TYPE, envelope)),
            Ok(None) => problem(&*d, Problem::not_documented(), format),
            Err(error) => failed(&*d, error, format),
        },
        Err(response) => *response,
    }
}

/// `GET /-/sbom/TARGET`: what is in it, as CycloneDX.
pub(crate) async fn sbom<D: HasLedger + HasStore + HasBell + HasCatalogues>(
    State(d): State<Arc<D>>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    match document(&*d, &uri, "/-/sbom/", &headers, ObjectName::Sbom).await {
        Ok((served, sbom)) => described(of_now(plain(200, ObjectName::Sbom.media_type(), sbom)), &served),
        Err(response) => *response,
    }
}

/// `GET /-/source/TARGET`: its licence and sources.
pub(crate) async fn source<D: HasLedger + HasStore + HasBell + HasCatalogues>(
    State(d): State<Arc<D>>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let format = respond::format(&headers);
    let (served, json) = match document(&*d, &uri, "/-/source/", &headers, ObjectName::Materials).await {
        Ok(found) => found,
        Err(response) => return *response,
    };
    if format == Format::Json {
        return described(of_now(plain(200, ObjectName::Materials.media_type(), json)), &served);
    }
    match serde_json::from_slice::<Materials>(&json) {
        Ok(materials) => {
            let text = SourceText(&materials.cleaned()).to_string();
            described(of_now(plain(200, TEXT, text)), &served)
        }
        Err(error) => failed(&*d, Unavailable::new("materials", error), format),
    }
}

/// A document with a link to the provenance.
fn described(mut document: Response, served: &Served) -> Response {
    let link = format!("</-/provenance/{}>; rel=\"describedby\"", served.asked);
    if let Ok(link) = HeaderValue::try_from(link) {
        document.headers_mut().insert(header::LINK, link);
    }
    document
}

/// A document on what the target's redirect leads to now, and that, or the answer in its place.
async fn document<D: HasLedger + HasStore + HasBell + HasCatalogues>(
    d: &D,
    uri: &Uri,
    prefix: &str,
    headers: &HeaderMap,
    name: ObjectName,
) -> Result<(Served, Vec<u8>), Box<Response>> {
    let format = respond::format(headers);
    let served = served(d, uri, prefix, headers).await?;
    match trust::document(d, &served, name).await {
        Ok(Some(document)) => Ok((served, document)),
        Ok(None) => Err(Box::new(problem(d, Problem::not_documented(), format))),
        Err(error) => Err(Box::new(failed(d, error, format))),
    }
}

/// The entry of what the target's redirect leads to now, or the answer in its place.
async fn entry<D: HasLedger + HasStore + HasBell + HasCatalogues>(
    d: &D,
    uri: &Uri,
    prefix: &str,
    headers: &HeaderMap,
) -> Result<Entry, Box<Response>> {
    let format = respond::format(headers);
    let served = served(d, uri, prefix, headers).await?;
    match trust::entry(d, &served).await {
        Ok(Some(entry)) => Ok(entry),
        Ok(None) => Err(Box::new(problem(d, Problem::not_signed(), format))),
        Err(error) => Err(Box::new(failed(d, error, format))),
    }
}

/// What the target's redirect leads to now, or the answer in its place. This starts no build.
async fn served<D: HasLedger + HasStore + HasBell + HasCatalogues>(
    d: &D,
    uri: &Uri,
    prefix: &str,
    headers: &HeaderMap,
) -> Result<Served, Box<Response>> {
    let format = respond::format(headers);
    let target = parse(d, uri, prefix, uri.query()).map_err(|wrong| Box::new(problem(d, wrong, format)))?;
    let asked = asked_for(d, Some(&target), format);
    match program::request(d, &target, stored::Method::Head, None).await {
        RequestOutcome::Hit { served, .. } => Ok(served),
        // A stub would be saved as a signature.
        RequestOutcome::Pending(_) | RequestOutcome::Unbuilt { .. } => {
            Err(Box::new(problem(d, Problem::not_built(), format)))
        }
        RequestOutcome::Denied(denial) => Err(Box::new(denied(d, denial, &asked))),
    }
}

fn failed<D: Deployment>(d: &D, error: Unavailable, format: Format) -> Response {
    denied(d, error.into(), &asked_for(d, None, format))
}
