//! The account, region and endpoint of the AWS clients, built by hand from the variables that Lambda sets. (The SDK's
//! default loader searches more places than a function has, and takes longer than a hit.)

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

/// A gateway ends a request after 30 s: a call that hangs is cancelled, and tried once more, well before that.
const CONNECT: Duration = Duration::from_secs(3);
const ONE_TRY: Duration = Duration::from_secs(5);
const ALL_TRIES: Duration = Duration::from_secs(20);

/// An account in a region.
#[derive(Clone, Debug)]
pub struct Account {
    pub(crate) region: String,
    pub(crate) credentials: Credentials,
    /// Gives an operator others when these expire.
    pub(crate) renewal: Option<SharedCredentialsProvider>,
    /// The endpoint of all services, if they are not AWS's own.
    pub(crate) endpoint: Option<String>,
    pub(crate) sdk: SdkConfig,
    http_client: SharedHttpClient,
}

impl Account {
    /// Reads the account from Lambda's variables. A sandbox does not outlive its credentials.
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
        Ok(Account { region, credentials, renewal: None, endpoint, sdk: sdk.build(), http_client })
    }

    /// The same account for a command that may run for longer than its credentials are valid.
    #[cfg(feature = "operator")]
    pub(crate) fn renewed_by(self, provider: SharedCredentialsProvider, credentials: Credentials) -> Account {
        let sdk = self.sdk.into_builder().credentials_provider(provider.clone()).build();
        Account { sdk, credentials, renewal: Some(provider), ..self }
    }

    /// An operation for requests that are already signed, to `origin`, with the SDK's connections, timeouts and
    /// retries. Errors of type `E` are not retried.
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

    /// The configuration from which clients of other services are made.
    pub fn sdk(&self) -> &SdkConfig {
        &self.sdk
    }
}

fn timeouts() -> TimeoutConfig {
    TimeoutConfig::builder().operation_attempt_timeout(ONE_TRY).operation_timeout(ALL_TRIES).build()
}

/// One connector for the clients of all services. By default each client makes its own and reads the machine's
/// certificate authorities each time, which takes half of a cold start. `SSL_CERT_FILE` names the authorities;
/// otherwise the system's are used.
fn http_client() -> SharedHttpClient {
    let tls = tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring);
    let settings = HttpConnectorSettings::builder().connect_timeout(CONNECT).build();
    let connector =
        SharedHttpConnector::new(Connector::builder().connector_settings(settings).tls_provider(tls).build());
    http_client_fn(move |_, _| connector.clone())
}
