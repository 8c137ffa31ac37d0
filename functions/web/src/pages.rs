//! Pages about no target.

use std::sync::Arc;

use askama::Template;
use axum::{
    extract::State,
    http::{HeaderMap, StatusCode},
    response::Response,
};
use binplz_core::{ports::Deployment, reply::Format};

use crate::respond::{self, TEXT, plain};

#[derive(Template)]
#[template(path = "home.html")]
struct HomePage<'a> {
    origin: &'a str,
}

#[derive(Template)]
#[template(path = "home.txt")]
struct HomeText<'a> {
    origin: &'a str,
}

/// `/`.
pub(crate) async fn home<D: Deployment>(State(d): State<Arc<D>>, headers: HeaderMap) -> Response {
    let origin = d.origin();
    match respond::format(&headers) {
        Format::Html => respond::html(200, &HomePage { origin }),
        Format::Json | Format::Shell => plain(200, TEXT, HomeText { origin }.render().unwrap_or_default()),
    }
}

/// `/-/health`.
pub(crate) async fn health() -> Response {
    plain(200, TEXT, concat!("binplz ", env!("CARGO_PKG_VERSION"), "\n"))
}

/// `/-/style.css`.
pub(crate) async fn style() -> Response {
    plain(200, "text/css; charset=utf-8", include_str!("../assets/style.css"))
}

/// `/robots.txt`: crawlers may read the home page, and ask for no binary.
pub(crate) async fn robots() -> Response {
    plain(200, TEXT, "User-agent: *\nAllow: /$\nDisallow: /\n")
}

/// `/favicon.ico`: there is none, and it is no program.
pub(crate) async fn favicon() -> StatusCode {
    StatusCode::NO_CONTENT
}
