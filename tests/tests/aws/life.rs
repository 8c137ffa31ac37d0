//! A build's whole life, as the four functions live it: the same flows, over the real adapters.

use std::{sync::Arc, time::Duration};

use binplz_aws::{Receiving, Serving, Working, config::Settings};
use binplz_core::{
    build::{
        Build, Lease, State,
        failure::{Failure, Kind},
        protocol::{Nixpkgs, Outcome, Progress, Report, Stats, Upload},
    },
    flow::{
        lease::{
            job::{self, Bearer, Denied},
            settle::{settle, stopped},
        },
        request::{outcome::RequestOutcome, program::request},
        schedule::{dispatch::dispatch, sweep::sweep},
    },
    id::{
        key::{BuildKey, Sha256},
        target::{Query, Target},
    },
    objects::{
        artifact::{Declared, Manifest, ObjectName, Program, Verdict, nixpkgs_path},
        stored::Method,
    },
    ports::{HasLedger, HasStore, Ledger, Read},
    quota::client::Asker,
    row::{Row, RowKey},
};
use binplz_tests::http::ask;
use sha2::Digest;

use crate::bed::{Fresh, fresh};

const PROGRAM: &[u8] = b"\x7fELF and so on";

/// The functions, each as its settings make it.
struct World {
    adapters: Fresh,
    serving: Arc<Serving>,
    receiving: Receiving,
    working: Working,
}

async fn world() -> World {
    let adapters = fresh().await;
    let ecs = aws_sdk_ecs::Client::new(adapters.account.sdk());
    let cluster = adapters.settings.need("BINPLZ_CLUSTER").expect("its name");
    ecs.create_cluster().cluster_name(cluster).send().await.expect("a cluster");
    let builder = aws_sdk_ecs::types::ContainerDefinition::builder().name("builder").image("builder").build();
    let define = ecs.register_task_definition().family("builder-x86_64").container_definitions(builder);
    define.send().await.expect("a task definition");
    let pins = format!(
        r#"{{"default":"unstable",
            "pins":{{"unstable":{{"rev":"{}","nixpkgs":{{"stored":{{"nar_hash":"sha256-x"}}}}}}}}}}"#,
        "ab".repeat(20)
    );
    let settings: Settings = adapters.settings.clone().with("BINPLZ_FIRST_PINS", &pins);
    // A catalogue would be one task more.
    let settings = settings.with("BINPLZ_NAMES", "attributes");
    let receiving = Receiving::open(&settings).expect("settings");
    receiving.store().keep_nixpkgs(&key().rev, b"a tarball".to_vec()).await.expect("the bucket");
    World {
        serving: Arc::new(Serving::open(&settings).expect("settings")),
        receiving,
        working: Working::open(&settings).expect("settings"),
        adapters,
    }
}

fn target() -> Target {
    Query::parse("/tree", None).expect("a target").target
}

fn key() -> BuildKey {
    format!("{}/x86_64-linux/tree", "ab".repeat(20)).parse().expect("a key")
}

impl World {
    async fn get(&self) -> RequestOutcome {
        request(&*self.serving, &target(), Method::Get, Some(&Asker::default())).await
    }
    async fn build(&self) -> Build {
        let loaded = self.serving.ledger().load(&RowKey::Build(key()), Read::Consistent).await.expect("the ledger");
        let Some((Row::Build(build), _)) = loaded else { panic!("no build") };
        build
    }
    /// Asked for, queued, claimed and launched.
    async fn building(&self) -> Lease {
        assert!(matches!(self.get().await, RequestOutcome::Pending(_)));
        self.adapters.rung().await;
        assert_eq!(dispatch(&self.working).await, Ok(None));
        let build = self.build().await;
        build.lease().expect("it is claimed").clone()
    }
}

fn bearer(lease: &Lease) -> Bearer {
    Bearer { key: key(), lease: lease.id.clone(), token: lease.token.clone() }
}

#[tokio::test]
#[ignore = "needs AWS beside it: tests/bed/up"]
async fn a_program_that_nobody_built_is_built_and_served() {
    let world = world().await;
    let lease = world.building().await;
    assert!(lease.task.as_ref().is_some_and(|task| task.starts_with("arn:aws:ecs:")), "{:?}", lease.task);
    let me = bearer(&lease);

    // Its nixpkgs comes from the bucket, where the operator put it.
    let s3 = aws_sdk_s3::config::Builder::from(world.adapters.account.sdk()).force_path_style(true).build();
    let bucket = world.adapters.settings.need("BINPLZ_BUCKET").expect("its name");
    let put = aws_sdk_s3::Client::from_conf(s3).put_object().bucket(bucket).key(nixpkgs_path(&key().rev));
    put.body(b"a tarball".to_vec().into()).send().await.expect("it is stored");
    let job = job::job(&world.receiving, &me).await.expect("a job");
    let Nixpkgs::Tarball { url, nar_hash: Some(hash) } = job.nixpkgs else { panic!("no tarball with its hash") };
    assert_eq!((hash.as_str(), ask("GET", &url, &[], b"").body.as_slice()), ("sha256-x", &b"a tarball"[..]));

    // It says how far it is, stores its program, and settles.
    job::heartbeat(&world.receiving, &me, &Progress::default()).await.expect("a live lease");
    let sha256: Sha256 = binplz_core::id::key::hex(&sha2::Sha256::digest(PROGRAM)).parse().expect("64 hex digits");
    let bin: binplz_core::id::key::Bin = "tree".parse().expect("a program's name");
    let size = PROGRAM.len() as u64;
    let upload = Upload { name: ObjectName::Program(bin.clone()), size, sha256: sha256.clone() };
    let grants = job::uploads(&world.receiving, &me, &[upload]).await.expect("a grant");
    let headers: Vec<_> = grants[0].headers.iter().filter(|(name, _)| name != "content-length").collect();
    let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(ask("PUT", &grants[0].url, &headers, PROGRAM).status, 200);
    let manifest = Manifest {
        pname: "tree".to_owned(),
        version: "2.1".to_owned(),
        declared: Declared::default(),
        drv_path: "/nix/store/x-tree.drv".to_owned(),
        outputs: Vec::new(),
        installed: Vec::new(),
        archive: None,
        bundle: None,
        programs: vec![Program {
            bin,
            output: None,
            verdict: Verdict::Static { sha256, size, leftovers: vec![], needs: None, unwrapped: false },
        }],
    };
    let report = Report { outcome: Outcome::Built(manifest), stats: Stats::default(), materials: None };
    for _ in 0..2 {
        settle(&world.receiving, &me, report.clone()).await.expect("it is settled, also where the reply was lost");
    }
    assert!(matches!(job::job(&world.receiving, &me).await, Err(Denied::NotLive)));

    // The task's end, and a sweep, change nothing any more.
    stopped(&world.working, &key(), &lease.id, Failure::new(Kind::Killed, ""), None).await.expect("it is heard");
    sweep(&world.working).await.expect("a sweep");
    for _ in 0..2 {
        let RequestOutcome::Hit { served, at } = world.get().await else { panic!("no hit") };
        assert_eq!((served.size, served.version.as_str()), (size, "2.1"));
        assert_eq!(ask("GET", at.url(), &[], b"").body, PROGRAM);
    }
}

#[tokio::test]
#[ignore = "needs AWS beside it: tests/bed/up"]
async fn a_spot_task_that_never_started_is_followed_by_one_on_demand_and_then_builds_wait() {
    let world = world().await;
    for on_demand in [false, true] {
        let lease = match on_demand {
            false => world.building().await,
            true => {
                assert_eq!(dispatch(&world.working).await, Ok(None));
                world.build().await.lease().expect("it is claimed").clone()
            }
        };
        assert_eq!(lease.is_on_demand(), on_demand);
        for _ in 0..2 {
            let never = Failure::new(Kind::NotStarted, "Capacity is unavailable at this time");
            stopped(&world.working, &key(), &lease.id, never, Some(Duration::ZERO)).await.expect("it is heard");
        }
        let build = world.build().await;
        assert!(matches!(build.state, State::Queued { attempt: 1, .. }) && build.history.is_empty(), "{build:?}");
    }
    // The dispatcher says when to ring again.
    assert!(matches!(dispatch(&world.working).await, Ok(Some(_))));
    let RequestOutcome::Pending(status) = world.get().await else { panic!("it waits") };
    assert!(status.headline().ends_with(": Capacity is unavailable at this time"), "{status:?}");
}

#[tokio::test]
#[ignore = "needs AWS beside it: tests/bed/up"]
async fn many_requests_and_dispatchers_at_once_make_one_build_and_one_task() {
    let world = Arc::new(world().await);
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let world = Arc::clone(&world);
        asking.spawn(async move { matches!(world.get().await, RequestOutcome::Pending(_)) });
    }
    assert!(asking.join_all().await.into_iter().all(|pending| pending));
    let dispatched = tokio::join!(dispatch(&world.working), dispatch(&world.working), dispatch(&world.working));
    assert_eq!(dispatched, (Ok(None), Ok(None), Ok(None)));
    let ecs = aws_sdk_ecs::Client::new(world.adapters.account.sdk());
    let cluster = world.adapters.settings.need("BINPLZ_CLUSTER").expect("its name");
    let tasks = ecs.list_tasks().cluster(cluster).send().await.expect("tasks");
    assert_eq!(tasks.task_arns().len(), 1);
    let build = world.build().await;
    assert_eq!(build.lease().and_then(|lease| lease.task.as_ref()), tasks.task_arns().first());
}
