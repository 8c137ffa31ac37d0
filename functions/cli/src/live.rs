//! `binplz doctor --live`: uses a deployed service as its clients do, and builds a small package with a real task.

use std::time::{Duration, Instant};

use binplz_core::{
    flow::operator::{
        findings::Finding,
        orders::{Named, Operator, Order},
    },
    id::{key::Sha256, target::Target, text},
    ports::Deployment,
};
use tokio::time::sleep;
use ureq::{Agent, Body, http::Response};

/// The timeout of a request, which includes a program's download.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long the build may take: without a cache, a toolchain is built first.
const BUILD: Duration = Duration::from_secs(3 * 3600);
/// How often in a row a request may have no answer, or one of a gateway that is busy. A build is asked for a thousand times.
const TRIES: u32 = 6;
const PAUSE: Duration = Duration::from_secs(5);
/// The largest program that is downloaded, in bytes.
const PROGRAM_MAX: u64 = 1 << 30;

/// Checks health and the whole way of one program: request, task, signed redirect, download, sha256; and what its build
/// has cost.
pub(crate) async fn examine<D: Deployment + Operator>(d: &D, canary: &Target) -> Vec<Finding> {
    // A client like curl: it starts a build, and follows no redirect by itself.
    let config = Agent::config_builder().timeout_global(Some(PATIENCE)).user_agent("curl/8 (binplz doctor)");
    let agent = config.http_status_as_error(false).max_redirects(0).build().new_agent();
    let origin = d.origin().trim_end_matches('/');
    let health = match agent.get(&format!("{origin}/-/health")).call() {
        Ok(answer) if answer.status() == 200 => Finding::ok("live health", format!("{origin} answers")),
        Ok(answer) => Finding::missing("live health", first_line(answer), "binplz status"),
        Err(error) => Finding::missing("live health", format!("{origin}: {error}"), "binplz doctor"),
    };
    let mut findings = vec![health];
    let began = Instant::now();
    let program = served(&agent, &format!("{origin}/{canary}"), began).await;
    findings.push(match program {
        Ok(told) => {
            let took = text::span(began.elapsed());
            Finding::ok("live program", format!("{canary} was served in {took}, {told}{}", cost(d, canary).await))
        }
        Err(why) => Finding::missing("live program", format!("{canary}: {why}"), format!("binplz why '{canary}'")),
    });
    findings
}

/// Requests a program until it is there, and downloads it: its size in words.
async fn served(agent: &Agent, url: &str, began: Instant) -> Result<String, String> {
    let mut failed = 0;
    loop {
        let answer = agent.get(url).call();
        let passes = answer.as_ref().map_or(true, |answer| matches!(answer.status().as_u16(), 429 | 500 | 502 | 504));
        failed = if passes { failed + 1 } else { 0 };
        if (1..TRIES).contains(&failed) {
            sleep(PAUSE).await;
            continue;
        }
        let answer = answer.map_err(|error| error.to_string())?;
        let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        match answer.status().as_u16() {
            302 => {
                let (Some(at), Some(sha256)) = (header("location"), header("x-binplz-sha256")) else {
                    return Err("the redirect has no Location or no X-Binplz-Sha256".to_owned());
                };
                let found = agent.get(&at).call().map_err(|error| format!("the download failed: {error}"))?;
                if found.status() != 200 {
                    return Err(format!("the download got status {}", found.status()));
                }
                let bytes = found.into_body().with_config().limit(PROGRAM_MAX).read_to_vec();
                let bytes = bytes.map_err(|error| format!("the download failed: {error}"))?;
                return match Sha256::of(&bytes).to_string() == sha256 {
                    true => Ok(text::bytes(bytes.len() as u64)),
                    false => Err("the sha256 of the download differs from the redirect's".to_owned()),
                };
            }
            202 | 503 if began.elapsed() < BUILD => {
                let wait = header("retry-after").and_then(|seconds| seconds.parse().ok()).unwrap_or(5);
                sleep(Duration::from_secs(wait).min(Duration::from_secs(30))).await;
            }
            _ => return Err(first_line(answer)),
        }
    }
}

/// What an answer that is no program says.
fn first_line(answer: Response<Body>) -> String {
    let status = answer.status();
    let text = answer.into_body().with_config().limit(10_000).read_to_string().unwrap_or_default();
    format!("{status}: {}", text::clean_line(text.lines().next().unwrap_or_default(), 200))
}

/// What the attempts at it have cost, as far as recorded.
async fn cost(d: &impl Operator, canary: &Target) -> String {
    let shown = d.carry_out(Order::Show(Named::Target(canary.clone()))).await.and_then(|outcome| outcome.show());
    shown.ok().and_then(|shown| shown.cost).map_or(String::new(), |cost| format!("; its build has cost {cost}"))
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, BufReader, Write},
        net::TcpListener,
        thread,
    };

    use super::*;

    /// A server that gives one answer to each connection, and the check's result.
    async fn asked(answers: Vec<String>) -> Result<String, String> {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/hello", listener.local_addr().expect("an address"));
        let answers: Vec<_> = answers.into_iter().map(|answer| answer.replace("URL", &url)).collect();
        let server = thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().expect("a connection");
                let lines = BufReader::new(stream.try_clone().expect("a socket")).lines();
                lines.take_while(|line| line.as_ref().is_ok_and(|line| !line.is_empty())).for_each(drop);
                stream.write_all(answer.as_bytes()).expect("a client");
            }
        });
        let config = Agent::config_builder().http_status_as_error(false).max_redirects(0).max_idle_connections(0);
        let result = served(&config.build().new_agent(), &url, Instant::now()).await;
        server.join().expect("it has given all answers");
        result
    }

    fn answer(status: &str, headers: &str, body: &str) -> String {
        let length = body.len();
        format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n{body}")
    }

    #[tokio::test(start_paused = true)]
    async fn an_hour_of_questions_survives_a_lost_answer_and_a_gateway_that_is_busy() {
        let found = format!("Location: URL\r\nX-Binplz-Sha256: {}\r\n", Sha256::of(b"program"));
        let lost = || vec![String::new(), answer("502 Bad Gateway", "", ""), answer("429 Too Many Requests", "", "")];
        let mut answers = [lost(), vec![answer("202 Accepted", "Retry-After: 9\r\n", "")], lost()].concat();
        answers.extend([answer("302 Found", &found, ""), answer("200 OK", "", "program")]);
        assert_eq!(asked(answers).await, Ok(text::bytes(7)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_that_never_answers_is_told() {
        let busy = vec![answer("502 Bad Gateway", "", "no"); TRIES as usize];
        assert_eq!(asked(busy).await, Err("502 Bad Gateway: no".to_owned()));
        let missing = vec![answer("404 Not Found", "", "no such package")];
        assert_eq!(asked(missing).await, Err("404 Not Found: no such package".to_owned()));
    }
}
