//! The names that the template gives its resources: two stacks, and two regions, have none in common.

const TEMPLATE: &str = include_str!("../../../template.yaml");

/// Properties that name the resource itself, in an account and region or beyond.
const NAMES: [&str; 16] = [
    "AlarmName",
    "BucketName",
    "ClusterName",
    "DashboardName",
    "DBInstanceIdentifier",
    "Family",
    "FunctionName",
    "GroupName",
    "LogGroupName",
    "ManagedPolicyName",
    "Name",
    "QueueName",
    "RepositoryName",
    "RoleName",
    "TableName",
    "TopicName",
];

/// The types whose property, or whose configuration's property, `Name` is such a name.
const NAMED: [&str; 5] = [
    "ApiGatewayV2::Api",
    "CloudFront::CachePolicy",
    "CloudFront::Function",
    "CloudFront::OriginAccessControl",
    "CloudFront::OriginRequestPolicy",
];

/// A name in the template.
#[derive(Debug)]
struct Named<'t> {
    of: &'t str,
    kind: &'t str,
    value: &'t str,
}

/// All resources' own names. A reference to another resource is no name.
fn named() -> Vec<Named<'static>> {
    let resources =
        TEMPLATE.split_once("\nResources:\n").expect("resources").1.split("\nOutputs:").next().expect("one");
    let (mut of, mut kind, mut names) = ("", "", Vec::new());
    for line in resources.lines().filter(|line| !line.trim_start().starts_with('#')) {
        if let Some(name) = line.strip_prefix("  ").filter(|line| !line.starts_with(' ')) {
            (of, kind) = (name.split(':').next().unwrap_or_default(), "");
        }
        if let Some((_, rest)) = line.split_once("Type: AWS::").filter(|_| kind.is_empty()) {
            kind = rest.split([',', '}']).next().unwrap_or_default();
        }
        for key in NAMES.iter().filter(|key| **key != "Name" || NAMED.contains(&kind)) {
            let found = line.match_indices(key).filter(|(at, _)| line[..*at].ends_with([' ', '{']));
            let values = found.filter_map(|(at, _)| line[at + key.len()..].strip_prefix(": "));
            names.extend(values.map(value).filter(|value| !value.starts_with("!Ref ")).map(|value| Named {
                of,
                kind,
                value,
            }));
        }
    }
    names
}

/// A value, in quotes or not, up to the next one in the line.
fn value(text: &str) -> &str {
    let text = text.strip_prefix("!Sub ").unwrap_or(text);
    match text.strip_prefix('\'') {
        Some(quoted) => quoted.split('\'').next().unwrap_or_default(),
        None => text.split([',', '}']).next().unwrap_or_default(),
    }
}

/// Whether names of that kind are shared by all regions of an account, or by all accounts.
fn is_global(kind: &str) -> bool {
    ["CloudFront::", "IAM::", "S3::Bucket"].iter().any(|global| kind.starts_with(global))
        || kind == "CloudWatch::Dashboard"
}

#[test]
fn every_name_is_the_stacks_own_and_a_global_one_also_the_regions() {
    let names = named();
    for named in &names {
        assert!(named.value.contains("AWS::StackName"), "{named:?} is not the stack's own");
        assert!(!is_global(named.kind) || named.value.contains("${AWS::Region}"), "{named:?} is not the region's own");
    }
    // Those that are known to have a name, so that this test sees them.
    for of in ["Dashboard", "AccessLog", "ReaperLog", "TaskX86", "BucketAccess", "AnswerCache", "Edge", "FileNames"] {
        assert!(names.iter().any(|named| named.of == of), "{of} has no name: {names:?}");
    }
}

/// Elsewhere, each access log lengthens the account's one resource policy of CloudWatch Logs, of at most 5,120 characters.
#[test]
fn the_gateways_access_log_is_a_vended_log() {
    let log = named().into_iter().find(|named| named.of == "AccessLog").expect("it has a name");
    assert!(log.value.starts_with("/aws/vendedlogs/"), "{log:?}");
}
