//! The job of `scripts/bench lambda` as one writes it first: everything as it comes.

use std::{env, time::Duration};

use aws_config::BehaviorVersion;
use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_s3::presigning::PresigningConfig;
use lambda_http::{Body, Error, Request, Response, run, service_fn};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde_json::Value;

const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

struct Site {
    dynamo: aws_sdk_dynamodb::Client,
    s3: aws_sdk_s3::Client,
    table: String,
    bucket: String,
    system: String,
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    lambda_http::tracing::init_default_subscriber();
    let config = aws_config::load_defaults(BehaviorVersion::latest()).await;
    let site = Site {
        dynamo: aws_sdk_dynamodb::Client::new(&config),
        s3: aws_sdk_s3::Client::new(&config),
        table: env::var("BINPLZ_TABLE")?,
        bucket: env::var("BINPLZ_BUCKET")?,
        system: env::var("BINPLZ_SYSTEM")?,
    };
    run(service_fn(|request| redirect(&site, request))).await
}

async fn redirect(site: &Site, request: Request) -> Result<Response<Body>, Error> {
    let path = percent_decode_str(request.uri().path()).decode_utf8()?;
    let pk = AttributeValue::S(format!("served{}?sys={}", utf8_percent_encode(&path, PATH), site.system));
    let found = site.dynamo.get_item().table_name(&site.table).key("pk", pk).send().await?;
    let body = found.item().and_then(|item| item.get("body")).and_then(|body| body.as_s().ok());
    let Some(body) = body else { return Ok(Response::builder().status(404).body(Body::Empty)?) };
    let served: Value = serde_json::from_str(body)?;
    let text = |name: &str| served[name].as_str().unwrap_or_default();
    let life = PresigningConfig::expires_in(Duration::from_secs(900))?;
    let url = site.s3.get_object().bucket(&site.bucket).key(text("object")).presigned(life).await?;
    let response = Response::builder().status(302).header("location", url.uri()).header("cache-control", "no-store");
    Ok(response.header("x-binplz-sha256", text("sha256")).body(Body::Empty)?)
}
