//! Where the services are and who asks them: the clients' common ground, built by hand from what Lambda puts into the
//! environment. (The usual loader looks in more places than a function has, and takes longer than a hit.)

use std::time::Duration;

use aws_credential_types::{Credentials, provider::SharedCredentialsProvider};
use aws_sdk_dynamodb::config::BehaviorVersion;
use aws_smithy_async::{
    rt::sleep::{SharedAsyncSleep, TokioSleep},
    time::SystemTimeSource,
};
use aws_smithy_http_client::{Connector, tls};
use aws_smithy_runtime::client::{
    orchestrator::operation::{Operation, OperationBuilder},
    retries::classifiers::{HttpStatusCodeClassifier, TransientErrorClassifier},
};
use aws_smithy_runtime_api::client::http::{
    HttpConnectorSettings, SharedHttpClient, SharedHttpConnector, http_client_fn,
};
use aws_smithy_types::{retry::RetryConfig, timeout::TimeoutConfig};
use aws_types::{SdkConfig, region::Region};

use crate::config::{ConfigError, Settings};

/// A gateway ends a request after 30 s: what hangs is given up, and tried once more, well before that.
const CONNECT: Duration = Duration::from_secs(3);
const ONE_TRY: Duration = Duration::from_secs(5);
const ALL_TRIES: Duration = Duration::from_secs(20);

/// An account in a region.
#[derive(Clone, Debug)]
pub struct Account {
    pub(crate) region: String,
    pub(crate) credentials: Credentials,
    /// Set where the services are not AWS's own: all of them are there.
    pub(crate) endpoint: Option<String>,
    pub(crate) sdk: SdkConfig,
    http_client: SharedHttpClient,
}

impl Account {
    /// The account that Lambda's variables name. A sandbox does not outlive its credentials.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn open(settings: &Settings) -> Result<Account, ConfigError> {
        let region = settings.need("AWS_REGION")?;
        let credentials = Credentials::new(
            settings.need("AWS_ACCESS_KEY_ID")?,
            settings.need("AWS_SECRET_ACCESS_KEY")?,
            settings.find("AWS_SESSION_TOKEN").map(str::to_owned),
            None,
            "environment",
        );
        let endpoint = settings.find("AWS_ENDPOINT_URL").map(|url| url.trim_end_matches('/').to_owned());
        let http_client = http_client();
        let mut sdk = SdkConfig::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(Region::new(region.clone()))
            .credentials_provider(SharedCredentialsProvider::new(credentials.clone()))
            .http_client(http_client.clone())
            .sleep_impl(SharedAsyncSleep::new(TokioSleep::new()))
            .retry_config(RetryConfig::standard())
            .timeout_config(timeouts());
        sdk.set_endpoint_url(endpoint.clone());
        Ok(Account { region, credentials, endpoint, sdk: sdk.build(), http_client })
    }

    /// A request that is signed already, to what is at `origin`: with the SDK's connections, limits of time, and tries, which take
    /// `E` for final.
    pub(crate) fn signed<E: std::error::Error + Send + Sync + 'static>(&self, origin: &str) -> OperationBuilder {
        Operation::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .endpoint_url(origin)
            .no_auth()
            .http_client(self.http_client.clone())
            .sleep_impl(TokioSleep::new())
            .time_source(SystemTimeSource::new())
            .standard_retry(&RetryConfig::standard())
            .retry_classifier(TransientErrorClassifier::<E>::new())
            .retry_classifier(HttpStatusCodeClassifier::default())
            .timeout_config(timeouts())
    }

    /// What a client of another service is made from.
    pub fn sdk(&self) -> &SdkConfig {
        &self.sdk
    }
}

fn timeouts() -> TimeoutConfig {
    TimeoutConfig::builder().operation_attempt_timeout(ONE_TRY).operation_timeout(ALL_TRIES).build()
}

/// One connector for the clients of all services. The usual one is made once for each client and once more, and reads the
/// machine's certificate authorities each time: half of a start. Which authorities is for `SSL_CERT_FILE` to say, else they are
/// where the system has them.
fn http_client() -> SharedHttpClient {
    let tls = tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring);
    let settings = HttpConnectorSettings::builder().connect_timeout(CONNECT).build();
    let connector =
        SharedHttpConnector::new(Connector::builder().connector_settings(settings).tls_provider(tls).build());
    http_client_fn(move |_, _| connector.clone())
}
