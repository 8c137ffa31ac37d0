//! What each role may do, and nothing else: by the policies of the template, as the bed enforces them in all tests.

use binplz_tests::stack::ask;
use serde_json::{Value, json};

use crate::watched::{Watched, watched};

/// The roles of the template, each with its letter in the table.
const ROLES: [(char, &str); 7] = [
    ('a', "ApiRole"),
    ('l', "LeaseRole"),
    ('d', "DispatcherRole"),
    ('r', "ReaperRole"),
    ('c', "CollectorRole"),
    ('p', "PromoterRole"),
    ('t', "TaskExecutionRole"),
];

/// A request: who may make it; then its service, operation and parameters, by boto3's names.
type Row = (&'static str, &'static str, &'static str, Value);

/// All of these are valid requests: the account's root makes each of them once.
fn table(w: &Watched) -> Vec<Row> {
    let (queue, dead, bucket, cluster) =
        (&w.outputs["Queue"], &w.outputs["DeadLetters"], &w.outputs["Bucket"], &w.outputs["Cluster"]);
    let row = |pk: &str| json!({ "TableName": w.outputs["Table"], "Key": { "pk": { "S": pk } } });
    let put = |pk: &str| json!({ "TableName": w.outputs["Table"], "Item": { "pk": { "S": pk } } });
    let both = |a, b| json!({ "TransactItems": [{ "Put": put(a) }, { "Put": put(b) }] });
    let with = |condition: &str, value: &str, index: Option<&str>| {
        let mut query = json!({ "TableName": w.outputs["Table"], "KeyConditionExpression": condition,
            "ExpressionAttributeValues": { ":v": { "S": value } } });
        query.as_object_mut().expect("an object").extend(index.map(|index| ("IndexName".to_owned(), index.into())));
        query
    };
    let object = |key: &str| json!({ "Bucket": bucket, "Key": key });
    let objects = |keys: [&str; 2]| {
        let keys = keys.map(|key| json!({ "Key": key }));
        json!({ "Bucket": bucket, "Delete": { "Objects": keys } })
    };
    let content = |key: &str| json!({ "Bucket": bucket, "Key": key, "Body": "x" });
    let definition = |name: &str| {
        cluster.replace(":cluster/", ":task-definition/").replace(&format!("{}-Cluster", w.name), name) + ":1"
    };
    let run = |cluster: &str, name: &str| json!({ "cluster": cluster, "taskDefinition": definition(name) });
    let ours = format!("{}-x86_64", w.name);
    let with_role = |role: &str| json!({ "cluster": cluster, "taskDefinition": definition(&ours), "overrides": { "taskRoleArn": w.scenario.session(role).role } });
    let another = cluster.replace("-Cluster", "-another");
    let no_task = |cluster: &str| format!("{}/{}", cluster.replace(":cluster/", ":task/"), "0".repeat(32));
    let repository = w.outputs["BuilderRepository"].rsplit('/').next().expect("a name");
    let stream = |log: &str| json!({ "logGroupName": format!("{}{log}", w.outputs["Logs"]), "logStreamName": "x" });
    let secret =
        w.resources().into_iter().find(|id| id.contains("CacheSecret")).expect("what the cache is signed with");
    let metric = json!({ "Namespace": "binplz", "MetricName": "ServedBytes", "StartTime": 0, "EndTime": 60, "Period": 60, "Statistics": ["Sum"] });
    let segment = "builds/rev/system/attr/lease/log/000001";
    let partial = "builds/rev/system/-catalogue/lease/partial/000001";
    let mut table = vec![
        // Rows, by what their keys begin with.
        ("aldrpc", "dynamodb", "get_item", row("build/x")),
        ("aldrc", "dynamodb", "put_item", put("build/x")),
        ("arc", "dynamodb", "put_item", put("served/x")),
        ("l", "dynamodb", "put_item", put("derivation/x")),
        ("ldrp", "dynamodb", "put_item", put("dependency/x")),
        ("ldr", "dynamodb", "transact_write_items", both("build/x", "dependency/x")),
        ("c", "dynamodb", "delete_item", row("dependency/x")),
        ("l", "dynamodb", "put_item", put("past/x")),
        ("l", "dynamodb", "put_item", put("learned/x")),
        ("lc", "dynamodb", "put_item", put("doomed/x")),
        ("r", "dynamodb", "put_item", put("pins")),
        ("ldrc", "dynamodb", "put_item", put("limits")),
        ("a", "dynamodb", "put_item", put("client/x")),
        ("", "dynamodb", "put_item", put("keys")),
        ("a", "dynamodb", "transact_write_items", both("build/x", "client/x")),
        ("", "dynamodb", "transact_write_items", both("client/x", "limits")),
        ("l", "dynamodb", "put_item", put("progress/x")),
        ("", "dynamodb", "put_item", put("limits2")),
        ("", "dynamodb", "put_item", put("other")),
        ("ldrc", "dynamodb", "transact_write_items", both("build/x", "limits")),
        ("l", "dynamodb", "transact_write_items", both("build/x", "derivation/x")),
        ("arc", "dynamodb", "transact_write_items", both("build/x", "served/x")),
        ("", "dynamodb", "transact_write_items", both("build/x", "other")),
        ("aldr", "dynamodb", "query", with("shelf = :v", "queued", Some("shelves"))),
        ("", "dynamodb", "query", with("pk = :v", "limits", None)),
        ("c", "dynamodb", "scan", json!({ "TableName": w.outputs["Table"] })),
        ("", "dynamodb", "update_item", row("build/x")),
        ("aldrc", "dynamodb", "get_item", row("pins")),
        ("aldrc", "dynamodb", "get_item", row("limits")),
        ("c", "dynamodb", "put_item", put("trash/x")),
        ("c", "dynamodb", "delete_item", row("build/x")),
        ("c", "dynamodb", "delete_item", row("derivation/x")),
        ("c", "dynamodb", "delete_item", row("served/x")),
        ("c", "dynamodb", "delete_item", row("past/x")),
        ("c", "dynamodb", "delete_item", row("learned/x")),
        ("c", "dynamodb", "delete_item", row("client/x")),
        ("", "dynamodb", "delete_item", row("keys")),
        ("c", "dynamodb", "delete_item", row("trash/x")),
        ("c", "dynamodb", "delete_item", row("progress/x")),
        ("", "dynamodb", "delete_item", row("pins")),
        ("", "dynamodb", "delete_item", row("limits")),
        ("", "dynamodb", "delete_item", row("doomed/x")),
        // The doorbell. (A message that is sent here arrives after the test.)
        ("aldrcp", "sqs", "send_message", json!({ "QueueUrl": queue, "MessageBody": "ring", "DelaySeconds": 900 })),
        ("d", "sqs", "receive_message", json!({ "QueueUrl": queue })),
        ("d", "sqs", "get_queue_attributes", json!({ "QueueUrl": queue, "AttributeNames": ["QueueArn"] })),
        ("rcp", "sqs", "send_message", json!({ "QueueUrl": dead, "MessageBody": "x" })),
        ("", "sqs", "purge_queue", json!({ "QueueUrl": queue })),
        ("", "sqs", "receive_message", json!({ "QueueUrl": dead })),
        // Objects.
        ("l", "s3", "put_object", content("builds/x")),
        ("alc", "s3", "get_object", object("builds/x")),
        ("l", "s3", "put_object", content("blobs/x")),
        ("alc", "s3", "get_object", object("blobs/x")),
        ("c", "s3", "delete_object", object("blobs/y")),
        ("", "s3", "put_object", content("nixpkgs/x.tar.gz")),
        ("ld", "s3", "get_object", object("nixpkgs/x.tar.gz")),
        ("", "s3", "put_object", content("nixpkgs/x.sqlite")),
        ("l", "s3", "get_object", object("nixpkgs/x.sqlite")),
        ("", "s3", "put_object", content("x")),
        ("", "s3", "get_object", object("x")),
        ("aldrcp", "s3", "list_objects_v2", json!({ "Bucket": bucket })),
        ("lc", "s3", "delete_object", object(segment)),
        ("lc", "s3", "delete_objects", objects([segment, "builds/rev/system/attr/lease/log/000002"])),
        ("c", "s3", "delete_object", object("builds/y")),
        ("lc", "s3", "delete_objects", objects([partial, "builds/rev/system/-catalogue/lease/partial/lookup"])),
        ("c", "s3", "delete_object", object("builds/rev/system/attr/lease/log.gz")),
        ("c", "s3", "delete_object", object("builds/rev/system/-catalogue/lease/lookup")),
        ("c", "s3", "delete_object", object("builds/rev/system/partial/lease/bin/lookup")),
        ("c", "s3", "delete_object", object("builds/rev/system/log/lease/bin/log")),
        ("c", "s3", "delete_object", object("builds/rev/system/attr/lease/manifest.json")),
        ("c", "s3", "delete_object", object("nixpkgs/a/b/c/d/log/e")),
        ("", "s3", "delete_object", object("x")),
        // The builders' cache, and what is offered to it.
        ("l", "s3", "put_object", content("quarantine/x")),
        ("lp", "s3", "get_object", object("quarantine/x")),
        ("p", "s3", "put_object", content("cache/x")),
        ("p", "s3", "put_object", content("cache/public-key")),
        ("p", "s3", "get_object", object("cache/x")),
        ("lp", "s3", "get_object", object("cache/public-key")),
        (
            "p",
            "s3",
            "copy_object",
            json!({ "Bucket": bucket, "Key": "cache/y", "CopySource": format!("{bucket}/quarantine/x") }),
        ),
        (
            "",
            "s3",
            "copy_object",
            json!({ "Bucket": bucket, "Key": "cache/y", "CopySource": format!("{bucket}/builds/x") }),
        ),
        ("p", "s3", "delete_object", object("quarantine/x")),
        ("c", "s3", "delete_object", object("cache/x")),
        ("", "s3", "get_bucket_policy", json!({ "Bucket": bucket })),
        // Tasks.
        (
            "",
            "ecs",
            "register_task_definition",
            json!({ "family": format!("{}-other", w.name),
            "containerDefinitions": [{ "name": "builder", "image": "none", "memory": 128 }], "cpu": "256", "memory": "512" }),
        ),
        ("dr", "ecs", "run_task", run(cluster, &ours)),
        ("", "ecs", "create_cluster", json!({ "clusterName": format!("{}-another", w.name) })),
        ("", "ecs", "run_task", run(&another, &ours)),
        ("", "ecs", "run_task", with_role("LeaseRole")),
        ("", "ecs", "run_task", run(cluster, &format!("{}-other", w.name))),
        ("r", "ecs", "list_tasks", json!({ "cluster": cluster })),
        ("", "ecs", "list_tasks", json!({ "cluster": another })),
        ("r", "ecs", "stop_task", json!({ "cluster": cluster, "task": no_task(cluster) })),
        ("", "ecs", "stop_task", json!({ "cluster": another, "task": no_task(&another) })),
        // What was downloaded.
        ("r", "cloudwatch", "get_metric_statistics", metric),
        // The image.
        ("t", "ecr", "get_authorization_token", json!({})),
        (
            "t",
            "ecr",
            "batch_get_image",
            json!({ "repositoryName": repository, "imageIds": [{ "imageTag": "x86_64" }] }),
        ),
        (
            "r",
            "ecr",
            "describe_images",
            json!({ "repositoryName": repository, "imageIds": [{ "imageTag": "x86_64" }] }),
        ),
        ("", "ecr", "initiate_layer_upload", json!({ "repositoryName": repository })),
        // What is not theirs at all.
        ("", "logs", "create_log_group", json!({ "logGroupName": format!("{}-other", w.name) })),
        ("", "iam", "list_roles", json!({})),
        ("", "lambda", "invoke", json!({ "FunctionName": w.functions["reaper"], "Payload": "{}" })),
        ("", "cloudformation", "describe_stacks", json!({ "StackName": w.name })),
        ("", "secretsmanager", "list_secrets", json!({})),
        ("", "secretsmanager", "get_secret_value", json!({ "SecretId": secret })),
    ];
    // Each its own log.
    for (log, may) in [
        ("api", "a"),
        ("lease", "l"),
        ("dispatcher", "d"),
        ("reaper", "r"),
        ("collector", "c"),
        ("promoter", "p"),
        ("builder", "t"),
    ] {
        table.push((may, "logs", "create_log_stream", stream(log)));
        table.push(("", "logs", "get_log_events", stream(log)));
    }
    table
}

fn is_refusal(code: &Option<String>) -> bool {
    matches!(code.as_deref(), Some("AccessDenied" | "AccessDeniedException"))
}

#[test]
#[ignore = "needs AWS beside it: tests/bed/up --tasks"]
fn each_role_may_do_what_it_must_and_is_refused_all_else() {
    let w = watched("", &[]);
    let table = table(&w);
    let mut wrong = Vec::new();
    // The account's root first, so that what the others ask for exists.
    let whole: Vec<_> = table
        .iter()
        .map(|(_, service, operation, parameters)| (json!({}), *service, *operation, parameters.clone()))
        .collect();
    for ((_, service, operation, parameters), (code, answer)) in table.iter().zip(ask(&whole)) {
        // InvalidParameterException: there is no such task.
        if code.is_some_and(|code| code != "InvalidParameterException") {
            wrong.push(format!("{service}:{operation} {parameters} is no good request: {answer}"));
        }
    }
    for (letter, role) in ROLES {
        let credentials = w.scenario.session(role).credentials;
        let asked: Vec<_> = whole.iter().map(|(_, s, o, p)| (credentials.clone(), *s, *o, p.clone())).collect();
        for ((may, service, operation, parameters), (code, answer)) in table.iter().zip(ask(&asked)) {
            if may.contains(letter) == is_refusal(&code) {
                let may = if is_refusal(&code) { "is refused" } else { "may" };
                wrong.push(format!("{role} {may} {service}:{operation} {parameters}: {answer}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
#[ignore = "needs AWS beside it: tests/bed/up --tasks"]
fn nobody_takes_a_role_by_himself() {
    let w = watched("", &[]);
    let arns = ROLES.map(|(_, role)| w.scenario.session(role).role);
    // Not even who may take any role that lets itself be taken.
    let name = format!("{}-stranger", w.name);
    let policy = json!({ "Version": "2012-10-17",
        "Statement": [{ "Effect": "Allow", "Action": "sts:AssumeRole", "Resource": "*" }] });
    let made = ask(&[
        (json!({}), "iam", "create_user", json!({ "UserName": name })),
        (
            json!({}),
            "iam",
            "put_user_policy",
            json!({ "UserName": name, "PolicyName": "all", "PolicyDocument": policy.to_string() }),
        ),
        (json!({}), "iam", "create_access_key", json!({ "UserName": name })),
    ]);
    let key = &made[2].1["AccessKey"];
    let stranger = json!({ "AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"] });
    let sessions = ROLES.map(|(_, role)| w.scenario.session(role).credentials);
    for who in sessions.iter().chain([&stranger]) {
        let take = |arn| (who.clone(), "sts", "assume_role", json!({ "RoleArn": arn, "RoleSessionName": "test" }));
        for (arn, (code, answer)) in arns.iter().zip(ask(&arns.each_ref().map(take))) {
            assert!(is_refusal(&code), "{arn} is taken: {answer}");
        }
    }
}

#[test]
#[ignore = "needs AWS beside it: tests/bed/up --tasks"]
fn a_task_has_no_role_and_no_credentials() {
    let hangs = "hangs2 = package \"hangs2\" { buildPhase = \"while :; do echo still at it; sleep 1; done\"; };";
    let w = watched(hangs, &[]);
    assert_eq!(w.get("/failing.hangs2").status, 202);
    w.is_being_built("failing.hangs2");
    let [container] = &w.stack.containers()[..] else { panic!("one task runs") };
    let shown = binplz_tests::stack::podman().args(["inspect", container]).output().expect("podman");
    let shown: Value = serde_json::from_slice(&shown.stdout).expect("JSON");
    let variables = shown[0]["Config"]["Env"].as_array().expect("variables");
    let names: Vec<_> = variables.iter().filter_map(|v| v.as_str()?.split('=').next()).collect();
    assert!(names.contains(&"BINPLZ_LEASE_TOKEN"), "{names:?}");
    for name in names {
        assert!(
            !["AWS_ACCESS", "AWS_SECRET", "AWS_SESSION", "AWS_CONTAINER", "AWS_WEB"]
                .iter()
                .any(|start| name.starts_with(start)),
            "{name}"
        );
    }
    let definition = w.scenario.requests("ecs", "RunTask").remove(0).parameters["taskDefinition"].clone();
    let asked = (json!({}), "ecs", "describe_task_definition", json!({ "taskDefinition": definition }));
    let told = ask(&[asked]).remove(0).1;
    assert!(told["taskDefinition"]["executionRoleArn"].is_string());
    assert!(told["taskDefinition"]["taskRoleArn"].as_str().unwrap_or("").is_empty(), "{told}");
}
