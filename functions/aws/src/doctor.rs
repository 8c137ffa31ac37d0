//! What a deployment needs of its account, looked at one by one: what a new account lacks, and what an operator forgets. Nothing
//! is changed here; each thing that is missing comes with the command that mends it.

use std::collections::BTreeMap;

use aws_sdk_cloudformation::{operation::describe_stacks::DescribeStacksError, types::Stack};
use aws_sdk_iam::operation::get_role::GetRoleError;
use aws_sdk_s3::operation::head_object::HeadObjectError;
use aws_types::SdkConfig;
use binplz_core::{
    artifact::nixpkgs_path,
    key::{Rev, System},
    pins::PinName,
    size::Size,
};
use serde::{Deserialize, Serialize};

use crate::{causes, images::Images};

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What, in one word or two.
    pub check: String,
    /// How it stands.
    pub state: State,
    /// That in words.
    pub told: String,
    /// The command that mends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
}

/// How a thing stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be.
    Ok,
    /// It has to be mended.
    Missing,
    /// It is not there, and only who wants it has to mend it.
    Optional,
    /// It could not be looked at.
    Unknown,
}

impl Finding {
    fn ok(check: &str, told: impl Into<String>) -> Finding {
        Finding { check: check.to_owned(), state: State::Ok, told: told.into(), mend: None }
    }
    fn missing(check: &str, told: impl Into<String>, mend: impl Into<String>) -> Finding {
        Finding { check: check.to_owned(), state: State::Missing, told: told.into(), mend: Some(mend.into()) }
    }
    fn unknown(check: &str, error: &dyn std::error::Error) -> Finding {
        Finding { check: check.to_owned(), state: State::Unknown, told: causes(error), mend: None }
    }
}

/// A quota, by Service Quotas' own names.
struct Quota {
    check: &'static str,
    service: &'static str,
    code: &'static str,
    of: &'static str,
}

const QUOTAS: [Quota; 3] = [
    Quota { check: "fargate", service: "fargate", code: "L-3032A538", of: "vCPUs of Fargate on demand" },
    Quota { check: "fargate-spot", service: "fargate", code: "L-36FBB829", of: "vCPUs of Fargate Spot" },
    Quota { check: "lambda", service: "lambda", code: "L-B99A9384", of: "Lambda functions at once" },
];
/// Functions at once below which people are refused when a few come together. A new account has 10.
const FUNCTIONS_MIN: u32 = 50;

/// Looks at all of it, for the stack of that name.
pub async fn examine(sdk: &SdkConfig, name: &str) -> Vec<Finding> {
    let (found, stack) = stack(sdk, name).await;
    let mut findings = vec![ecs_role(sdk).await, found];
    let vcpus = stack.builds().saturating_mul(stack.size().cpu() / 1024);
    for quota in QUOTAS {
        let need = if quota.service == "lambda" { FUNCTIONS_MIN } else { vcpus };
        findings.push(quota.look(sdk, need).await);
    }
    findings.extend(stack.images(sdk, name).await);
    findings.extend(stack.nixpkgs(sdk).await);
    findings
}

/// ECS's own role in the account. ECS makes it with the first cluster, but not in time for that cluster's own stack.
async fn ecs_role(sdk: &SdkConfig) -> Finding {
    const CHECK: &str = "ecs-role";
    const ROLE: &str = "AWSServiceRoleForECS";
    match aws_sdk_iam::Client::new(sdk).get_role().role_name(ROLE).send().await {
        Ok(_) => Finding::ok(CHECK, "ECS has its role in this account"),
        Err(error) if error.as_service_error().is_some_and(GetRoleError::is_no_such_entity_exception) => {
            let mend = "aws iam create-service-linked-role --aws-service-name ecs.amazonaws.com";
            Finding::missing(CHECK, format!("ECS has no role in this account ({ROLE})"), mend)
        }
        Err(error) => Finding::unknown(CHECK, &error),
    }
}

impl Quota {
    async fn look(&self, sdk: &SdkConfig, need: u32) -> Finding {
        let client = aws_sdk_servicequotas::Client::new(sdk);
        let asked = client.get_service_quota().service_code(self.service).quota_code(self.code).send().await;
        match asked.map(|told| told.quota.and_then(|quota| quota.value)) {
            Ok(Some(have)) => self.judge(have, need),
            Ok(None) => Finding { state: State::Unknown, ..Finding::ok(self.check, "the quota has no value") },
            Err(error) => Finding::unknown(self.check, &error),
        }
    }

    fn judge(&self, have: f64, need: u32) -> Finding {
        let Quota { check, service, code, of } = self;
        if have >= need.into() {
            return Finding::ok(check, format!("{have} {of}; {need} are needed"));
        }
        let mend = format!(
            "aws service-quotas request-service-quota-increase --service-code {service} --quota-code {code} --desired-value {need}"
        );
        Finding::missing(check, format!("{have} {of}; {need} are needed"), mend)
    }
}

/// What a stack was deployed with, and what it has made.
#[derive(Default)]
struct Deployed {
    parameters: BTreeMap<String, String>,
    outputs: BTreeMap<String, String>,
}

async fn stack(sdk: &SdkConfig, name: &str) -> (Finding, Deployed) {
    const CHECK: &str = "stack";
    const DEPLOY: &str = "sam build && sam deploy --guided";
    let described = aws_sdk_cloudformation::Client::new(sdk).describe_stacks().stack_name(name).send().await;
    match described {
        Ok(found) => match found.stacks().first() {
            Some(stack) => (judge(name, stack), Deployed::of(stack)),
            None => (Finding::missing(CHECK, format!("there is no stack {name}"), DEPLOY), Deployed::default()),
        },
        // CloudFormation has no code of its own for this.
        Err(error) if error.as_service_error().is_some_and(no_such_stack) => {
            (Finding::missing(CHECK, format!("there is no stack {name} in this region"), DEPLOY), Deployed::default())
        }
        Err(error) => (Finding::unknown(CHECK, &error), Deployed::default()),
    }
}

fn no_such_stack(error: &DescribeStacksError) -> bool {
    error.meta().message().is_some_and(|message| message.contains("does not exist"))
}

fn judge(name: &str, stack: &Stack) -> Finding {
    const CHECK: &str = "stack";
    let status = stack.stack_status().map_or("in no state", |status| status.as_str());
    let told = format!("the stack {name} is {status}");
    // A failed update leaves what was there before, and that works.
    if ["CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE"].contains(&status) {
        Finding::ok(CHECK, told)
    } else {
        Finding::missing(CHECK, told, format!("aws cloudformation describe-stack-events --stack-name {name}"))
    }
}

/// The part of the parameter `Pins` that says where each nixpkgs is.
#[derive(Default, Deserialize)]
struct Pins {
    system: Option<System>,
    pins: BTreeMap<PinName, Pin>,
}

#[derive(Deserialize)]
struct Pin {
    rev: Rev,
}

impl Deployed {
    fn of(stack: &Stack) -> Deployed {
        let parameters = stack.parameters().iter().filter_map(|parameter| {
            Some((parameter.parameter_key()?.to_owned(), parameter.parameter_value()?.to_owned()))
        });
        let outputs = stack.outputs().iter();
        let outputs =
            outputs.filter_map(|output| Some((output.output_key()?.to_owned(), output.output_value()?.to_owned())));
        Deployed { parameters: parameters.collect(), outputs: outputs.collect() }
    }

    /// Builds in parallel; the template's own default where nothing is deployed.
    fn builds(&self) -> u32 {
        self.parameters.get("MaxBuilds").and_then(|builds| builds.parse().ok()).unwrap_or(4)
    }

    /// A builder's machine.
    fn size(&self) -> Size {
        self.outputs.get("BuilderMachine").and_then(|size| size.parse().ok()).unwrap_or_default()
    }

    fn pins(&self) -> Pins {
        self.outputs.get("Pins").and_then(|pins| serde_json::from_str(pins).ok()).unwrap_or_default()
    }

    async fn images(&self, sdk: &SdkConfig, name: &str) -> Vec<Finding> {
        // ACCOUNT.dkr.ecr.REGION.amazonaws.com/NAME
        let repository = self.outputs.get("BuilderRepository").and_then(|uri| Some(uri.split_once('/')?.1));
        let tags = self.parameters.get("ImageTags").map(|tags| tags.split(',').map(str::to_owned).collect());
        let (Some(repository), Some(tags)) = (repository, tags) else { return Vec::new() };
        let images = match Images::of(sdk, repository, tags) {
            Ok(images) => images,
            Err(fault) => return vec![Finding::unknown("image", &fault)],
        };
        let needed = self.pins().system.unwrap_or(System::X86_64Linux);
        let mut findings = Vec::new();
        for system in System::ALL {
            let check = format!("image {system}");
            findings.push(match images.has(system).await {
                Ok(true) => Finding::ok(&check, "the builder's image is there"),
                Ok(false) => Finding {
                    state: if system == needed { State::Missing } else { State::Optional },
                    ..Finding::missing(
                        &check,
                        format!("there is no builder image, so that nothing is built for {system}"),
                        format!("scripts/image push --stack {name}   # on a machine of that kind"),
                    )
                },
                Err(error) => Finding::unknown(&check, &error),
            });
        }
        findings
    }

    async fn nixpkgs(&self, sdk: &SdkConfig) -> Vec<Finding> {
        let Some(bucket) = self.outputs.get("Bucket") else { return Vec::new() };
        let config = aws_sdk_s3::config::Builder::from(sdk).force_path_style(sdk.endpoint_url().is_some());
        let s3 = aws_sdk_s3::Client::from_conf(config.build());
        let mut findings = Vec::new();
        for (name, Pin { rev }) in self.pins().pins {
            let (check, path) = (format!("nixpkgs {name}"), nixpkgs_path(&rev));
            findings.push(match s3.head_object().bucket(bucket).key(&path).send().await {
                Ok(_) => Finding::ok(&check, format!("its tarball is there ({rev})")),
                Err(error) if matches!(error.as_service_error(), Some(HeadObjectError::NotFound(_))) => {
                    let from = format!("https://github.com/NixOS/nixpkgs/archive/{rev}.tar.gz");
                    let mend = format!("curl -fL {from} | aws s3 cp - s3://{bucket}/{path}");
                    Finding::missing(&check, format!("there is no tarball of {rev}, from which it is built"), mend)
                }
                Err(error) => Finding::unknown(&check, &error),
            });
        }
        findings
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_cloudformation::types::StackStatus;

    #[test]
    fn a_quota_that_is_too_small_is_told_with_the_command_that_raises_it() {
        let [on_demand, _, lambda] = QUOTAS;
        assert_eq!(on_demand.judge(16.0, 16).state, State::Ok);
        let found = on_demand.judge(6.0, 16);
        assert_eq!((found.state, found.told.as_str()), (State::Missing, "6 vCPUs of Fargate on demand; 16 are needed"));
        let mend = "aws service-quotas request-service-quota-increase --service-code fargate \
                    --quota-code L-3032A538 --desired-value 16";
        assert_eq!(found.mend.as_deref(), Some(mend));
        assert_eq!(lambda.judge(10.0, FUNCTIONS_MIN).state, State::Missing);
    }

    #[test]
    fn a_stack_that_is_not_whole_is_told() {
        let stack = |status: &str| Stack::builder().stack_name("s").stack_status(StackStatus::from(status)).build();
        for (status, state) in [
            ("CREATE_COMPLETE", State::Ok),
            ("UPDATE_ROLLBACK_COMPLETE", State::Ok),
            ("ROLLBACK_COMPLETE", State::Missing),
            ("CREATE_IN_PROGRESS", State::Missing),
            ("DELETE_FAILED", State::Missing),
        ] {
            assert_eq!(judge("s", &stack(status)).state, state, "{status}");
        }
    }
}
