//! The job of `scripts/bench lambda` with the SDK, written with care: clients are built from the environment without the SDK's
//! default loader, TLS is ring's, one thread runs everything, a read and a signature come before the first event, and what a
//! hit can do without is off.

use std::{borrow::Cow, collections::BTreeMap, env, time::Duration, time::SystemTime};

use aws_credential_types::Credentials;
use aws_sdk_dynamodb::{
    Client, Config,
    config::{
        BehaviorVersion, IdentityCache, Region, SharedCredentialsProvider, StalledStreamProtectionConfig,
        retry::RetryConfig, timeout::TimeoutConfig,
    },
    types::AttributeValue,
};
use aws_sigv4::{
    http_request::{
        PercentEncodingMode, SignableBody, SignableRequest, SignatureLocation, SigningSettings,
        UriPathNormalizationMode, sign,
    },
    sign::v4::SigningParams,
};
use aws_smithy_http_client::{
    Connector,
    tls::{Provider, rustls_provider::CryptoMode},
};
use aws_smithy_runtime_api::client::{
    http::{SharedHttpConnector, http_client_fn},
    identity::Identity,
};
use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};

/// The characters that a query does not escape; a path does not escape slashes either.
const VALUE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const PATH: &AsciiSet = &VALUE.remove(b'/');

#[derive(Deserialize)]
struct Event {
    #[serde(rename = "rawPath")]
    path: String,
}

#[derive(Deserialize)]
struct Served<'a> {
    #[serde(borrow)]
    object: Cow<'a, str>,
    #[serde(borrow)]
    sha256: Cow<'a, str>,
}

/// The answer in the form that `lambda_http` writes.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    status_code: u16,
    headers: BTreeMap<&'static str, String>,
    multi_value_headers: BTreeMap<&'static str, String>,
    is_base64_encoded: bool,
    cookies: [&'static str; 0],
}

struct Site {
    dynamo: Client,
    table: String,
    system: String,
    identity: Identity,
    region: String,
    /// The bucket's URL.
    bucket: String,
}

// Lambda sends one event at a time.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let site = Site::open()?;
    site.warm().await?;
    run(service_fn(|event: LambdaEvent<Event>| site.answer(event.payload))).await
}

impl Site {
    fn open() -> Result<Site, Error> {
        let (endpoint, region) = (env::var("AWS_ENDPOINT_URL")?, env::var("AWS_REGION")?);
        let credentials = Credentials::new(
            env::var("AWS_ACCESS_KEY_ID")?,
            env::var("AWS_SECRET_ACCESS_KEY")?,
            env::var("AWS_SESSION_TOKEN").ok(),
            None,
            "environment",
        );
        // One connector, made once: else the SDK makes one for each set of timeouts, and parses the authorities for each.
        let tls = Provider::Rustls(CryptoMode::Ring);
        let connector = SharedHttpConnector::new(Connector::builder().tls_provider(tls).build());
        let config = Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(Region::new(region.clone()))
            .endpoint_url(&endpoint)
            .credentials_provider(SharedCredentialsProvider::new(credentials.clone()))
            .identity_cache(IdentityCache::no_cache())
            .http_client(http_client_fn(move |_, _| connector.clone()))
            .retry_config(RetryConfig::disabled())
            .timeout_config(TimeoutConfig::disabled())
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .build();
        Ok(Site {
            dynamo: Client::from_conf(config),
            table: env::var("BINPLZ_TABLE")?,
            system: env::var("BINPLZ_SYSTEM")?,
            identity: credentials.into(),
            region,
            bucket: format!("{endpoint}/{}", env::var("BINPLZ_BUCKET")?),
        })
    }

    /// Opens the connection and signs once, before the first event.
    async fn warm(&self) -> Result<(), Error> {
        self.get("limits".to_owned()).await?;
        self.presigned("warm").map(drop)
    }

    async fn answer(&self, Event { path }: Event) -> Result<Answer, Error> {
        let pk = format!("served{}?sys={}", utf8_percent_encode(&path, PATH), self.system);
        let Some(body) = self.get(pk).await? else { return Ok(Answer { status_code: 404, ..Answer::default() }) };
        let served: Served = serde_json::from_str(&body)?;
        let headers = BTreeMap::from([
            ("cache-control", "no-store".to_owned()),
            ("location", self.presigned(&served.object)?),
            ("x-binplz-sha256", served.sha256.into_owned()),
        ]);
        Ok(Answer { status_code: 302, headers, ..Answer::default() })
    }

    /// The `body` of a row.
    async fn get(&self, pk: String) -> Result<Option<String>, Error> {
        let found = self.dynamo.get_item().table_name(&self.table).key("pk", AttributeValue::S(pk)).send().await?;
        let body = found.item.and_then(|mut item| item.remove("body"));
        Ok(body.and_then(|body| if let AttributeValue::S(text) = body { Some(text) } else { None }))
    }

    fn presigned(&self, object: &str) -> Result<String, Error> {
        let mut url = format!("{}/{}", self.bucket, utf8_percent_encode(object, PATH));
        let mut settings = SigningSettings::default();
        settings.signature_location = SignatureLocation::QueryParams;
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        settings.expires_in = Some(Duration::from_secs(900));
        let params = SigningParams::builder()
            .identity(&self.identity)
            .region(&self.region)
            .name("s3")
            .time(SystemTime::now())
            .settings(settings)
            .build()?
            .into();
        let request = SignableRequest::new("GET", &*url, [].into_iter(), SignableBody::UnsignedPayload)?;
        let (_, signature) = sign(request, &params)?.into_parts().0.into_parts();
        let mut separator = '?';
        for (name, value) in &signature {
            url.push(std::mem::replace(&mut separator, '&'));
            url.push_str(name);
            url.push('=');
            url.extend(utf8_percent_encode(value, VALUE));
        }
        Ok(url)
    }
}
