//! What the bed does when it is told to: each of these fails on a bed without the change that it is about. What is done to functions
//! and tasks is in `../stack/`, where there are some.

use std::sync::Arc;

use binplz_aws::launcher::EcsLauncher;
use binplz_core::id::time::Timestamp;
use binplz_core::{
    ports::{Bell, Launcher, Ledger, NotLaunched, Read},
    row::{Listed, RowKey, StatusIndex, Swap, Version},
};
use binplz_tests::{
    contract::rows::{self, key, lease, queued, ready},
    scenario::Scenario,
};
use serde_json::json;

use crate::bed::{Fresh, endpoint, fresh};

/// Adapters, and the scenario of all that is theirs.
async fn watched() -> (Fresh, Scenario) {
    let adapters = fresh().await;
    let name = adapters.settings.need("BINPLZ_TABLE").expect("a table");
    let scenario = Scenario::begin(&endpoint(), &name);
    (adapters, scenario)
}

/// Writes the `n`th build, due or ready, over what was seen.
async fn write(ledger: &impl Ledger, seen: u64, row: binplz_core::row::Row) {
    ledger.commit(vec![Swap { seen: Version(seen), row }]).await.expect("it is written");
}

/// The version that a read shows; 0: there is no row.
async fn version(ledger: &impl Ledger, n: u32, read: Read) -> u64 {
    ledger.load(&RowKey::Build(key(n)), read).await.expect("the ledger").map_or(0, |(_, version)| version.0)
}

#[tokio::test]
#[ignore = "needs AWS beside it: tests/bed/up"]
async fn the_log_tells_each_request_in_order_with_what_it_asked() {
    let (adapters, scenario) = watched().await;
    let ledger = adapters.fencing();
    version(ledger, 1, Read::Eventual).await;
    version(ledger, 1, Read::Consistent).await;
    write(ledger, 0, queued(1, 1)).await;
    adapters.bell.ring().await.expect("it rings");
    let log = scenario.log();
    let what: Vec<_> = log.iter().map(|request| request.what()).collect();
    assert_eq!(what, ["dynamodb:GetItem", "dynamodb:GetItem", "dynamodb:PutItem", "sqs:SendMessage"]);
    assert_eq!(log[0].parameters["ConsistentRead"], false);
    assert_eq!(log[1].parameters["ConsistentRead"], true);
    assert_eq!(log[2].parameters["Item"]["pk"]["S"], format!("build/{}", key(1)));
    assert!(log.iter().all(|request| request.status == Some(200) && request.function.is_none()));
}

#[tokio::test]
#[ignore = "needs AWS beside it: tests/bed/up"]
async fn a_scenario_sees_nothing_of_another_one() {
    let ((one, seen_by_one), (_other, seen_by_other)) = (watched().await, watched().await);
    seen_by_other.set(&json!({ "late_reads": true }));
    write(one.fencing(), 0, queued(1, 1)).await;
    assert_eq!(version(one.fencing(), 1, Read::Eventual).await, 1);
    assert_eq!((seen_by_one.log().len(), seen_by_other.log().len()), (2, 0));
}

#[tokio::test]
#[ignore = "needs AWS beside it: tests/bed/up"]
async fn late_reads_are_one_version_late_and_consistent_ones_are_not() {
    let (adapters, scenario) = watched().await;
    let ledger = adapters.fencing();
    scenario.set(&json!({ "late_reads": true }));
    for seen in 0..3 {
        write(ledger, seen, queued(1, seen)).await;
        for _ in 0..2 {
            assert_eq!(version(ledger, 1, Read::Eventual).await, seen);
            assert_eq!(version(ledger, 1, Read::Consistent).await, seen + 1);
        }
    }
    // So is what a transaction writes.
    let swaps = vec![Swap { seen: Version(3), row: queued(1, 9) }, Swap { seen: Version(0), row: rows::limits(0) }];
    ledger.commit(swaps).await.expect("it is written");
    assert_eq!(version(ledger, 1, Read::Eventual).await, 3);
    assert_eq!(ledger.load(&RowKey::Limits, Read::Eventual).await, Ok(None));
    scenario.set(&json!({}));
    assert_eq!(version(ledger, 1, Read::Eventual).await, 4);
}

#[tokio::test]
#[ignore = "needs AWS beside it: tests/bed/up"]
async fn a_late_index_shows_a_write_from_the_second_query_of_its_partition_on() {
    let (adapters, scenario) = watched().await;
    let ledger = adapters.fencing();
    scenario.set(&json!({ "late_reads": true }));
    let entry = |at| vec![Listed { key: key(1), at: Timestamp(at) }];
    let looks = async |status_index| {
        let first = ledger.list(status_index, None, 9).await.expect("a list");
        (first, ledger.list(status_index, None, 9).await.expect("a list"))
    };
    write(ledger, 0, queued(1, 1)).await;
    assert_eq!(looks(StatusIndex::Building).await, (vec![], vec![]));
    assert_eq!(looks(StatusIndex::Queued).await, (vec![], entry(1)));
    write(ledger, 1, queued(1, 2)).await;
    assert_eq!(looks(StatusIndex::Queued).await, (entry(1), entry(2)));
    write(ledger, 2, ready(1, 3)).await;
    assert_eq!(looks(StatusIndex::Queued).await, (entry(2), vec![]));
}

#[tokio::test]
#[ignore = "needs AWS beside it: tests/bed/up"]
async fn messages_come_the_last_one_first_and_each_twice() {
    let (adapters, scenario) = watched().await;
    scenario.set(&json!({ "twice": true }));
    let sqs = aws_sdk_sqs::Client::new(adapters.account.sdk());
    let queue = adapters.settings.need("BINPLZ_QUEUE_URL").expect("its URL");
    for body in ["first", "second"] {
        sqs.send_message().queue_url(&queue).message_body(body).send().await.expect("it is sent");
    }
    for _ in 0..2 {
        let batch = sqs.receive_message().queue_url(&queue).max_number_of_messages(10).send().await.expect("messages");
        let bodies: Vec<_> = batch.messages().iter().filter_map(|message| message.body()).collect();
        assert_eq!(bodies, ["second", "first"]);
        for message in batch.messages() {
            let receipt = message.receipt_handle().expect("a receipt");
            sqs.delete_message().queue_url(&queue).receipt_handle(receipt).send().await.expect("it is deleted");
        }
    }
    let rest = sqs.receive_message().queue_url(&queue).send().await.expect("an answer");
    assert_eq!(rest.messages().len(), 0);
}

#[tokio::test]
#[ignore = "needs AWS beside it: tests/bed/up"]
async fn a_lost_message_is_acknowledged_and_never_comes() {
    let (adapters, scenario) = watched().await;
    let lost =
        scenario.fault(&json!({ "at": { "service": "sqs", "operation": "SendMessage" }, "do": "lose", "times": 2 }));
    for _ in 0..3 {
        adapters.bell.ring().await.expect("it is acknowledged");
    }
    assert_eq!(lost.happened().status, Some(200));
    let sqs = aws_sdk_sqs::Client::new(adapters.account.sdk());
    let queue = adapters.settings.need("BINPLZ_QUEUE_URL").expect("its URL");
    let got = sqs.receive_message().queue_url(&queue).max_number_of_messages(10).send().await.expect("messages");
    assert_eq!(got.messages().len(), 1);
}

#[tokio::test]
#[ignore = "needs AWS beside it: tests/bed/up"]
async fn a_service_answers_what_it_is_told_at_the_nth_request_that_fits() {
    let (adapters, scenario) = watched().await;
    let ecs = aws_sdk_ecs::Client::new(adapters.account.sdk());
    let cluster = adapters.settings.need("BINPLZ_CLUSTER").expect("its name");
    ecs.create_cluster().cluster_name(&cluster).send().await.expect("a cluster");
    let builder = aws_sdk_ecs::types::ContainerDefinition::builder().name("builder").image("builder").build();
    let define = ecs.register_task_definition().family("builder-x86_64").container_definitions(builder);
    define.send().await.expect("a task definition");
    let launcher = EcsLauncher::open(&adapters.account, &adapters.settings).expect("settings");
    // A 200 that says that there is no capacity.
    scenario.fault(&json!({
        "at": { "operation": "RunTask", "with": rows::lease_id(2) }, "nth": 1, "do": "answer",
        "answer": [200, { "tasks": [], "failures": [{ "arn": "arn", "reason": "RESOURCE:MEMORY" }] }],
    }));
    assert!(launcher.launch(&key(1), &lease(1, 1)).await.is_ok());
    let refused = launcher.launch(&key(1), &lease(2, 1)).await;
    assert_eq!(refused, Err(NotLaunched::Refused("RESOURCE:MEMORY".to_owned())));
    assert!(launcher.launch(&key(1), &lease(2, 1)).await.is_ok());
    let tasks = ecs.list_tasks().cluster(cluster).send().await.expect("tasks");
    assert_eq!(tasks.task_arns().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs AWS beside it: tests/bed/up"]
async fn what_is_held_waits_and_others_overtake_it() {
    let (adapters, scenario) = watched().await;
    let adapters = Arc::new(adapters);
    let held = scenario.fault(&json!({ "at": { "operation": "PutItem" }, "do": "hold-before" }));
    let late = tokio::spawn({
        let adapters = Arc::clone(&adapters);
        async move { adapters.fencing().commit(vec![Swap { seen: Version(0), row: queued(1, 1) }]).await }
    });
    tokio::task::block_in_place(|| held.happened());
    write(adapters.fencing(), 0, queued(1, 2)).await;
    held.release();
    late.await.expect("a task").expect_err("another writer was first");
}
