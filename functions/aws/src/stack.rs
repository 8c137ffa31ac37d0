//! A deployed stack, as its operator sees it: found by its name, with the credentials and the region that the AWS CLI would use.

use aws_config::BehaviorVersion;
use aws_credential_types::provider::ProvideCredentials;
use aws_sdk_cloudformation::error::DisplayErrorContext;
use aws_smithy_http_client::{Builder, tls};
use thiserror::Error;

use crate::config::Settings;

/// Which outputs of the template are which settings.
const OUTPUTS: &[(&str, &str)] = &[
    ("Table", "BINPLZ_TABLE"),
    ("Bucket", "BINPLZ_BUCKET"),
    ("Queue", "BINPLZ_QUEUE_URL"),
    ("FirstPins", "BINPLZ_FIRST_PINS"),
    ("System", "BINPLZ_SYSTEM"),
];

/// Why a stack can not be operated; a sentence that says what to do.
#[derive(Debug, Error)]
pub enum NotFound {
    /// No region.
    #[error("no AWS region is chosen: set AWS_REGION, or choose one with aws configure")]
    Region,
    /// No credentials, or none that are valid.
    #[error("there are no credentials for AWS ({0}): log in as for the AWS CLI, or set AWS_PROFILE")]
    Credentials(String),
    /// It can not be looked at, or there is none.
    #[error("the stack {name} can not be looked at in {region}: {cause}")]
    Stack {
        /// Its name.
        name: String,
        /// Where it was looked for.
        region: String,
        /// Why not.
        cause: String,
    },
    /// There is such a stack, and it is another's.
    #[error("the stack {0} is not binplz's, or of another version: it has no output {1}")]
    Output(String, &'static str),
}

/// The settings that an operator of the stack needs.
///
/// # Errors
/// [`NotFound`].
pub async fn find(name: &str) -> Result<Settings, NotFound> {
    let tls = tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring);
    let http = Builder::new().tls_provider(tls).build_https();
    let sdk = aws_config::defaults(BehaviorVersion::v2026_01_12()).http_client(http).load().await;
    let region = sdk.region().ok_or(NotFound::Region)?.to_string();
    let none = || NotFound::Credentials("nobody provides them".to_owned());
    let credentials = sdk.credentials_provider().ok_or_else(none)?.provide_credentials().await;
    let credentials = credentials.map_err(|error| NotFound::Credentials(DisplayErrorContext(error).to_string()))?;
    let settings = Settings::of_process()
        .with("AWS_REGION", &region)
        .with("AWS_ACCESS_KEY_ID", credentials.access_key_id())
        .with("AWS_SECRET_ACCESS_KEY", credentials.secret_access_key())
        .with("AWS_SESSION_TOKEN", credentials.session_token().unwrap_or_default());
    let described = aws_sdk_cloudformation::Client::new(&sdk).describe_stacks().stack_name(name).send().await;
    let not_seen = |cause: String| NotFound::Stack { name: name.to_owned(), region: region.clone(), cause };
    let described = described.map_err(|error| {
        // Its own words, where it has some: no such stack, not allowed.
        let said = error.as_service_error().and_then(|error| error.meta().message().map(str::to_owned));
        not_seen(said.unwrap_or_else(|| DisplayErrorContext(error).to_string()))
    })?;
    let stack = described.stacks().first().ok_or_else(|| not_seen("there is none".to_owned()))?;
    let mut outputs = OUTPUTS.iter();
    outputs.try_fold(settings, |settings, (output, setting)| {
        let found = stack.outputs().iter().find(|known| known.output_key() == Some(output));
        let value = found.and_then(|found| found.output_value());
        Ok(settings.with(setting, value.ok_or_else(|| NotFound::Output(name.to_owned(), output))?))
    })
}
