//! `binplz doctor`, as an operator calls it, beside a small stack that has the outputs of the real one.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    process::Command,
    thread,
};

use aws_sdk_cloudformation::types::Parameter;
use binplz_tests::server::program;
use serde_json::{Value, json};

use crate::bed::{Fresh, fresh};

const REV: &str = "abababababababababababababababababababab";

/// Service Quotas, which the bed has not, as far as it is asked here: every quota is 6. Gives its URL.
fn quotas() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.expect("a client"));
            let mut length = 0;
            loop {
                let mut line = String::new();
                stream.read_line(&mut line).expect("a header");
                let line = line.to_ascii_lowercase();
                length = line.strip_prefix("content-length: ").map_or(length, |n| n.trim().parse().expect("a number"));
                if line.trim().is_empty() {
                    break;
                }
            }
            std::io::copy(&mut (&mut stream).take(length), &mut std::io::sink()).expect("a body");
            let body = r#"{"Quota":{"ServiceCode":"fargate","QuotaCode":"L-3032A538","Value":6.0,"Adjustable":true}}"#;
            let head = format!("content-type: application/x-amz-json-1.1\r\ncontent-length: {}", body.len());
            let answer = format!("HTTP/1.1 200 OK\r\n{head}\r\nconnection: close\r\n\r\n{body}");
            stream.get_mut().write_all(answer.as_bytes()).expect("to answer");
        }
    });
    url
}

/// What the doctor says: its exit code, and each finding's state and command by its name.
fn doctor(stack: &str, quotas: &str) -> (Option<i32>, Value) {
    let bed = std::env::var("BINPLZ_BED").expect("BINPLZ_BED: run this by tests/bed/up");
    let doctor = |more: &[&str]| {
        let mut doctor = Command::new(program("binplz"));
        doctor.args(["doctor", "--stack", stack]).args(more).env("AWS_ENDPOINT_URL", &bed);
        doctor.env("AWS_ENDPOINT_URL_SERVICE_QUOTAS", quotas).output().expect("binplz")
    };
    let (told, shown) = (doctor(&["--json"]), doctor(&[]));
    let findings: Vec<Value> = serde_json::from_slice(&told.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&told.stderr)));
    let shown = String::from_utf8(shown.stdout).expect("text");
    let mut by_name = json!({});
    for finding in findings {
        let check = finding["check"].as_str().expect("a name");
        assert!(shown.contains(&format!(" {check}: ")), "{shown}");
        assert!(finding["mend"].as_str().is_none_or(|command| shown.contains(command)), "{shown}");
        by_name[check] = json!([finding["state"], finding["mend"]]);
    }
    (told.status.code(), by_name)
}

#[tokio::test]
#[ignore = "needs AWS beside it: tests/bed/up"]
async fn the_doctor_tells_what_an_account_lacks_and_the_commands_that_mend_it_do() {
    let Fresh { account, settings, .. } = fresh().await;
    let known = |name: &'static str| settings.need(name).expect("a name");
    let name = settings.need("BINPLZ_CLUSTER").expect("a name");
    let quotas = quotas();
    let raise = |service: &str, code: &str, to: u32| {
        format!(
            "aws service-quotas request-service-quota-increase --service-code {service} --quota-code {code} --desired-value {to}"
        )
    };

    // Before anything is deployed.
    let iam = aws_sdk_iam::Client::new(account.sdk());
    let made = iam.list_roles().path_prefix("/aws-service-role/ecs.amazonaws.com/").send().await.expect("roles");
    for role in made.roles() {
        iam.delete_service_linked_role().role_name(role.role_name()).send().await.expect("it goes");
    }
    let (code, found) = doctor(&name, &quotas);
    assert_eq!(code, Some(1));
    assert_eq!(
        found,
        json!({
            "ecs-role": ["missing", "aws iam create-service-linked-role --aws-service-name ecs.amazonaws.com"],
            "stack": ["missing", "sam build && sam deploy --guided"],
            "fargate": ["missing", raise("fargate", "L-3032A538", 16)],
            "fargate-spot": ["missing", raise("fargate", "L-36FBB829", 16)],
            "lambda": ["missing", raise("lambda", "L-B99A9384", 50)],
        })
    );

    // Deployed for builds that fit into the quotas, and nothing else done.
    iam.create_service_linked_role().aws_service_name("ecs.amazonaws.com").send().await.expect("a role");
    let pins = json!({ "default": "p",
        "pins": { "p": { "rev": REV, "nixpkgs": { "stored": { "nar_hash": "sha256-x" } } } } });
    let template = json!({
        "Parameters": { "MaxBuilds": { "Type": "Number" }, "ImageTags": { "Type": "CommaDelimitedList" } },
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
    let create = create.parameters(parameter("MaxBuilds", "3")).parameters(parameter("ImageTags", "x86_64,arm64"));
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
    let (code, found) = doctor(&name, &quotas);
    assert_eq!(code, Some(1));
    let lambda = json!(["missing", raise("lambda", "L-B99A9384", 50)]);
    assert_eq!(
        found,
        json!({
            "ecs-role": ["ok", null], "stack": ["ok", null], "fargate": ["ok", null], "fargate-spot": ["ok", null],
            "lambda": lambda,
            "image x86_64-linux": ["missing", push], "image aarch64-linux": ["optional", push],
            "nixpkgs p": ["missing", fetch],
            "programs p": ["optional", format!("binplz pin programs p programs.sqlite --stack {name}")],
        })
    );

    // An image, and a tarball.
    let ecr = aws_sdk_ecr::Client::new(account.sdk());
    let image = ecr.put_image().repository_name(format!("{name}/images")).image_tag("x86_64");
    image.image_manifest(r#"{"schemaVersion":2}"#).send().await.expect("an image");
    let s3 = aws_sdk_s3::config::Builder::from(account.sdk()).force_path_style(true).build();
    let put = aws_sdk_s3::Client::from_conf(s3).put_object().bucket(known("BINPLZ_BUCKET"));
    put.key(format!("nixpkgs/{REV}.tar.gz")).body(b"a tarball".to_vec().into()).send().await.expect("it is stored");
    let (_, found) = doctor(&name, &quotas);
    for check in ["image x86_64-linux", "nixpkgs p"] {
        assert_eq!(found[check], json!(["ok", null]), "{check}");
    }
    // A check that cannot be made is reported as unknown, and all others are made.
    let (code, found) = doctor(&name, "http://127.0.0.1:1");
    assert_eq!((code, &found["lambda"]), (Some(0), &json!(["unknown", null])));
}
