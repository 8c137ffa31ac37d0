//! The job of `scripts/bench lambda` with no SDK and no async runtime: the lower bound. It has what the job needs and no more:
//! it reads the environment of the harness, and an error ends the process.

mod http;
mod sigv4;
mod table;

use std::{borrow::Cow, collections::BTreeMap, env, net::TcpStream};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};

use http::exchange;
use sigv4::Signer;
use table::Table;

type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

const INVOCATION: &str = "/2018-06-01/runtime/invocation";
/// The characters that a query does not escape; a path does not escape slashes either.
const VALUE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const PATH: &AsciiSet = &VALUE.remove(b'/');

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow, rename = "rawPath")]
    path: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Served<'a> {
    #[serde(borrow)]
    object: Cow<'a, str>,
    #[serde(borrow)]
    sha256: Cow<'a, str>,
}

/// The answer in the form that `lambda_http` writes.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    status_code: u16,
    headers: BTreeMap<&'a str, &'a str>,
    multi_value_headers: BTreeMap<&'a str, &'a str>,
    is_base64_encoded: bool,
    cookies: [&'a str; 0],
}

struct Site {
    signer: Signer,
    table: Table,
    bucket: String,
    system: String,
}

fn main() -> Fallible<()> {
    let endpoint = env::var("AWS_ENDPOINT_URL")?;
    let signer = Signer::new(
        env::var("AWS_REGION")?,
        env::var("AWS_ACCESS_KEY_ID")?,
        &env::var("AWS_SECRET_ACCESS_KEY")?,
        env::var("AWS_SESSION_TOKEN")?,
        &endpoint,
    )?;
    let table = Table::open(&signer, env::var("BINPLZ_TABLE")?)?;
    let mut site = Site { signer, table, bucket: env::var("BINPLZ_BUCKET")?, system: env::var("BINPLZ_SYSTEM")? };
    site.warm()?;

    let host = env::var("AWS_LAMBDA_RUNTIME_API")?;
    let mut runtime = TcpStream::connect(&host)?;
    runtime.set_nodelay(true)?;
    let next = format!("GET {INVOCATION}/next HTTP/1.1\r\nhost: {host}\r\n\r\n");
    let mut received = Vec::new();
    loop {
        let event = exchange(&mut runtime, &mut received, next.as_bytes())?;
        let id = event.header("lambda-runtime-aws-request-id").ok_or("the event has no id")?;
        let answer = site.answer(&serde_json::from_slice::<Event>(event.body)?.path)?;
        let length = answer.len();
        let request = format!(
            "POST {INVOCATION}/{id}/response HTTP/1.1\r\nhost: {host}\r\ncontent-length: {length}\r\n\r\n{answer}"
        );
        exchange(&mut runtime, &mut received, request.as_bytes())?;
    }
}

impl Site {
    /// Opens the connection and signs once, before the first event.
    fn warm(&mut self) -> Fallible<()> {
        self.table.get(&self.signer, "limits")?;
        self.presigned("warm");
        Ok(())
    }

    fn answer(&mut self, path: &str) -> Fallible<String> {
        let pk = format!("served{}?sys={}", utf8_percent_encode(path, PATH), self.system);
        let Some(body) = self.table.get(&self.signer, &pk)? else { return answer(404, BTreeMap::new()) };
        let served: Served = serde_json::from_str(&body)?;
        let location = self.presigned(&served.object);
        let headers = [("cache-control", "no-store"), ("location", &location), ("x-binplz-sha256", &served.sha256)];
        answer(302, headers.into())
    }

    fn presigned(&self, object: &str) -> String {
        self.signer.presigned(&format!("/{}/{}", self.bucket, utf8_percent_encode(object, PATH)))
    }
}

fn answer(status_code: u16, headers: BTreeMap<&str, &str>) -> Fallible<String> {
    let empty = BTreeMap::new();
    let answer = Answer { status_code, headers, multi_value_headers: empty, is_base64_encoded: false, cookies: [] };
    Ok(serde_json::to_string(&answer)?)
}
