//! Turns core's answers into HTTP responses. Each response header is set here or comes from `binplz_core::answer::reply`.

use askama::Template;
use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::Response,
};
use binplz_core::{
    answer::{
        asked::Format,
        page::Page,
        reply::{self, Answer},
    },
    flow::request::log::Tail,
};

pub(crate) const TEXT: &str = "text/plain; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";

/// Pages load their own style and script, ask and post to their own site, and nothing else.
const CSP: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; \
    form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// How a request wants to be answered.
pub(crate) fn format(headers: &HeaderMap) -> Format {
    Format::of(headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()))
}

/// A body with its media type.
pub(crate) fn plain(status: u16, media_type: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// An answer whose URL names its content.
pub(crate) fn for_ever(mut response: Response) -> Response {
    let for_ever = HeaderValue::from_static("public, max-age=31536000, immutable");
    response.headers_mut().insert(header::CACHE_CONTROL, for_ever);
    response
}

/// An answer of now, and of this form.
pub(crate) fn of_now(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::VARY, HeaderValue::from_static("Accept"));
    response
}

/// A page from its template.
pub(crate) fn html(status: u16, template: &impl Template) -> Response {
    // Rendering into a string fails only where a value's own formatting does.
    let body = template.render().unwrap_or_default();
    let mut response = plain(status, HTML, body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(CSP));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    response
}

#[derive(Template)]
#[template(path = "target.html")]
pub(crate) struct TargetPage<'a> {
    pub(crate) page: &'a Page,
    /// The end of its log.
    pub(crate) tail: Tail,
    /// Where the log goes on; a segment's number follows.
    pub(crate) follow: String,
}

/// What the core says, as HTTP.
pub(crate) fn answer(answer: Answer) -> Response {
    answer_with(answer, Tail::none())
}

/// The same, with the end of a log, which a page shows.
pub(crate) fn answer_with(answer: Answer, tail: Tail) -> Response {
    let mut response = match answer.body {
        reply::Body::Text(text) => plain(answer.status, TEXT, text),
        reply::Body::Json(media_type, json) => plain(answer.status, media_type, json),
        reply::Body::Page(page) => {
            let path = page.log.clone().unwrap_or_else(|| format!("/-/log/{}", page.title));
            let follow = format!("{path}{}from=", if path.contains('?') { '&' } else { '?' });
            html(answer.status, &TargetPage { page: &page, tail, follow })
        }
    };
    for (name, value) in answer.headers {
        // All values are made of validated names, hex, decimals and URLs; what is none of these is left out, not sent.
        if let Ok(value) = HeaderValue::try_from(value) {
            response.headers_mut().insert(HeaderName::from_static(name), value);
        }
    }
    response
}
