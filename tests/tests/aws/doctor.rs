//! `binplz doctor`, as an operator calls it, beside a small stack that has the outputs of the real one.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    process::{Command, Output},
};

use aws_sdk_cloudformation::types::Parameter;
use aws_sdk_kms::types::{KeySpec, KeyUsageType};
use aws_sdk_s3::{
    config::Region,
    types::{BucketLocationConstraint, CreateBucketConfiguration},
};
use binplz_tests::server::program;
use serde_json::{Value, json};

use crate::bed::{Fresh, fresh_in, make_table};

const REV: &str = "abababababababababababababababababababab";

/// An account of its own, which is new: six vCPUs, ten functions, and no role of ECS's.
const ACCOUNT: &str = "200000000019";

fn run(stack: &str, more: &[&str], env: &[(&str, &str)]) -> Output {
    let bed = std::env::var("BINPLZ_BED").expect("BINPLZ_BED: run this by tests/bed/up");
    let mut doctor = Command::new(program("binplz"));
    doctor
        .args(["doctor", "--stack", stack])
        .args(more)
        .env("AWS_ENDPOINT_URL", &bed)
        .env("AWS_ACCESS_KEY_ID", ACCOUNT);
    for (name, value) in env {
        // Nothing: not set.
        if value.is_empty() {
            doctor.env_remove(name)
        } else {
            doctor.env(name, value)
        };
    }
    doctor.output().expect("binplz")
}

/// What the doctor says: its exit code, and each finding's state and command by its name.
fn doctor(stack: &str, more: &[&str], env: &[(&str, &str)]) -> (Option<i32>, Value) {
    let (told, shown) = (run(stack, &[&["--json"], more].concat(), env), run(stack, &[], env));
    let findings: Vec<Value> = serde_json::from_slice(&told.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&told.stderr)));
    let shown = String::from_utf8(shown.stdout).expect("text");
    let mut by_name = json!({});
    // The SAM CLI is this machine's, or not there.
    for finding in findings.into_iter().filter(|finding| finding["check"] != "sam") {
        let check = finding["check"].as_str().expect("a name");
        assert!(shown.contains(&format!(" {check}: ")), "{shown}");
        assert!(!more.is_empty() || finding["mend"].as_str().is_none_or(|mend| shown.contains(mend)), "{shown}");
        by_name[check] = json!([finding["state"], finding["mend"]]);
    }
    (told.status.code(), by_name)
}

#[tokio::test]
#[ignore = "needs AWS beside it: tests/bed/up"]
async fn the_doctor_tells_what_an_account_lacks_and_the_commands_that_mend_it_do() {
    let Fresh { account, settings, .. } = fresh_in(ACCOUNT).await;
    let known = |name: &'static str| settings.need(name).expect("a name");
    let name = settings.need("BINPLZ_CLUSTER").expect("a name");
    let raise = |service: &str, code: &str, to: u32| {
        format!(
            "aws service-quotas request-service-quota-increase --service-code {service} --quota-code {code} --desired-value {to}"
        )
    };

    // Before anything is deployed. Four builds and a catalogue, of four vCPUs each.
    let (code, found) = doctor(&name, &[], &[]);
    assert_eq!(code, Some(1));
    let lambda = json!(["optional", raise("lambda", "L-B99A9384", 1000)]);
    assert_eq!(
        found,
        json!({
            "credentials": ["ok", null], "names": ["ok", null],
            "ecs-role": ["missing", "binplz doctor --fix"],
            "stack": ["missing", "scripts/sam build && scripts/sam deploy --guided"],
            "fargate": ["optional", raise("fargate", "L-3032A538", 20)],
            "fargate-spot": ["optional", raise("fargate", "L-36FBB829", 20)],
            "lambda": lambda,
        })
    );
    // The role is made, and works when this returns.
    let (_, found) = doctor(&name, &["--fix"], &[]);
    assert_eq!(found["ecs-role"], json!(["ok", null]));
    let ecs = aws_sdk_ecs::Client::new(account.sdk());
    ecs.create_cluster().cluster_name("first").capacity_providers("FARGATE").send().await.expect("the role works");
    assert_eq!(ecs.list_clusters().send().await.expect("clusters").cluster_arns().len(), 1);

    // A name that is taken, and what an earlier stack has left.
    let logs = aws_sdk_cloudwatchlogs::Client::new(account.sdk());
    let group = format!("/binplz/{name}/api");
    logs.create_log_group().log_group_name(&group).send().await.expect("a log group");
    make_table(&account, &format!("{name}-Table-1A2B3C")).await;
    let (_, found) = doctor(&name, &[], &[]);
    assert_eq!(found["names"], json!(["missing", format!("aws logs delete-log-group --log-group-name {group}")]));
    let delete = format!("aws dynamodb delete-table --table-name {name}-Table-1A2B3C");
    assert_eq!(found["left over"], json!(["optional", delete]));

    // Deployed for builds that fit into the quotas, and nothing else done.
    let pins = json!({ "default": "p",
        "pins": { "p": { "rev": REV, "nixpkgs": { "stored": { "nar_hash": "sha256-x" } } } } });
    let template = json!({
        "Parameters": {
            "MaxBuilds": { "Type": "Number" }, "ImageTags": { "Type": "CommaDelimitedList" },
            "SigningKeys": { "Type": "CommaDelimitedList" },
        },
        "Resources": {
            "Images": { "Type": "AWS::ECR::Repository", "Properties": { "RepositoryName": format!("{name}/images") } },
        },
        "Outputs": {
            "Table": { "Value": known("BINPLZ_TABLE") },
            "Bucket": { "Value": known("BINPLZ_BUCKET") },
            "Queue": { "Value": known("BINPLZ_QUEUE_URL") },
            "Cluster": { "Value": known("BINPLZ_CLUSTER") },
            "Url": { "Value": "https://binplz.example" },
            "System": { "Value": "x86_64-linux" },
            "Names": { "Value": "known" },
            "BuilderRepository": { "Value": { "Fn::GetAtt": ["Images", "RepositoryUri"] } },
            "BuilderMachine": { "Value": "2048/4096/50" },
            "FirstPins": { "Value": pins.to_string() },
        },
    });
    let cloudformation = aws_sdk_cloudformation::Client::new(account.sdk());
    let parameter = |key: &str, value: &str| Parameter::builder().parameter_key(key).parameter_value(value).build();
    let create = cloudformation.create_stack().stack_name(&name).template_body(template.to_string());
    let create = create.parameters(parameter("MaxBuilds", "2")).parameters(parameter("ImageTags", "x86_64,arm64"));
    let kms = aws_sdk_kms::Client::new(account.sdk());
    let mut keys = Vec::new();
    for _ in 0..2 {
        let key = kms
            .create_key()
            .key_spec(KeySpec::EccNistEdwards25519)
            .key_usage(KeyUsageType::SignVerify)
            .send()
            .await
            .expect("a key");
        keys.push(key.key_metadata().and_then(|key| key.arn()).expect("an ARN").to_owned());
    }
    let create = create.parameters(parameter("SigningKeys", &keys.join(",")));
    create.send().await.expect("a stack");
    loop {
        let found = cloudformation.describe_stacks().stack_name(&name).send().await.expect("stacks");
        match found.stacks()[0].stack_status().map(|status| status.as_str()) {
            Some("CREATE_IN_PROGRESS") => tokio::task::yield_now().await,
            status => break assert_eq!(status, Some("CREATE_COMPLETE")),
        }
    }
    let push = format!("scripts/image push --stack {name}   # on a machine of that architecture");
    let fetch = format!("binplz pin move p {REV} --stack {name}");
    let (code, mut found) = doctor(&name, &[], &[]);
    assert_eq!(code, Some(1));
    found.as_object_mut().expect("findings").remove("left over");
    assert_eq!(
        found,
        json!({
            "credentials": ["ok", null], "builds": ["ok", null],
            "ecs-role": ["ok", null], "stack": ["ok", null], "fargate": ["ok", null], "fargate-spot": ["ok", null],
            "lambda": lambda,
            "image x86_64-linux": ["missing", push], "image aarch64-linux": ["optional", push],
            "nixpkgs p": ["missing", fetch],
            "programs p": ["optional", format!("binplz pin programs p programs.sqlite --stack {name}")],
            "program key": ["ok", null], "log key": ["ok", null],
        })
    );
    kms.disable_key().key_id(&keys[1]).send().await.expect("a key");
    let (_, found) = doctor(&name, &[], &[]);
    assert_eq!(found["log key"], json!(["missing", format!("aws kms enable-key --key-id {}", keys[1])]));
    kms.enable_key().key_id(&keys[1]).send().await.expect("a key");

    // An image, and a tarball.
    let ecr = aws_sdk_ecr::Client::new(account.sdk());
    let image = ecr.put_image().repository_name(format!("{name}/images")).image_tag("x86_64");
    image.image_manifest(r#"{"schemaVersion":2}"#).send().await.expect("an image");
    let s3 = aws_sdk_s3::config::Builder::from(account.sdk()).force_path_style(true).build();
    let put = aws_sdk_s3::Client::from_conf(s3).put_object().bucket(known("BINPLZ_BUCKET"));
    put.key(format!("nixpkgs/{REV}.tar.gz")).body(b"a tarball".to_vec().into()).send().await.expect("it is stored");
    let (_, found) = doctor(&name, &[], &[]);
    for check in ["image x86_64-linux", "nixpkgs p"] {
        assert_eq!(found[check], json!(["ok", null]), "{check}");
    }
    // A check that cannot be made is reported as unknown, and all others are made.
    let (code, found) = doctor(&name, &[], &[("AWS_ENDPOINT_URL_SERVICE_QUOTAS", "http://127.0.0.1:1")]);
    assert_eq!((code, &found["lambda"]), (Some(0), &json!(["unknown", null])));
}

/// The commands for what is left over delete it, so nothing may be reported that a stack could still use.
#[tokio::test]
#[ignore = "needs AWS beside it: tests/bed/up"]
async fn only_what_no_stack_can_use_is_left_over() {
    // Another test changes the usual account meanwhile.
    let own = ("AWS_ACCESS_KEY_ID", "200000000021");
    let Fresh { account, settings, .. } = fresh_in(own.1).await;
    let name = settings.need("BINPLZ_CLUSTER").expect("a name");
    let left = |found: Value| found["left over"].clone();

    // The bucket of a stack of that name in another region.
    let elsewhere = Region::new("eu-west-1");
    assert_ne!(account.sdk().region(), Some(&elsewhere));
    let s3 = aws_sdk_s3::config::Builder::from(account.sdk()).force_path_style(true);
    let other = aws_sdk_s3::Client::from_conf(s3.clone().region(elsewhere).build());
    let there = CreateBucketConfiguration::builder().location_constraint(BucketLocationConstraint::EuWest1).build();
    let bucket = format!("{name}-bucket-1a2b3c");
    other.create_bucket().bucket(&bucket).create_bucket_configuration(there).send().await.expect("a bucket");
    assert_eq!(left(doctor(&name, &[], &[own]).1), Value::Null);
    // The same in this region is left over, as no stack has that name.
    let bucket = format!("{name}-bucket-4d5e6f");
    aws_sdk_s3::Client::from_conf(s3.build()).create_bucket().bucket(&bucket).send().await.expect("a bucket");
    let delete = json!(["optional", format!("aws s3 rb --force s3://{bucket}")]);
    assert_eq!(left(doctor(&name, &[], &[own]).1), delete);

    // CloudFormation does not answer.
    let silent = [own, ("AWS_ENDPOINT_URL_CLOUDFORMATION", "http://127.0.0.1:1")];
    let (_, found) = doctor(&name, &[], &silent);
    assert_eq!(
        (&found["stack"], &found["left over"], &found["names"]),
        (&json!(["unknown", null]), &Value::Null, &Value::Null)
    );

    // There is a stack of that name, which has no outputs while it is made or rolled back.
    let template = json!({ "Resources": { "Images": {
        "Type": "AWS::ECR::Repository", "Properties": { "RepositoryName": format!("{name}/images") } } } });
    let cloudformation = aws_sdk_cloudformation::Client::new(account.sdk());
    let create = cloudformation.create_stack().stack_name(&name).template_body(template.to_string());
    create.send().await.expect("a stack");
    let (_, found) = doctor(&name, &[], &[own]);
    assert_eq!((&found["left over"], &found["names"]), (&Value::Null, &Value::Null));
}

#[test]
#[ignore = "needs AWS beside it: tests/bed/up"]
fn without_credentials_the_doctor_tells_how_to_get_some() {
    let nowhere = [
        ("AWS_REGION", ""),
        ("AWS_DEFAULT_REGION", ""),
        ("AWS_CONFIG_FILE", "/nonexistent"),
        ("AWS_EC2_METADATA_DISABLED", "true"),
    ];
    let told = run("binplz", &["--json"], &nowhere);
    let findings: Vec<Value> = serde_json::from_slice(&told.stdout).expect("findings");
    assert_eq!(told.status.code(), Some(1));
    let credentials = findings.iter().find(|finding| finding["check"] == "credentials").expect("a finding");
    assert_eq!((&credentials["state"], &credentials["mend"]), (&json!("missing"), &json!("aws configure")));
}

/// As after `aws login`, whose profiles the SDK does not read: the AWS CLI gives the credentials to other programs.
#[test]
#[ignore = "needs AWS beside it: tests/bed/up"]
fn a_login_that_only_the_aws_cli_can_use_is_used() {
    let home = tempfile::tempdir().expect("a directory");
    let file = |name: &str, text: &str| {
        let file = home.path().join(name);
        fs::write(&file, text).expect("a file");
        file
    };
    let config = file("config", "[default]\nlogin_session = arn:aws:iam::200000000020:user/operator\n");
    let cli = "#!/bin/sh\n[ \"$*\" = 'configure export-credentials --format process' ] || exit 2\n\
               echo '{\"Version\": 1, \"AccessKeyId\": \"200000000020\", \"SecretAccessKey\": \"x\"}'\n";
    fs::set_permissions(file("aws", cli), fs::Permissions::from_mode(0o755)).expect("its owner may");
    let path = format!("{}:/usr/bin:/bin", home.path().display());
    let login = [
        ("AWS_ACCESS_KEY_ID", ""),
        ("AWS_SECRET_ACCESS_KEY", ""),
        ("AWS_EC2_METADATA_DISABLED", "true"),
        ("AWS_CONFIG_FILE", config.to_str().expect("text")),
        ("PATH", &path),
    ];
    let (_, found) = doctor("binplz", &[], &login);
    assert_eq!(found["credentials"], json!(["ok", null]));
    fs::remove_file(home.path().join("aws")).expect("it was there");
    let (_, found) = doctor("binplz", &[], &login);
    assert_eq!(found["credentials"], json!(["missing", "aws configure"]));
}
