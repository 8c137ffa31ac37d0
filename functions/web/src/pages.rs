//! Pages: what there is, how it stands, and what is known of a package. Each is a page for browsers, JSON, and text for a terminal.

use std::sync::Arc;

use askama::Template;
use axum::{
    extract::{Path, State},
    http::{HeaderMap, StatusCode, Uri},
    response::Response,
};
use binplz_core::{
    VERSION,
    answer::{asked::Format, problem::Problem},
    flow::request::{
        builds::{self, Builds, Line},
        package::{self, Package, Program},
        search::{self, Results},
        service::{self, Service},
    },
    id::{
        shell,
        target::{Query, Search},
    },
    ports::{Deployment, HasCatalogues, HasLedger, HasStore},
    telemetry::About,
};
use serde::Serialize;

use crate::{
    assets,
    respond::{self, TEXT, of_now, plain},
    target::{asked_for, denied, problem},
};

/// What was built lately, on the home page.
const LATELY: usize = 6;
/// Programs of a package in the page's table: coreutils' would make a page of 30 kB.
const TABLE_MOST: usize = 24;

#[cfg(test)]
mod tests;

#[derive(Serialize)]
struct Home<'a> {
    origin: &'a str,
    command: String,
    ready: Vec<Line>,
}

#[derive(Template)]
#[template(path = "home.html")]
struct HomePage<'a> {
    home: &'a Home<'a>,
}

#[derive(Template)]
#[template(path = "home.txt")]
struct HomeText<'a> {
    home: &'a Home<'a>,
}

/// `/`. The page also works while backends are down.
pub(crate) async fn home<D: HasLedger>(State(d): State<Arc<D>>, headers: HeaderMap) -> Response {
    let format = respond::format(&headers);
    let ready = match format {
        // The text has no list.
        Format::Shell => Vec::new(),
        Format::Json | Format::Html => builds::lately(&*d, LATELY).await.unwrap_or_else(|error| {
            d.warn(About::Service, "the recently built programs are not shown", &error);
            Vec::new()
        }),
    };
    let tree = Query::parse("tree", None).map(|query| shell::fetch(d.origin(), &query.target, true));
    let home = Home { origin: d.origin(), command: tree.unwrap_or_default(), ready };
    show(format, &home, &HomePage { home: &home }, &HomeText { home: &home })
}

#[derive(Template)]
#[template(path = "search.html")]
struct SearchPage<'a> {
    results: &'a Results,
}

#[derive(Template)]
#[template(path = "search.txt", escape = "none")]
struct SearchText<'a> {
    origin: &'a str,
    results: &'a Results,
}

/// `/-/search?q=TEXT`.
pub(crate) async fn search<D: HasLedger + HasStore + HasCatalogues>(
    State(d): State<Arc<D>>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let format = respond::format(&headers);
    let asked = match Search::parse(uri.query()) {
        Ok(asked) => asked,
        Err(why) => return problem(&*d, Problem::bad_target(&why), format),
    };
    let results = match search::search(&*d, &asked).await {
        Ok(results) => results,
        Err(denial) => return denied(&*d, denial, &asked_for(&*d, None, format)),
    };
    let text = SearchText { origin: d.origin(), results: &results };
    show(format, &results, &SearchPage { results: &results }, &text)
}

#[derive(Template)]
#[template(path = "package.html")]
struct PackagePage<'a> {
    package: &'a Package,
    shown: &'a [Program],
    others: &'a [Program],
}

#[derive(Template)]
#[template(path = "package.txt", escape = "none")]
struct PackageText<'a> {
    package: &'a Package,
}

/// `/-/p/ATTR`.
pub(crate) async fn package<D: HasLedger + HasStore + HasCatalogues>(
    State(d): State<Arc<D>>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let format = respond::format(&headers);
    let path = uri.path().strip_prefix("/-/p/").unwrap_or("");
    let target = match Query::parse(path, uri.query()) {
        Ok(query) => query.target,
        Err(why) => return problem(&*d, Problem::bad_target(&why), format),
    };
    let package = match package::package(&*d, &target).await {
        Ok(package) => package,
        Err(denial) => return denied(&*d, denial, &asked_for(&*d, Some(&target), format)),
    };
    let (shown, others) = package.programs.split_at(package.programs.len().min(TABLE_MOST));
    let page = PackagePage { package: &package, shown, others };
    show(format, &package, &page, &PackageText { package: &package })
}

#[derive(Template)]
#[template(path = "builds.html")]
struct BuildsPage<'a> {
    builds: &'a Builds,
}

#[derive(Template)]
#[template(path = "builds.txt", escape = "none")]
struct BuildsText<'a> {
    builds: &'a Builds,
}

/// `/-/builds`.
pub(crate) async fn builds<D: HasLedger>(State(d): State<Arc<D>>, headers: HeaderMap) -> Response {
    let format = respond::format(&headers);
    let builds = match builds::builds(&*d).await {
        Ok(builds) => builds,
        Err(error) => return denied(&*d, error.into(), &asked_for(&*d, None, format)),
    };
    show(format, &builds, &BuildsPage { builds: &builds }, &BuildsText { builds: &builds })
}

#[derive(Template)]
#[template(path = "service.html")]
struct ServicePage<'a> {
    service: &'a Service,
}

/// `/-/health`: for monitors, whether all parts run, and the version; for people and programs, the service's state.
pub(crate) async fn health<D: HasLedger>(State(d): State<Arc<D>>, headers: HeaderMap) -> Response {
    let format = respond::format(&headers);
    let faults = d.faults();
    if !faults.is_empty() {
        return of_now(problem(&*d, Problem::not_running(&faults), format));
    }
    let service = match service::service(&*d).await {
        Ok(service) => service,
        Err(error) => return denied(&*d, error.into(), &asked_for(&*d, None, format)),
    };
    if format == Format::Shell {
        return of_now(plain(200, TEXT, format!("binplz {VERSION}\n")));
    }
    let page = ServicePage { service: &service };
    show(format, &service, &page, &page)
}

/// `/-/openapi.json`: all of this, for programs.
pub(crate) async fn openapi() -> Response {
    plain(200, "application/json", include_str!("../assets/openapi.json"))
}

/// `/-/assets/FILE`.
pub(crate) async fn asset<D: Deployment>(State(d): State<Arc<D>>, file: Path<String>, headers: HeaderMap) -> Response {
    assets::file(file).unwrap_or_else(|| problem(&*d, Problem::no_such_page(), respond::format(&headers)))
}

/// `/robots.txt`: crawlers may read the home page, and ask for no binary.
pub(crate) async fn robots() -> Response {
    plain(200, TEXT, "User-agent: *\nAllow: /$\nDisallow: /\n")
}

/// `/favicon.ico`: there is none, and it is no program.
pub(crate) async fn favicon() -> StatusCode {
    StatusCode::NO_CONTENT
}

/// The same thing in the form that was asked for.
pub(crate) fn show(format: Format, json: &impl Serialize, page: &impl Template, text: &impl Template) -> Response {
    of_now(match format {
        Format::Html => respond::html(200, page),
        // Serialising into a string fails only where a value's own code does.
        Format::Json => plain(200, "application/json", serde_json::to_string(json).unwrap_or_default()),
        // A template ends with its last word.
        Format::Shell => plain(200, TEXT, text.render().unwrap_or_default() + "\n"),
    })
}
