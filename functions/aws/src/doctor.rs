//! Checks of an AWS account and a stack: what a new account lacks, and what operators forget. A check changes nothing;
//! each finding comes with the command that fixes it.

use aws_types::SdkConfig;
use binplz_core::{
    build::size::Size,
    flow::operator::{
        findings::{Finding, State},
        pins,
    },
    id::key::{PinName, System},
    nixpkgs::pins::{NO_PROGRAMS, PROGRAMS_MISSING, Pin, Programs, Source},
};

use crate::{Operating, causes, images::Images, stack::Stack};

/// A check that could not be made.
fn unknown(check: &str, error: &dyn std::error::Error) -> Finding {
    Finding::unknown(check, causes(error))
}

/// A quota, by the names of Service Quotas.
struct Quota {
    check: &'static str,
    service: &'static str,
    code: &'static str,
    of: &'static str,
}

const QUOTAS: [Quota; 3] = [
    Quota { check: "fargate", service: "fargate", code: "L-3032A538", of: "vCPUs of Fargate on demand" },
    Quota { check: "fargate-spot", service: "fargate", code: "L-36FBB829", of: "vCPUs of Fargate Spot" },
    Quota { check: "lambda", service: "lambda", code: "L-B99A9384", of: "concurrent Lambda functions" },
];
/// The number of concurrent functions below which a few simultaneous requests are refused. A new account has 10.
const FUNCTIONS_MIN: u32 = 50;

/// Parallel builds, by the template's default.
const BUILDS: u32 = 4;

/// Makes all checks for the stack of that name.
pub async fn examine(sdk: &SdkConfig, name: &str) -> Vec<Finding> {
    let (found, stack) = look_at_stack(sdk, name).await;
    let mut findings = vec![ecs_role(sdk).await, found];
    let (builds, size) = stack.as_ref().map_or((BUILDS, Size::default()), |stack| (stack.builds(), stack.size()));
    let vcpus = builds.saturating_mul(size.cpu() / 1024);
    for quota in QUOTAS {
        let need = if quota.service == "lambda" { FUNCTIONS_MIN } else { vcpus };
        findings.push(quota.look(sdk, need).await);
    }
    if let Some(stack) = stack {
        findings.extend(stack.images(sdk).await);
        findings.extend(stack.nixpkgs(sdk).await);
    }
    findings
}

/// ECS's service-linked role. ECS creates it with the account's first cluster, but too late for that cluster's own
/// stack.
async fn ecs_role(sdk: &SdkConfig) -> Finding {
    const CHECK: &str = "ecs-role";
    const PATH: &str = "/aws-service-role/ecs.amazonaws.com/";
    match aws_sdk_iam::Client::new(sdk).list_roles().path_prefix(PATH).send().await {
        Ok(found) if !found.roles().is_empty() => Finding::ok(CHECK, "ECS has its role in this account"),
        Ok(_) => {
            let mend = "aws iam create-service-linked-role --aws-service-name ecs.amazonaws.com";
            Finding::missing(CHECK, "ECS has no role in this account (AWSServiceRoleForECS)", mend)
        }
        Err(error) => unknown(CHECK, &error),
    }
}

impl Quota {
    async fn look(&self, sdk: &SdkConfig, need: u32) -> Finding {
        let client = aws_sdk_servicequotas::Client::new(sdk);
        let asked = client.get_service_quota().service_code(self.service).quota_code(self.code).send().await;
        match asked.map(|told| told.quota.and_then(|quota| quota.value)) {
            Ok(Some(have)) => self.judge(have, need),
            Ok(None) => Finding::unknown(self.check, "the quota has no value"),
            Err(error) => unknown(self.check, &error),
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

const STACK: &str = "stack";

async fn look_at_stack(sdk: &SdkConfig, name: &str) -> (Finding, Option<Stack>) {
    match Stack::find(sdk, name).await {
        Ok(Some(stack)) => (judge(name, &stack.status), Some(stack)),
        Ok(None) => {
            let told = format!("no stack {name} in this region");
            (Finding::missing(STACK, told, "sam build && sam deploy --guided"), None)
        }
        Err(error) => (unknown(STACK, &error), None),
    }
}

fn judge(name: &str, status: &str) -> Finding {
    let told = format!("the stack {name} is {status}");
    // A failed update leaves the previous deployment, which works.
    if ["CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE"].contains(&status) {
        Finding::ok(STACK, told)
    } else {
        Finding::missing(STACK, told, format!("aws cloudformation describe-stack-events --stack-name {name}"))
    }
}

impl Stack {
    /// The number of parallel builds.
    fn builds(&self) -> u32 {
        self.parameters.get("MaxBuilds").and_then(|builds| builds.parse().ok()).unwrap_or(BUILDS)
    }

    /// The size of a builder's task.
    fn size(&self) -> Size {
        self.outputs.get("BuilderMachine").and_then(|size| size.parse().ok()).unwrap_or_default()
    }

    async fn images(&self, sdk: &SdkConfig) -> Vec<Finding> {
        // ACCOUNT.dkr.ecr.REGION.amazonaws.com/NAME
        let repository = self.outputs.get("BuilderRepository").and_then(|uri| Some(uri.split_once('/')?.1));
        let tags = self.parameters.get("ImageTags").map(|tags| tags.split(',').map(str::to_owned).collect());
        let (Some(repository), Some(tags)) = (repository, tags) else { return Vec::new() };
        let images = match Images::of(sdk, repository, tags) {
            Ok(images) => images,
            Err(fault) => return vec![unknown("image", &fault)],
        };
        let needed = self.outputs.get("System").and_then(|system| system.parse().ok()).unwrap_or(System::X86_64Linux);
        let mut findings = Vec::new();
        for system in System::ALL {
            let check = format!("image {system}");
            findings.push(match images.has(system).await {
                Ok(true) => Finding::ok(&check, "the builder's image exists"),
                Ok(false) => Finding {
                    state: if system == needed { State::Missing } else { State::Optional },
                    ..Finding::missing(
                        &check,
                        format!("no builder image, so nothing is built for {system}"),
                        format!("scripts/image push --stack {}   # on a machine of that architecture", self.name),
                    )
                },
                Err(error) => unknown(&check, &error),
            });
        }
        findings
    }

    /// The tarballs of the pins that are served, and their databases of programs.
    async fn nixpkgs(&self, sdk: &SdkConfig) -> Vec<Finding> {
        let operating = match self.operating(sdk).await {
            Ok(operating) => operating,
            Err(fault) => return vec![unknown("pins", &fault)],
        };
        let pins = match pins::load(&operating).await {
            Ok(pins) => pins,
            Err(error) => return vec![unknown("pins", &error)],
        };
        let mut findings = Vec::new();
        for (name, Pin { rev, nixpkgs, programs, .. }) in pins.all() {
            findings.push(self.programs(&operating, name, programs.as_ref()).await);
            // Builders download other sources themselves.
            let Source::Stored { .. } = nixpkgs else { continue };
            let check = format!("nixpkgs {name}");
            findings.push(match operating.store.has_nixpkgs(rev).await {
                Ok(true) => Finding::ok(&check, format!("its tarball is stored ({rev})")),
                Ok(false) => {
                    let mend = format!("binplz pin move {name} {rev} --stack {}", self.name);
                    Finding::missing(
                        &check,
                        format!("the tarball of {rev} is missing, so nothing is built from it"),
                        mend,
                    )
                }
                Err(error) => unknown(&check, &error),
            });
        }
        findings
    }

    async fn programs(&self, operating: &Operating, name: &PinName, programs: Option<&Programs>) -> Finding {
        let check = format!("programs {name}");
        let mend = format!("binplz pin programs {name} programs.sqlite --stack {}", self.name);
        let stored = match programs {
            Some(Programs::Included) => return Finding::ok(&check, "its nixpkgs has a database of programs"),
            Some(Programs::Stored(content)) => operating.store.has_programs(&content.sha256).await,
            None => {
                return Finding { state: State::Optional, ..Finding::missing(&check, NO_PROGRAMS, mend) };
            }
        };
        match stored {
            Ok(true) => Finding::ok(&check, "its database of programs is stored"),
            Ok(false) => Finding::missing(&check, PROGRAMS_MISSING, mend),
            Err(error) => unknown(&check, &error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        for (status, state) in [
            ("CREATE_COMPLETE", State::Ok),
            ("UPDATE_ROLLBACK_COMPLETE", State::Ok),
            ("ROLLBACK_COMPLETE", State::Missing),
            ("CREATE_IN_PROGRESS", State::Missing),
            ("DELETE_FAILED", State::Missing),
        ] {
            assert_eq!(judge("s", status).state, state, "{status}");
        }
    }
}
