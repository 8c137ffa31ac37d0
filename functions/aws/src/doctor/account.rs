//! The account: credentials, ECS's service-linked role, quotas, and names that a deployment would run into.

use std::time::Duration;

use aws_sdk_servicequotas::operation::get_service_quota::GetServiceQuotaError;
use aws_types::SdkConfig;
use binplz_core::{
    build::size::Size,
    flow::operator::findings::{Finding, State},
};
use tokio::time::sleep;

use super::unknown;
use crate::{causes, stack::Stack};

/// Who asks, and in which account and region: a mistake there is found last.
pub(super) async fn identity(sdk: &SdkConfig) -> Finding {
    const CHECK: &str = "credentials";
    let region = sdk.region().map_or("no region", |region| region.as_ref());
    match aws_sdk_sts::Client::new(sdk).get_caller_identity().send().await {
        Ok(caller) => {
            let (account, arn) = (caller.account().unwrap_or("unknown"), caller.arn().unwrap_or("unknown"));
            Finding::ok(CHECK, format!("account {account}, region {region}, as {arn}"))
        }
        Err(error) => Finding::missing(CHECK, causes(&error), "aws sts get-caller-identity"),
    }
}

const ROLE: &str = "ecs-role";
/// How long a new role may take until it works.
const ROLE_DELAY: Duration = Duration::from_secs(120);
const PROBE: &str = "binplz-doctor-probe";

/// ECS's service-linked role. ECS creates it with the account's first cluster, but too late for that cluster's own
/// stack.
pub(super) async fn ecs_role(sdk: &SdkConfig, fix: bool) -> Finding {
    const PATH: &str = "/aws-service-role/ecs.amazonaws.com/";
    let iam = aws_sdk_iam::Client::new(sdk);
    match iam.list_roles().path_prefix(PATH).send().await {
        Ok(found) if !found.roles().is_empty() => Finding::ok(ROLE, "ECS has its role in this account"),
        Ok(_) if fix => match iam.create_service_linked_role().aws_service_name("ecs.amazonaws.com").send().await {
            Ok(_) => works(sdk).await,
            Err(error) => Finding::missing(ROLE, causes(&error), CREATE),
        },
        Ok(_) => {
            Finding::missing(ROLE, "ECS has no role in this account (AWSServiceRoleForECS)", "binplz doctor --fix")
        }
        Err(error) => unknown(ROLE, &error),
    }
}

const CREATE: &str = "aws iam create-service-linked-role --aws-service-name ecs.amazonaws.com";

/// Waits until a cluster with capacity providers can be created, which needs the role.
async fn works(sdk: &SdkConfig) -> Finding {
    let ecs = aws_sdk_ecs::Client::new(sdk);
    let mut waited = Duration::ZERO;
    loop {
        match ecs.create_cluster().cluster_name(PROBE).capacity_providers("FARGATE").send().await {
            Ok(_) => break,
            Err(error) if waited >= ROLE_DELAY => return Finding::missing(ROLE, causes(&error), "binplz doctor"),
            Err(_) => sleep(Duration::from_secs(1)).await,
        }
        waited += Duration::from_secs(1);
    }
    match ecs.delete_cluster().cluster(PROBE).send().await {
        Ok(_) => Finding::ok(ROLE, "ECS's role was created, and works"),
        Err(error) => {
            let told =
                format!("ECS's role was created, and works; a cluster without tasks is left: {}", causes(&error));
            let mend = format!("aws ecs delete-cluster --cluster {PROBE}");
            Finding { state: State::Optional, ..Finding::missing(ROLE, told, mend) }
        }
    }
}

/// A quota, by the names of Service Quotas.
struct Quota {
    check: &'static str,
    service: &'static str,
    code: &'static str,
    of: &'static str,
    /// AWS's default value. Service Quotas refuses an increase to less, also if the account's own value is lower.
    default: u32,
    /// Why more is needed, and what happens until then.
    why: &'static str,
}

const BUILDS: &str = "for all builds in parallel; until then, some builds wait";
const ON_DEMAND: Quota = Quota {
    check: "fargate",
    service: "fargate",
    code: "L-3032A538",
    of: "vCPUs of Fargate on demand",
    default: 6,
    why: BUILDS,
};
const SPOT: Quota = Quota {
    check: "fargate-spot",
    service: "fargate",
    code: "L-36FBB829",
    of: "vCPUs of Fargate Spot",
    default: 6,
    why: BUILDS,
};
const LAMBDA: Quota = Quota {
    check: "lambda",
    service: "lambda",
    code: "L-B99A9384",
    of: "concurrent Lambda functions",
    default: 1000,
    why: "for many clients at a time; until then some of their requests are refused",
};
/// The number of concurrent functions below which a few simultaneous requests are refused. A new account has 10.
const FUNCTIONS_MIN: u32 = 50;

/// The account's quotas, compared with those of so many parallel builds of that size, and of a catalogue beside them.
pub(super) async fn quotas(sdk: &SdkConfig, builds: u32, catalogue: bool, size: Size) -> Vec<Finding> {
    let task = size.cpu().div_ceil(1024);
    let all = builds.saturating_add(catalogue.into()).saturating_mul(task);
    let judge = async |quota: Quota, need, least| match quota.value(sdk).await {
        Ok(have) => quota.judge(have, need, least),
        Err(finding) => finding,
    };
    vec![
        judge(ON_DEMAND, all, task).await,
        // What Spot has no room for is started on demand.
        judge(SPOT, all, 0).await,
        judge(LAMBDA, FUNCTIONS_MIN, 0).await,
    ]
}

impl Quota {
    /// The account's own value, or AWS's default if it has none.
    async fn value(&self, sdk: &SdkConfig) -> Result<f64, Finding> {
        let client = aws_sdk_servicequotas::Client::new(sdk);
        let own = client.get_service_quota().service_code(self.service).quota_code(self.code).send().await;
        let quota = match own {
            Ok(own) => own.quota,
            Err(error) if error.as_service_error().is_some_and(GetServiceQuotaError::is_no_such_resource_exception) => {
                let default = client.get_aws_default_service_quota();
                let default = default.service_code(self.service).quota_code(self.code).send().await;
                default.map_err(|error| unknown(self.check, &error))?.quota
            }
            Err(error) => return Err(unknown(self.check, &error)),
        };
        quota.and_then(|quota| quota.value).ok_or_else(|| Finding::unknown(self.check, "the quota has no value"))
    }

    /// `need`: what all tasks take at a time; below `least`, none can start.
    fn judge(&self, have: f64, need: u32, least: u32) -> Finding {
        let Quota { check, service, code, of, default, why } = self;
        let told = format!("{have} {of}; {need} are needed");
        if have >= need.into() {
            return Finding::ok(check, told);
        }
        let wanted = need.max(*default);
        let mend = format!(
            "aws service-quotas request-service-quota-increase --service-code {service} --quota-code {code} --desired-value {wanted}"
        );
        match have < least.into() {
            true => Finding::missing(check, told, mend),
            false => {
                let told = format!("{told} {why}");
                Finding { state: State::Optional, ..Finding::missing(check, told, mend) }
            }
        }
    }
}

/// The longest name of a stack that has a domain: CloudFront accepts 64 characters for `NAME-REGION-names`.
fn longest_with_domain(region: &str) -> usize {
    64 - "--names".len() - region.len()
}

/// What has a name that a new stack's resources would get, which fails its creation, and a name that is too long.
pub(super) async fn collisions(sdk: &SdkConfig, name: &str) -> Vec<Finding> {
    const CHECK: &str = "names";
    let logs = aws_sdk_cloudwatchlogs::Client::new(sdk);
    let mut findings = Vec::new();
    for prefix in [format!("/binplz/{name}/"), format!("/aws/vendedlogs/binplz/{name}/")] {
        match logs.describe_log_groups().log_group_name_prefix(&prefix).send().await {
            Ok(found) => findings.extend(found.log_groups().iter().filter_map(|group| {
                let group = group.log_group_name()?;
                let mend = format!("aws logs delete-log-group --log-group-name {group}");
                Some(Finding::missing(CHECK, format!("the log group {group} exists already"), mend))
            })),
            Err(error) => findings.push(unknown(CHECK, &error)),
        }
    }
    if findings.is_empty() {
        findings.push(Finding::ok(CHECK, format!("no name of a stack {name} is taken")));
    }
    let longest = longest_with_domain(sdk.region().map_or("", |region| region.as_ref()));
    if name.len() > longest {
        let told =
            format!("a stack with a DomainName may have a name of {longest} characters; this has {}", name.len());
        let mend = "scripts/sam deploy --guided   # with a shorter name, if it gets a domain";
        findings.push(Finding { state: State::Optional, ..Finding::missing("name", told, mend) });
    }
    findings
}

/// The tables and buckets of former stacks of that name, which are kept and billed.
pub(super) async fn leftovers(sdk: &SdkConfig, name: &str, stack: Option<&Stack>) -> Vec<Finding> {
    const CHECK: &str = "left over";
    let is_own = |output: &str, found: &str| {
        stack.is_some_and(|stack| stack.outputs.get(output).is_some_and(|own| own == found))
    };
    let mut findings = Vec::new();
    let mut left = |what: String, mend: String| {
        let told = format!("{what} is left from an earlier stack {name}, and is billed");
        findings.push(Finding { state: State::Optional, ..Finding::missing(CHECK, told, mend) });
    };
    let tables = aws_sdk_dynamodb::Client::new(sdk).list_tables().into_paginator().items().send();
    match tables.collect::<Result<Vec<_>, _>>().await {
        Ok(tables) => {
            let prefix = format!("{name}-Table-");
            for table in tables.iter().filter(|table| table.starts_with(&prefix) && !is_own("Table", table)) {
                left(format!("the table {table}"), format!("aws dynamodb delete-table --table-name {table}"));
            }
        }
        Err(error) => return vec![unknown(CHECK, &error)],
    }
    let prefix = format!("{}-bucket-", name.to_lowercase());
    let buckets = aws_sdk_s3::Client::new(sdk).list_buckets().prefix(&prefix);
    // Without a region, S3 lists those of all regions: a stack of that name may use its bucket in another one.
    match buckets.set_bucket_region(sdk.region().map(ToString::to_string)).send().await {
        Ok(found) => {
            let names = found.buckets().iter().filter_map(|bucket| bucket.name());
            for bucket in names.filter(|bucket| !is_own("Bucket", bucket)) {
                left(format!("the bucket {bucket}"), format!("aws s3 rb --force s3://{bucket}"));
            }
        }
        Err(error) => return vec![unknown(CHECK, &error)],
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_name_of_a_stack_is_that_of_which_cloudfront_accepts_all_that_it_gives() {
        let template = include_str!("../../../../template.yaml");
        let region = "ap-southeast-2";
        let name = "n".repeat(longest_with_domain(region));
        let mut longest = 0;
        for line in template.lines().filter(|line| line.contains("Name: !Sub '${AWS::StackName}-${AWS::Region}")) {
            let given = line.split('\'').nth(1).expect("a name");
            longest = longest.max(given.replace("${AWS::StackName}", &name).replace("${AWS::Region}", region).len());
        }
        assert_eq!(longest, 64);
    }

    #[test]
    fn a_quota_that_is_too_small_is_told_with_the_command_that_raises_it() {
        assert_eq!(ON_DEMAND.judge(20.0, 20, 4).state, State::Ok);
        let mend = "aws service-quotas request-service-quota-increase --service-code fargate \
                    --quota-code L-3032A538 --desired-value 20";
        // One task fits, so that builds wait for each other; or none.
        for (have, state) in [(6.0, State::Optional), (2.0, State::Missing)] {
            let found = ON_DEMAND.judge(have, 20, 4);
            assert_eq!((found.state, found.mend.as_deref()), (state, Some(mend)));
            assert!(found.told.starts_with(&format!("{have} vCPUs of Fargate on demand; 20 are needed")));
        }
        assert_eq!(SPOT.judge(0.0, 20, 0).state, State::Optional);
        let functions = LAMBDA.judge(10.0, FUNCTIONS_MIN, 0);
        assert!(functions.state == State::Optional && functions.mend.is_some_and(|mend| mend.ends_with(" 1000")));
    }
}
