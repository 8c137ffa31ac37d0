//! Tasks. Nothing runs in them: there is no Docker API beside this bed.

use aws_sdk_ecs::types::{Compatibility, ContainerDefinition, NetworkMode, Task};
use binplz_aws::launcher::{CONTAINER, EcsLauncher};
use binplz_core::{
    build::Lease,
    id::key::{BuildKey, System},
    ports::{Launcher, NotLaunched},
    quota::limits::Why,
};
use binplz_tests::contract::rows::{key, lease, lease_id};

use crate::bed::{Fresh, fresh, fresh_in};

/// A cluster with both task definitions.
struct Cluster {
    ecs: aws_sdk_ecs::Client,
    name: String,
    launcher: EcsLauncher,
    iam: aws_sdk_iam::Client,
}

async fn cluster() -> Cluster {
    cluster_of(fresh().await).await
}

async fn cluster_of(Fresh { account, settings, .. }: Fresh) -> Cluster {
    let name = settings.need("BINPLZ_CLUSTER").expect("a name");
    let ecs = aws_sdk_ecs::Client::new(account.sdk());
    ecs.create_cluster().cluster_name(&name).send().await.expect("a cluster");
    for family in ["builder-x86_64", "builder-arm64"] {
        let builder = ContainerDefinition::builder().name(CONTAINER).image("builder").build();
        let define = ecs.register_task_definition().family(family).container_definitions(builder);
        let define = define.requires_compatibilities(Compatibility::Fargate).network_mode(NetworkMode::Awsvpc);
        define.cpu("256").memory("512").send().await.expect("a task definition");
    }
    let launcher = EcsLauncher::open(&account, &settings).expect("settings");
    Cluster { ecs, name, launcher, iam: aws_sdk_iam::Client::new(account.sdk()) }
}

impl Cluster {
    async fn task(&self, arn: &str) -> Task {
        let described = self.ecs.describe_tasks().cluster(&self.name).tasks(arn).send().await.expect("tasks");
        described.tasks()[0].clone()
    }
    async fn running(&self) -> usize {
        self.ecs.list_tasks().cluster(&self.name).send().await.expect("tasks").task_arns().len()
    }
}

fn attempt(n: u32, attempt: u32) -> Lease {
    Lease { attempt, size: "4096/16384/60".parse().expect("a size"), ..lease(n, 1_700_000_000_000) }
}

#[tokio::test]
#[ignore = "needs AWS beside it: tests/bed/up"]
async fn the_same_lease_again_starts_no_second_task() {
    let cluster = cluster().await;
    let first = cluster.launcher.launch(&key(1), &attempt(1, 1)).await.expect("a task");
    assert_eq!(cluster.launcher.launch(&key(1), &attempt(1, 1)).await, Ok(first.clone()));
    // Settings that changed in between make it another request.
    assert_eq!(cluster.launcher.launch(&key(1), &attempt(1, 2)).await, Ok(first.clone()));
    assert_eq!(cluster.running().await, 1);
    let second = cluster.launcher.launch(&key(1), &attempt(2, 1)).await.expect("another lease, another task");
    assert_ne!(second, first);
}

#[tokio::test]
#[ignore = "needs AWS beside it: tests/bed/up"]
async fn a_task_has_its_machine_and_its_lease_and_runs_on_spot_only_at_first() {
    let cluster = cluster().await;
    for (number, capacity) in [(1, "FARGATE_SPOT"), (2, "FARGATE")] {
        let task = cluster.launcher.launch(&key(1), &attempt(number, number)).await.expect("a task");
        let task = cluster.task(&task).await;
        assert_eq!(task.capacity_provider_name(), Some(capacity));
        let disk = task.overrides().and_then(|overrides| overrides.ephemeral_storage()).map(|disk| disk.size_in_gib());
        let machine = task.overrides().map(|overrides| (overrides.cpu(), overrides.memory()));
        assert_eq!((machine, disk), (Some((Some("4096"), Some("16384"))), Some(60)));
        assert_eq!(task.started_by(), Some(lease_id(number).as_str()));
        let variables = task.overrides().expect("overrides").container_overrides()[0].environment();
        let value = |name| variables.iter().find(|v| v.name() == Some(name)).and_then(|v| v.value());
        let url = format!("https://binplz.example/-/lease/{}/{}", key(1), lease_id(number));
        assert_eq!(value("BINPLZ_LEASE_URL"), Some(url.as_str()));
        assert_eq!(value("BINPLZ_LEASE_TOKEN"), Some(attempt(number, number).token.reveal()));
    }
}

#[tokio::test]
#[ignore = "needs AWS beside it: tests/bed/up"]
async fn each_systems_tasks_are_of_its_own_definition() {
    let cluster = cluster().await;
    for (n, system, family) in [(1, System::X86_64Linux, "builder-x86_64"), (2, System::Aarch64Linux, "builder-arm64")]
    {
        let key = BuildKey { system, ..key(1) };
        let task = cluster.launcher.launch(&key, &attempt(n, 1)).await.expect("a task");
        let task = cluster.task(&task).await;
        let definition = task.task_definition_arn().expect("a definition");
        assert!(definition.contains(&format!(":task-definition/{family}:")), "{definition}");
    }
}

#[tokio::test]
#[ignore = "needs AWS beside it: tests/bed/up"]
async fn a_task_is_stopped_whether_or_not_its_name_was_written_down() {
    let cluster = cluster().await;
    for known in [true, false] {
        let lease = attempt(u32::from(known), 1);
        let task = cluster.launcher.launch(&key(1), &lease).await.expect("a task");
        assert_eq!(cluster.launcher.running().await, Ok(vec![lease.id.clone()]));
        for _ in 0..2 {
            let stopped = cluster.launcher.stop(&lease.id, known.then_some(task.as_str())).await;
            stopped.expect("it is stopped, or was");
        }
        assert_eq!(cluster.launcher.running().await, Ok(vec![]));
        assert_eq!(cluster.task(&task).await.last_status(), Some("STOPPED"));
    }
    let gone = format!("arn:aws:ecs:us-east-1:000000000000:task/{}/{}", cluster.name, "0".repeat(32));
    cluster.launcher.stop(&attempt(9, 1).id, Some(&gone)).await.expect("a task that is gone is fine");
}

#[tokio::test]
#[ignore = "needs AWS beside it: tests/bed/up"]
async fn what_can_not_be_started_is_refused() {
    let Fresh { account, settings, .. } = fresh().await;
    let settings = settings.with("BINPLZ_TASK_X86_64", "no-such-definition");
    let launcher = EcsLauncher::open(&account, &settings).expect("settings");
    let no_cluster = launcher.launch(&key(1), &attempt(1, 1)).await;
    assert_eq!(no_cluster, Err(NotLaunched::Refused("ClusterNotFoundException: Cluster not found.".to_owned())));
    let ecs = aws_sdk_ecs::Client::new(account.sdk());
    let cluster = settings.need("BINPLZ_CLUSTER").expect("a name");
    ecs.create_cluster().cluster_name(cluster).send().await.expect("a cluster");
    let no_definition = launcher.launch(&key(1), &attempt(1, 1)).await;
    assert_eq!(no_definition, Err(NotLaunched::Refused("ClientException: TaskDefinition not found.".to_owned())));
}

/// A new account: no role of ECS's, and room for one task of four vCPUs.
#[tokio::test]
#[ignore = "needs AWS beside it: tests/bed/up"]
async fn what_a_new_account_lacks_is_refused_in_awss_words() {
    let cluster = cluster_of(fresh_in("200000000017").await).await;
    let refused = |why: &str| Err(NotLaunched::Refused(why.to_owned()));
    let on_demand = async |n| cluster.launcher.launch(&key(1), &attempt(n, 2)).await;
    let role = "Unable to assume the service linked role. Please verify that the ECS service linked role exists.";
    assert_eq!(on_demand(1).await, refused(&format!("InvalidParameterException: {role}")));
    cluster.iam.create_service_linked_role().aws_service_name("ecs.amazonaws.com").send().await.expect("a role");
    // It takes a while until it works.
    while on_demand(1).await == refused(&format!("InvalidParameterException: {role}")) {
        tokio::task::yield_now().await;
    }
    assert!(on_demand(1).await.is_ok());
    let quota = "You've reached the limit on the number of vCPUs you can run concurrently";
    assert_eq!(on_demand(2).await, refused(quota));
    // Spot has a quota of its own, and a task that has stopped makes room.
    assert!(cluster.launcher.launch(&key(1), &attempt(3, 1)).await.is_ok());
    cluster.launcher.stop(&attempt(1, 2).id, None).await.expect("it is stopped");
    assert!(on_demand(4).await.is_ok());
}

#[tokio::test]
#[ignore = "needs AWS beside it: tests/bed/up"]
async fn builders_of_a_system_are_kept_back_until_its_image_is_pushed() {
    let Fresh { account, settings, .. } = fresh().await;
    let name = settings.need("BINPLZ_CLUSTER").expect("a name");
    let settings = settings.with("BINPLZ_REPOSITORY", &name).with("BINPLZ_IMAGE_TAGS", "amd,arm");
    let launcher = EcsLauncher::open(&account, &settings).expect("settings");
    let obstacles = async || {
        [launcher.obstacle(System::X86_64Linux).await, launcher.obstacle(System::Aarch64Linux).await]
            .map(|obstacle| obstacle.ok())
    };
    let missing = Some(Some(Why::NoImage));
    // No repository is no news of images.
    assert_eq!(obstacles().await, [None, None]);
    let ecr = aws_sdk_ecr::Client::new(account.sdk());
    ecr.create_repository().repository_name(&name).send().await.expect("a repository");
    assert_eq!(obstacles().await, [missing, missing]);
    let manifest = r#"{"schemaVersion":2}"#;
    let push = ecr.put_image().repository_name(&name).image_tag("arm").image_manifest(manifest);
    push.send().await.expect("an image");
    assert_eq!(obstacles().await, [missing, Some(None)]);
}
