//! The HTTP interface of a [deployment](binplz_core::ports::Deployment). It reads requests, runs flows, and writes answers. It makes
//! no decisions.
//!
//! ```text
//! /                   home page           /-/lease/KEY/LEASE/…  the builders' endpoint
//! /NAME  /ATTR/BIN    a program           /-/build/TARGET       POST: start the build
//! /-/status/TARGET    the build's state   /-/log/TARGET         its log
//! /-/wait/N/TARGET    waits for it        /-/install/TARGET     the installer
//! /-/search?q=TEXT    search              /-/p/ATTR             a package
//! /-/builds           running, queued, ready and failed builds
//! /-/health           the service's state
//! /-/stub/SHA256      the stub's second part
//! /-/trust            how to check a download
//! /-/keys             the public keys     /-/sig/TARGET         its signature
//! /-/tlog/checkpoint  /-/tlog/tile/…      the transparency log
//! /-/proof/TARGET     the proof that the log has it
//! /-/provenance/TARGET  who has built it, how, and from what: signed
//! /-/sbom/TARGET      what is in it         /-/source/TARGET    its licence and sources
//! /-/openapi.json  /robots.txt  /favicon.ico  /-/assets/FILE
//! ```

use std::{future::ready, sync::Arc};

use axum::{
    Router,
    extract::Request,
    middleware::{Next, from_fn, map_request},
    routing::{get, post},
};
use binplz_core::{
    answer::problem::Problem,
    ports::{Deployment, HasBell, HasCatalogues, HasLedger, HasStore, HasWaitLimiter, Intake},
};

mod assets;
mod host;
mod lease;
mod pages;
mod panics;
mod request_id;
mod respond;
mod target;
mod trust;
mod viewer;

pub use host::Hosts;
pub use request_id::RequestId;
pub use viewer::{Network, NotANetwork};

/// The routes of waiting clients only.
pub fn waits<D: HasLedger + HasCatalogues + HasWaitLimiter>(deployment: Arc<D>) -> Router {
    Router::new().route("/-/wait/{*hop}", get(target::hop::<D>)).with_state(deployment)
}

/// The routes for clients, without the builders' endpoint and without waiting.
pub fn site<D: HasLedger + HasStore + HasBell + HasCatalogues + HasWaitLimiter>(deployment: Arc<D>) -> Router {
    Router::new()
        .route("/", get(pages::home::<D>))
        .route("/-/search", get(pages::search::<D>))
        .route("/-/p/{*attr}", get(pages::package::<D>))
        .route("/-/builds", get(pages::builds::<D>))
        .route("/-/health", get(pages::health::<D>))
        .route("/-/openapi.json", get(pages::openapi))
        .route("/-/assets/{file}", get(pages::asset::<D>))
        .route("/robots.txt", get(pages::robots))
        .route("/favicon.ico", get(pages::favicon))
        .route("/-/status/{*target}", get(target::status::<D>))
        .route("/-/log/{*target}", get(target::log::<D>))
        .route("/-/build/{*target}", post(target::build::<D>))
        .route("/-/install/{*target}", get(target::install::<D>))
        .route("/-/stub/{sum}", get(target::stub::<D>))
        .route("/-/trust", get(trust::page::<D>))
        .route("/-/keys", get(trust::keys::<D>))
        .route("/-/sig/{*target}", get(trust::signature::<D>))
        .route("/-/proof/{*target}", get(trust::proof::<D>))
        .route("/-/provenance/{*target}", get(trust::provenance::<D>))
        .route("/-/sbom/{*target}", get(trust::sbom::<D>))
        .route("/-/source/{*target}", get(trust::source::<D>))
        .route("/-/tlog/checkpoint", get(trust::checkpoint::<D>))
        .route("/-/tlog/witnessed", get(trust::witnessed::<D>))
        .route("/-/tlog/tile/{*name}", get(trust::tile::<D>))
        .method_not_allowed_fallback(target::method_not_allowed::<D>)
        .fallback(target::binary::<D>)
        .with_state(deployment)
}

/// The builders' endpoint only.
pub fn leases<D: HasLedger + HasStore<Store: Intake> + HasBell>(deployment: Arc<D>) -> Router {
    Router::new()
        .route("/-/lease/{rev}/{system}/{attr}/{lease}", get(lease::job::<D>))
        .route("/-/lease/{rev}/{system}/{attr}/{lease}/pulse", post(lease::heartbeat::<D>))
        .route("/-/lease/{rev}/{system}/{attr}/{lease}/derivation", post(lease::derivation::<D>))
        .route("/-/lease/{rev}/{system}/{attr}/{lease}/dependencies", post(lease::dependencies::<D>))
        .route("/-/lease/{rev}/{system}/{attr}/{lease}/built", post(lease::built::<D>))
        .route("/-/lease/{rev}/{system}/{attr}/{lease}/measured", post(lease::measured::<D>))
        .route("/-/lease/{rev}/{system}/{attr}/{lease}/checkpoint", post(lease::checkpoint::<D>))
        .route("/-/lease/{rev}/{system}/{attr}/{lease}/uploads", post(lease::uploads::<D>))
        .route("/-/lease/{rev}/{system}/{attr}/{lease}/settle", post(lease::settle::<D>))
        .with_state(deployment)
}

/// A service behind a CDN. The CDN proves with `secret` that a request comes from it, and names the viewer. Without a secret,
/// the service trusts no header.
pub fn behind_cdn(router: Router, secret: Option<&str>) -> Router {
    let secret = secret.map(Arc::<str>::from);
    let believe = move |request: Request| ready(viewer::believe(secret.as_deref(), request));
    router.layer(map_request(believe))
}

/// A service behind proxies, each of which appends the address of its peer to `X-Forwarded-For`.
pub fn behind_proxies(router: Router, proxies: Arc<[Network]>) -> Router {
    router.layer(map_request(move |request: Request| ready(viewer::behind(&proxies, request))))
}

/// A service that answers only requests for its own hosts.
pub fn only_for<D: Deployment>(hosts: Hosts, router: Router, deployment: Arc<D>) -> Router {
    let check = move |request: Request, next: Next| {
        let answer = match hosts.include(&request) {
            true => Ok(next.run(request)),
            false => Err(target::refusal(&*deployment, request.uri(), Problem::host(), request.headers())),
        };
        async move {
            match answer {
                Ok(answer) => answer.await,
                Err(refusal) => refusal,
            }
        }
    };
    router.layer(from_fn(check))
}

/// A service that answers 500 if a handler panics, and logs the panic. The answer has the id of [`with_request_ids`], if that is
/// an outer layer.
pub fn catch_panics<D: Deployment>(router: Router, deployment: Arc<D>) -> Router {
    router.layer(from_fn(move |request: Request, next: Next| {
        let deployment = Arc::clone(&deployment);
        async move { panics::catch(&*deployment, request, next).await }
    }))
}

/// Adds an `X-Request-Id` to every answer of a service. It is the outermost layer.
pub fn with_request_ids(router: Router) -> Router {
    router.layer(from_fn(request_id::add))
}
