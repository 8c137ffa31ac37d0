//! The routes that name a target.

use std::{net::IpAddr, sync::Arc};

use axum::{
    Extension,
    extract::{Path, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header},
    response::Response,
};
use binplz_core::{
    answer::{
        asked::{Asked, Format},
        page,
        problem::Problem,
        reply::{Answer, Body, onward, status_json},
        stub,
    },
    flow::request::{
        denial::Denial,
        log::{self, Tail},
        outcome::RequestOutcome,
        program, status, wait,
    },
    id::{
        target::{Query, Target},
        text::clean_lines,
        wait::{Patience, preferred_wait},
    },
    objects::stored,
    ports::{Deployment, HasBell, HasCatalogues, HasLedger, HasStore, HasWaitLimiter},
    quota::client::Asker,
    telemetry::{About, Signal},
};

use crate::respond::{self, TEXT};

/// Most bytes of log in a page.
const TAIL: usize = 6000;

/// `GET /NAME`, `GET /ATTR/BIN`, `GET /-/archive/ATTR`, `GET /-/bundle/TARGET`: a binary, a package's archive, or a bundle.
pub(crate) async fn binary<D: HasLedger + HasStore + HasBell + HasCatalogues + HasWaitLimiter>(
    State(d): State<Arc<D>>,
    viewer: Option<Extension<IpAddr>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let format = respond::format(&headers);
    let method = match method {
        Method::GET => stored::Method::Get,
        Method::HEAD => stored::Method::Head,
        _ => return problem(&*d, Problem::method("GET"), format),
    };
    let is_other = !["/-/archive/", "/-/bundle/"].iter().any(|prefix| uri.path().starts_with(prefix));
    if uri.path().starts_with("/-/") && is_other {
        return problem(&*d, Problem::no_such_page(), format);
    }
    let query = match Query::parse(uri.path(), uri.query()) {
        Ok(query) => query,
        Err(why) => {
            let wrong = Problem::bad_target(&why).guessing(&format!("{}/", d.origin()), uri.path());
            return refusal(&*d, &uri, wrong, &headers);
        }
    };
    let asker = asker(viewer, &headers);
    // An image of another site's page, for example: its visitor did not ask for this.
    let elsewhere = is_from_another_site(&headers, d.origin());
    // A page's visitor starts a build with its button; a request that only looks (HEAD) starts none.
    let meant = method == stored::Method::Get && format != Format::Html && !is_prefetch(&headers) && !elsewhere;
    let outcome = program::request(&*d, &query.target, method, meant.then_some(&asker)).await;
    d.emit(About::Service, Signal::Answered { hit: outcome.served(), to: asker.address });
    let prefers_wait = header(&headers, "prefer").is_some_and(|prefer| preferred_wait(prefer).is_some());
    let asked = Asked { origin: d.origin(), target: Some(&query.target), format, retry: query.retry };
    if query.status && format == Format::Shell {
        return status_line(outcome.status_line(&asked));
    }
    // A page asks again by itself.
    let waits = (query.wait || prefers_wait) && format != Format::Html && !elsewhere;
    if waits && let Some(path) = wait::first(&*d, &outcome, &query, patience(&headers)).await {
        return respond::answer(onward(&path, &asked));
    }
    respond_to(&*d, outcome.answer(&asked), &asked).await
}

/// An answer. A page shows the end of the log, too, unless the program is there.
async fn respond_to<D: HasLedger + HasStore + HasCatalogues>(d: &D, answer: Answer, asked: &Asked<'_>) -> Response {
    let shows = matches!(&answer.body, Body::Page(page) if page.log.is_some() && page.download.is_none());
    let Some(target) = asked.target.filter(|_| shows) else { return respond::answer(answer) };
    let tail = log::tail(d, target, TAIL).await;
    if let Err(Denial::Unavailable(error)) = &tail {
        d.warn(About::Service, "the end of a log is not shown", error);
    }
    respond::answer_with(answer, tail.unwrap_or_else(|_| Tail::none()))
}

/// `GET /-/wait/NUMBER/TARGET`: a hop of the chain that `?wait` leads into.
pub(crate) async fn hop<D: HasLedger + HasCatalogues + HasWaitLimiter>(
    State(d): State<Arc<D>>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let format = respond::format(&headers);
    let path = uri.path().strip_prefix("/-/wait/").unwrap_or("");
    let Some((number, path)) = path.split_once('/').and_then(|(n, path)| Some((n.parse::<u32>().ok()?, path))) else {
        return problem(&*d, Problem::no_such_page(), format);
    };
    let query = match Query::parse(path, uri.query()) {
        Ok(query) => query,
        Err(why) => return problem(&*d, Problem::bad_target(&why), format),
    };
    let asked = Asked { origin: d.origin(), target: Some(&query.target), format, retry: query.retry };
    let path = wait::hop(&*d, &query, number, patience(&headers)).await;
    respond::answer(onward(&path, &asked))
}

fn patience(headers: &HeaderMap) -> Patience {
    Patience::of(header(headers, "user-agent"), header(headers, "prefer"))
}

/// Who asks. Of headers only an API key counts: all others, anybody can write.
fn asker(viewer: Option<Extension<IpAddr>>, headers: &HeaderMap) -> Asker<'_> {
    Asker {
        address: viewer.map(|Extension(viewer)| viewer),
        key: header(headers, "authorization").and_then(|value| value.strip_prefix("Bearer ")).map(str::trim),
    }
}

/// Parts of crawlers' `User-Agent` headers.
const CRAWLERS: [&str; 7] = ["bot", "crawl", "spider", "slurp", "preview", "facebookexternalhit", "archiver"];

/// Whether the request is a prefetch, or a crawler's.
fn is_prefetch(headers: &HeaderMap) -> bool {
    let prefetched =
        |name| header(headers, name).is_some_and(|purpose| purpose.to_ascii_lowercase().contains("prefetch"));
    let agent = header(headers, "user-agent").unwrap_or("").to_ascii_lowercase();
    ["sec-purpose", "purpose", "x-moz"].into_iter().any(prefetched) || CRAWLERS.iter().any(|name| agent.contains(name))
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// `GET /-/stub/SHA256`: the second part of the stub. For the stub of another version, the line says so: also with the status 200,
/// since it is for a script.
pub(crate) async fn stub<D: Deployment>(State(d): State<Arc<D>>, Path(sum): Path<String>) -> Response {
    match sum == stub::second_sum().as_str() {
        true => respond::for_ever(respond::plain(200, TEXT, stub::SECOND)),
        false => for_script(problem(&*d, Problem::other_stub(d.origin()), Format::Shell)),
    }
}

/// An answer that a script reads, or a shell runs: curl's `-f` and wget would leave the reason in the body out.
fn for_script(mut response: Response) -> Response {
    *response.status_mut() = StatusCode::OK;
    response
}

/// `GET /-/install/TARGET`: a program for `sh` that installs it.
pub(crate) async fn install<D: Deployment>(State(d): State<Arc<D>>, uri: Uri, headers: HeaderMap) -> Response {
    match parse(&*d, &uri, "/-/install/", uri.query()) {
        // An archive is unpacked, not installed.
        Ok(target) if target.wanted.is_archive() => refusal(&*d, &uri, Problem::no_such_page(), &headers),
        Ok(target) => respond::plain(200, TEXT, stub::installer(d.origin(), &target)),
        Err(wrong) => refusal(&*d, &uri, wrong, &headers),
    }
}

/// `POST /-/build/TARGET`: starts it, as the page's button does.
pub(crate) async fn build<D: HasLedger + HasStore + HasBell + HasCatalogues>(
    State(d): State<Arc<D>>,
    viewer: Option<Extension<IpAddr>>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let format = respond::format(&headers);
    if is_from_another_site(&headers, d.origin()) {
        return problem(&*d, Problem::cross_site(), format);
    }
    let target = match parse(&*d, &uri, "/-/build/", uri.query()) {
        Ok(target) => target,
        Err(wrong) => return problem(&*d, wrong, format),
    };
    let asker = asker(viewer, &headers);
    let outcome = program::request(&*d, &target, stored::Method::Get, Some(&asker)).await;
    let asked = asked_for(&*d, Some(&target), format);
    let mut response = respond::answer(outcome.answer(&asked));
    // Another person's click may have been first; then it may be there already.
    if format == Format::Html
        && matches!(outcome, RequestOutcome::Pending(_) | RequestOutcome::Hit { .. })
        && let Ok(status) = HeaderValue::try_from(format!("/-/status/{target}"))
    {
        *response.status_mut() = StatusCode::SEE_OTHER;
        response.headers_mut().insert(header::LOCATION, status);
    }
    response
}

/// Whether a page of another site made its visitor's browser send this. Old browsers send the origin only; command-line
/// clients send neither header, and no page can make them.
fn is_from_another_site(headers: &HeaderMap, origin: &str) -> bool {
    match headers.get("sec-fetch-site") {
        Some(site) => site != "same-origin" && site != "none",
        None => headers.get(header::ORIGIN).is_some_and(|from| from != origin),
    }
}

/// `GET /-/status/TARGET`: one line, JSON, or a page that asks again by itself.
pub(crate) async fn status<D: HasLedger + HasStore + HasBell + HasCatalogues>(
    State(d): State<Arc<D>>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let format = respond::format(&headers);
    let target = match parse(&*d, &uri, "/-/status/", uri.query()) {
        Ok(target) => target,
        Err(wrong) => return refusal(&*d, &uri, wrong, &headers),
    };
    let outcome = program::request(&*d, &target, stored::Method::Get, None).await;
    // The stub and the installer follow the URL that stands in their line, as others a redirect.
    if format != Format::Html && outcome.served().is_some() {
        d.emit(About::Service, Signal::Answered { hit: outcome.served(), to: None });
    }
    let asked = asked_for(&*d, Some(&target), format);
    let response = match format {
        Format::Shell => return status_line(outcome.status_line(&asked)),
        Format::Json => match status::status(&*d, &target).await {
            Ok(status) => respond::plain(200, "application/json", status_json(&status, Some(&outcome), &asked)),
            Err(denial) => return denied(&*d, denial, &asked),
        },
        Format::Html => {
            let mut answer = outcome.answer(&asked);
            if let Body::Page(page) = &mut answer.body {
                page.facts.extend(cost(&*d, &target).await);
            }
            let mut page = respond_to(&*d, answer, &asked).await;
            *page.status_mut() = StatusCode::OK;
            page.headers_mut().remove(header::LOCATION);
            page
        }
    };
    respond::of_now(response)
}

/// The status line, in every case with the status 200: wget shows no body of an error.
fn status_line(line: String) -> Response {
    respond::of_now(respond::plain(200, TEXT, line))
}

/// What a page says of what a build has cost, if it has.
async fn cost<D: HasLedger + HasStore + HasCatalogues>(d: &D, target: &Target) -> Option<(&'static str, String)> {
    match status::status(d, target).await {
        Ok(status) => page::cost(&status),
        Err(Denial::Unavailable(error)) => {
            d.warn(About::Service, "the cost of a build is not shown", &error);
            None
        }
        Err(_) => None,
    }
}

/// `GET /-/log/TARGET?from=SEGMENT`: the log of the newest attempt, 1.5 MB at most; a `Link` with `rel="next"` leads on.
pub(crate) async fn log<D: HasLedger + HasStore + HasCatalogues>(
    State(d): State<Arc<D>>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let format = respond::format(&headers);
    let (from, rest): (Vec<_>, Vec<_>) =
        uri.query().unwrap_or("").split('&').partition(|pair| pair.starts_with("from="));
    let from = from.last().map_or(Ok(1), |pair| pair["from=".len()..].parse::<u32>());
    let target = match (parse(&*d, &uri, "/-/log/", Some(&rest.join("&"))), from) {
        (Ok(target), Ok(from)) => (target, from),
        (Err(wrong), _) => return problem(&*d, wrong, format),
        (_, Err(_)) => return problem(&*d, Problem::bad_segment(), format),
    };
    let (target, from) = target;
    match log::log(&*d, &target, from).await {
        Ok(part) => {
            let next = format!("/-/log/{target}{}from={}", if target.has_query() { '&' } else { '?' }, part.next);
            let mut response = respond::plain(200, TEXT, clean_lines(&String::from_utf8_lossy(&part.content)));
            response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            if !part.complete
                && let Ok(link) = HeaderValue::try_from(format!("<{next}>; rel=\"next\""))
            {
                response.headers_mut().insert(header::LINK, link);
            }
            response
        }
        Err(denial) => denied(&*d, denial, &asked_for(&*d, Some(&target), format)),
    }
}

/// A path that is there, with a method that it does not take.
pub(crate) async fn method_not_allowed<D: Deployment>(
    State(d): State<Arc<D>>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let other = if uri.path().starts_with("/-/build/") { "POST" } else { "GET" };
    problem(&*d, Problem::method(other), respond::format(&headers))
}

/// The target below a prefix of our own.
pub(crate) fn parse<D: Deployment>(d: &D, uri: &Uri, prefix: &str, query: Option<&str>) -> Result<Target, Problem> {
    let path = uri.path().strip_prefix(prefix).unwrap_or("");
    let wrong = |why| Problem::bad_target(&why).guessing(&format!("{}{prefix}", d.origin()), path);
    Query::parse(path, query).map(|query| query.target).map_err(wrong)
}

/// A request that does not poll.
pub(crate) fn asked_for<'a, D: Deployment>(d: &'a D, target: Option<&'a Target>, format: Format) -> Asked<'a> {
    Asked { origin: d.origin(), target, format, retry: false }
}

pub(crate) fn problem<D: Deployment>(d: &D, problem: Problem, format: Format) -> Response {
    respond::answer(problem.answer(&asked_for(d, None, format)))
}

/// A problem at a URL. A script gets it in the form that it asked for: a script that fails, or a status line.
pub(crate) fn refusal<D: Deployment>(d: &D, uri: &Uri, wrong: Problem, headers: &HeaderMap) -> Response {
    let format = respond::format(headers);
    let asks_status = uri.path().starts_with("/-/status/") || Query::has_status(uri.query());
    if format == Format::Shell && asks_status {
        return status_line(wrong.status_line(&asked_for(d, None, format)));
    }
    let is_script = ["/-/install/", "/-/stub/"].iter().any(|prefix| uri.path().starts_with(prefix));
    let response = problem(d, wrong, format);
    if format == Format::Shell && is_script { for_script(response) } else { response }
}

/// The answer to a request with nothing to show.
pub(crate) fn denied<D: Deployment>(d: &D, denial: Denial, asked: &Asked<'_>) -> Response {
    if let Denial::Unavailable(error) = &denial {
        d.warn(About::Service, "a request was not answered", error);
    }
    respond::answer(denial.answer(asked))
}
