//! A deployed stack, found by its name with the operator's credentials and region.

use std::collections::BTreeMap;

use aws_credential_types::provider::ProvideCredentials;
use aws_sdk_cloudformation::{Client, operation::describe_stacks::DescribeStacksError, types};
use aws_types::SdkConfig;
use thiserror::Error;

use crate::{
    Operating,
    account::Account,
    causes,
    config::{ConfigError, Settings},
    login::{NoLogin, login},
};

/// The template's outputs, and the settings that they are.
const OUTPUTS: &[(&str, &str)] = &[
    ("Table", "BINPLZ_TABLE"),
    ("Bucket", "BINPLZ_BUCKET"),
    ("Queue", "BINPLZ_QUEUE_URL"),
    ("Cluster", "BINPLZ_CLUSTER"),
    ("Url", "BINPLZ_ORIGIN"),
    ("FirstPins", "BINPLZ_FIRST_PINS"),
    ("System", "BINPLZ_SYSTEM"),
    ("Names", "BINPLZ_NAMES"),
];

/// The template's parameters, and the settings that they are: an operator calculates with the same numbers as the
/// functions.
const PARAMETERS: &[(&str, &str)] = &[
    ("BudgetDollars", "BINPLZ_BUDGET_DOLLARS"),
    ("BuildSeconds", "BINPLZ_BUILD_SECONDS"),
    ("ContinuedAttempts", "BINPLZ_CONTINUED_ATTEMPTS"),
    ("PackageDollars", "BINPLZ_PACKAGE_DOLLARS"),
    ("MaxBuilds", "BINPLZ_SLOTS"),
    ("PricePercent", "BINPLZ_PRICE_PERCENT"),
    ("StoreGigabytes", "BINPLZ_STORE_GIGABYTES"),
    ("EgressGigabytesPerDay", "BINPLZ_EGRESS_GIGABYTES"),
    ("BundleBytes", "BINPLZ_BUNDLE_BYTES"),
];

/// A stack's parameters and outputs.
pub struct Stack {
    /// Its name.
    pub name: String,
    /// CloudFormation's status, such as `UPDATE_COMPLETE`.
    pub status: String,
    pub(crate) parameters: BTreeMap<String, String>,
    pub(crate) outputs: BTreeMap<String, String>,
}

/// Why a stack cannot be operated; a sentence that says what to do.
#[derive(Debug, Error)]
pub enum NotFound {
    /// There are no credentials or no region.
    #[error(transparent)]
    Login(#[from] NoLogin),
    /// There is no such stack.
    #[error(
        "no stack {0} in this region: deploy it (scripts/sam build && scripts/sam deploy --guided), or set AWS_REGION"
    )]
    None(String),
    /// The stack cannot be read.
    #[error("the stack {name} cannot be read: {cause}")]
    Unseen {
        /// Its name.
        name: String,
        /// The error.
        cause: String,
    },
    /// The stack of that name is not binplz's.
    #[error("the stack {0} is not a binplz stack, or is of another version: it has no output {1}")]
    Output(String, &'static str),
    /// The stack is binplz's, and lacks a setting that this version needs.
    #[error("the stack's settings: {0}")]
    Settings(#[from] ConfigError),
}

/// Opens an operator's ports of the stack.
///
/// # Errors
/// [`NotFound`].
pub async fn open(name: &str) -> Result<Operating, NotFound> {
    let sdk = login().await?;
    match Stack::find(&sdk, name).await? {
        Some(stack) => stack.operating(&sdk).await,
        None => Err(NotFound::None(name.to_owned())),
    }
}

impl Stack {
    /// Finds a stack by its name.
    ///
    /// # Errors
    /// [`NotFound::Unseen`].
    pub async fn find(sdk: &SdkConfig, name: &str) -> Result<Option<Stack>, NotFound> {
        match Client::new(sdk).describe_stacks().stack_name(name).send().await {
            Ok(found) => Ok(found.stacks().first().map(|stack| Stack::of(name, stack))),
            Err(error) if error.as_service_error().is_some_and(no_such_stack) => Ok(None),
            Err(error) => Err(NotFound::Unseen { name: name.to_owned(), cause: causes(&error) }),
        }
    }

    fn of(name: &str, stack: &types::Stack) -> Stack {
        let parameters = stack.parameters().iter().filter_map(|parameter| {
            Some((parameter.parameter_key()?.to_owned(), parameter.parameter_value()?.to_owned()))
        });
        let outputs = stack.outputs().iter();
        let outputs =
            outputs.filter_map(|output| Some((output.output_key()?.to_owned(), output.output_value()?.to_owned())));
        let status = stack.stack_status().map_or("in no state", |status| status.as_str()).to_owned();
        Stack { name: name.to_owned(), status, parameters: parameters.collect(), outputs: outputs.collect() }
    }

    /// The entries of a parameter that is a list.
    pub fn list(&self, parameter: &str) -> Vec<String> {
        let entries = self.parameters.get(parameter).map_or("", String::as_str).split(',').map(str::trim);
        entries.filter(|entry| !entry.is_empty()).map(str::to_owned).collect()
    }

    /// Opens an operator's ports of this stack.
    ///
    /// # Errors
    /// [`NotFound`].
    pub async fn operating(&self, sdk: &SdkConfig) -> Result<Operating, NotFound> {
        let provider = sdk.credentials_provider().ok_or_else(NoLogin::no_provider)?;
        let credentials = provider.provide_credentials().await;
        let credentials = credentials.map_err(|error| NoLogin::Credentials(causes(&error)))?;
        let region = sdk.region().ok_or(NoLogin::Region)?;
        let mut settings = Settings::of_process()
            .with("BINPLZ_STACK", &self.name)
            .with("AWS_REGION", region.as_ref())
            .with("AWS_ACCESS_KEY_ID", credentials.access_key_id())
            .with("AWS_SECRET_ACCESS_KEY", credentials.secret_access_key())
            .with("AWS_SESSION_TOKEN", credentials.session_token().unwrap_or_default());
        for (output, setting) in OUTPUTS {
            let value = self.outputs.get(*output).ok_or_else(|| NotFound::Output(self.name.clone(), output))?;
            settings = settings.with(setting, value);
        }
        for (parameter, setting) in PARAMETERS {
            settings = match self.parameters.get(*parameter) {
                Some(value) => settings.with(setting, value),
                // A stack of an earlier version has fewer outputs.
                None => settings,
            };
        }
        if let Some(logs) = self.outputs.get("Logs") {
            settings = settings.with("BINPLZ_HITS_LOG", &format!("{logs}api"));
        }
        let account = Account::open(&settings)?.renewed_by(provider, credentials);
        Ok(Operating::open(&account, &settings)?.told_at_a_terminal())
    }
}

/// CloudFormation has no error code of its own for this.
fn no_such_stack(error: &DescribeStacksError) -> bool {
    error.meta().message().is_some_and(|message| message.contains("does not exist"))
}
