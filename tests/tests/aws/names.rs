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
    "Name",
    "PolicyName",
    "QueueName",
    "RepositoryName",
    "RoleName",
    "TableName",
    "TopicName",
];

/// A name in the template.
#[derive(Debug)]
struct Named<'t> {
    of: &'t str,
    kind: &'t str,
    value: &'t str,
}

/// All resources' own names: a property, or the name in the configuration that is its property.
fn named() -> Vec<Named<'static>> {
    let resources =
        TEMPLATE.split_once("\nResources:\n").expect("resources").1.split("\nOutputs:").next().expect("one");
    let (mut of, mut kind, mut names) = ("", "", Vec::new());
    for line in resources.lines() {
        let text = line.trim_start();
        let indent = line.len() - text.len();
        let Some((key, value)) = text.split_once(':').filter(|_| !text.starts_with(['#', '-'])) else { continue };
        match (indent, key) {
            (2, of_it) => (of, kind) = (of_it, ""),
            (4, "Type") => kind = value.trim(),
            (6, key) if NAMES.contains(&key) => names.push(Named { of, kind, value: value.trim() }),
            (8, "Name") if kind.starts_with("AWS::CloudFront::") => names.push(Named { of, kind, value: value.trim() }),
            _ => {}
        }
    }
    names
}

/// Whether names of that kind are shared by all regions of an account, or by all accounts.
fn is_global(kind: &str) -> bool {
    ["AWS::CloudFront::", "AWS::IAM::", "AWS::S3::Bucket"].iter().any(|global| kind.starts_with(global))
        || kind == "AWS::CloudWatch::Dashboard"
}

#[test]
fn every_name_is_the_stacks_own_and_a_global_one_also_the_regions() {
    let names = named();
    assert!(names.len() > 12, "{names:?}");
    for named in &names {
        // An alias of the operator's own domain, and a permission's or a mapping's function.
        let elsewhere = ["!Ref DomainName", "!Ref ApiFunction", "!Ref WaitFunction", "!Ref LeaseFunction"];
        if elsewhere.contains(&named.value) {
            continue;
        }
        assert!(named.value.contains("AWS::StackName"), "{named:?} is not the stack's own");
        assert!(!is_global(named.kind) || named.value.contains("${AWS::Region}"), "{named:?} is not the region's own");
    }
    // Those that are known to have a name, so that this test sees them.
    for of in ["Dashboard", "AccessLog", "TaskX86", "BucketAccess", "AnswerCache", "Edge"] {
        assert!(names.iter().any(|named| named.of == of), "{of} has no name");
    }
}

/// Elsewhere, each access log lengthens the account's one resource policy of CloudWatch Logs, of at most 5,120 characters.
#[test]
fn the_gateways_access_log_is_a_vended_log() {
    let log = named().into_iter().find(|named| named.of == "AccessLog").expect("it has a name");
    assert!(log.value.contains("/aws/vendedlogs/"), "{log:?}");
}
