//! The operator's credentials and region, found as the AWS CLI finds them: environment, profile, SSO, or by the AWS CLI
//! itself (`aws login`).

use aws_config::{BehaviorVersion, credential_process::CredentialProcessProvider};
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_smithy_http_client::{Builder, tls};
use aws_types::SdkConfig;
use thiserror::Error;

use crate::causes;

/// Why AWS cannot be used; a sentence that says what to do.
#[derive(Debug, Error)]
pub enum NoLogin {
    /// No region is configured.
    #[error("no AWS region: set AWS_REGION, or run aws configure")]
    Region,
    /// No credentials, or none that are valid.
    #[error("no AWS credentials ({0}): log in as for the AWS CLI, or set AWS_PROFILE")]
    Credentials(String),
}

impl NoLogin {
    pub(crate) fn no_provider() -> NoLogin {
        NoLogin::Credentials("no provider is configured".to_owned())
    }
}

/// What `aws login` has stored can be read by few SDKs. The AWS CLI reads it for others, and renews it.
const EXPORT: &str = "aws configure export-credentials --format process";

/// The configuration from which clients of AWS's services are made.
///
/// # Errors
/// [`NoLogin`].
pub async fn login() -> Result<SdkConfig, NoLogin> {
    let tls = tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring);
    let http = Builder::new().tls_provider(tls).build_https();
    let sdk = aws_config::defaults(BehaviorVersion::v2026_01_12()).http_client(http).load().await;
    if sdk.region().is_none() {
        return Err(NoLogin::Region);
    }
    let provider = sdk.credentials_provider().ok_or_else(NoLogin::no_provider)?;
    let Err(error) = provider.provide_credentials().await else { return Ok(sdk) };
    let exported = SharedCredentialsProvider::new(CredentialProcessProvider::new(EXPORT.to_owned()));
    match exported.provide_credentials().await {
        Ok(_) => Ok(sdk.into_builder().credentials_provider(exported).build()),
        Err(again) => Err(NoLogin::Credentials(format!("{}; {}", causes(&error), causes(&again)))),
    }
}
