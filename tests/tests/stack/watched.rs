//! A deployment that is looked at from inside: its scenario on the bed, and its rows.

use std::{collections::BTreeSet, ops::Deref, time::Duration};

use aws_sdk_ecs::types::DesiredStatus;
use binplz_aws::{Receiving, account::Account, config::Settings, ledger::DynamoLedger};
use binplz_core::{
    build::{
        Build, Event, State,
        failure::Kind,
        policy::{Names, Policy},
    },
    flow::advance,
    id::{
        key::{LeaseId, Product},
        target::Query,
    },
    nixpkgs::pins::Pins,
    ports::{Collect, HasLedger, HasStore, Ledger, NotCommitted, Read},
    quota::limits::Limits,
    row::{Row, RowKey, Swap, Version},
};
use binplz_tests::{scenario::Scenario, server::fresh_set, site::wait_for, stack::Stack};
use serde_json::{Value, json};
use tempfile::TempDir;

/// What the bed is called by those that it started.
pub(crate) fn endpoint() -> String {
    std::env::var("BINPLZ_BED").expect("BINPLZ_BED: run this by tests/bed/up --tasks")
}

/// A deployment with short delays, a set of its own, and a schedule that stands still until [`Scenario::tick`].
pub(crate) struct Watched {
    pub(crate) scenario: Scenario,
    pub(crate) stack: Stack,
    pub(crate) set: TempDir,
}

/// `packages`: more for the set, in the words of failing.nix. `more`: arguments of `stack.py`.
pub(crate) fn watched(packages: &str, more: &[&str]) -> Watched {
    watched_with(packages, &policy(), more)
}

/// The same, with other numbers than usual.
pub(crate) fn watched_with(packages: &str, policy: &Policy, more: &[&str]) -> Watched {
    let set = fresh_set(packages);
    let stack = Stack::deploy_with(set.path(), policy, more);
    let scenario = Scenario::begin(&endpoint(), &stack.name);
    scenario.set(&json!({ "minute": null }));
    Watched { scenario, stack, set }
}

/// A lease that no load of the machine outlasts: [`Watched::lease_is_over`] ends one. As many slots as a test may have tasks,
/// also where the slot of a task whose end was lost stays taken.
pub(crate) fn policy() -> Policy {
    let (lease, first_delay, slots) = (Duration::from_secs(600), Duration::from_secs(1), 8);
    // A catalogue would be one task more.
    let names = Names::Attributes;
    Policy { names, lease, first_delay, slots, cool_down: Duration::from_secs(3600), ..Policy::default() }
}

impl Deref for Watched {
    type Target = Stack;
    fn deref(&self) -> &Stack {
        &self.stack
    }
}

impl Watched {
    fn settings(&self) -> Settings {
        Settings::of_process()
            .with("AWS_ENDPOINT_URL", &endpoint())
            .with("BINPLZ_TABLE", &self.outputs["Table"])
            .with("BINPLZ_BUCKET", &self.outputs["Bucket"])
            .with("BINPLZ_QUEUE_URL", &self.outputs["Queue"])
            .with("BINPLZ_FIRST_PINS", &self.outputs["FirstPins"])
            .with("BINPLZ_SYSTEM", &self.outputs["System"])
    }

    fn ledger(&self) -> DynamoLedger {
        let settings = self.settings();
        DynamoLedger::open(&account(&settings), &settings).expect("settings")
    }

    /// The build's row.
    pub(crate) fn build(&self, target: &str) -> Option<Build> {
        self.versioned(target).map(|(build, _)| build)
    }

    fn versioned(&self, target: &str) -> Option<(Build, Version)> {
        let (settings, ledger) = (self.settings(), self.ledger());
        let pins: Pins = match now_and_here(ledger.load(&RowKey::Pins, Read::Consistent)).expect("the ledger") {
            Some((Row::Pins(pins), _)) => pins,
            _ => settings.first_pins().expect("the pins that were deployed"),
        };
        let target = Query::parse(&format!("/{target}"), None).expect("a target").target;
        let found = pins.resolve(&target, settings.system().expect("a system")).expect("a pin");
        let key = RowKey::Build(found.build(Product::Package(target.wanted.attr().clone())));
        match now_and_here(ledger.load(&key, Read::Consistent)).expect("the ledger") {
            Some((Row::Build(build), version)) => Some((build, version)),
            _ => None,
        }
    }

    /// All rows.
    pub(crate) fn rows(&self) -> Vec<Row> {
        let deployment = Receiving::open(&self.settings()).expect("settings");
        let (mut rows, mut after) = (Vec::new(), None);
        loop {
            let page = now_and_here(deployment.ledger().scan(after.as_ref(), 100)).expect("the ledger");
            rows.extend(page.rows.into_iter().map(|(row, _)| row));
            after = page.next;
            if after.is_none() {
                return rows;
            }
        }
    }

    /// The nixpkgs whose tarballs are in the bucket.
    pub(crate) fn nixpkgs(&self) -> Vec<String> {
        let deployment = Receiving::open(&self.settings()).expect("settings");
        let kept = now_and_here(deployment.store().kept_nixpkgs()).expect("the bucket");
        kept.into_iter().map(|kept| kept.rev.to_string()).collect()
    }

    fn s3(&self) -> aws_sdk_s3::Client {
        let config = aws_sdk_s3::config::Builder::from(account(&self.settings()).sdk()).force_path_style(true);
        aws_sdk_s3::Client::from_conf(config.build())
    }

    /// The bucket's objects whose names begin so.
    pub(crate) fn keys(&self, prefix: &str) -> Vec<String> {
        let list = self.s3().list_objects_v2().bucket(&self.outputs["Bucket"]).prefix(prefix);
        let listed = now_and_here(list.send()).expect("the bucket");
        listed.contents().iter().filter_map(|object| object.key().map(str::to_owned)).collect()
    }

    /// What is in one of them.
    pub(crate) fn object(&self, key: &str) -> Vec<u8> {
        let get = self.s3().get_object().bucket(&self.outputs["Bucket"]).key(key);
        let read = async { get.send().await.expect("an object").body.collect().await.expect("its bytes").to_vec() };
        now_and_here(read)
    }

    /// Writes one, as only who has the account may.
    pub(crate) fn put_as_the_account(&self, key: &str, content: &[u8]) {
        let put = self.s3().put_object().bucket(&self.outputs["Bucket"]).key(key);
        now_and_here(put.body(content.to_vec().into()).send()).expect("the bucket");
    }

    /// Deletes one, as only who has the account may.
    pub(crate) fn delete_as_the_account(&self, key: &str) {
        let delete = self.s3().delete_object().bucket(&self.outputs["Bucket"]).key(key);
        now_and_here(delete.send()).expect("the bucket");
    }

    /// Cancels a build, as an operator does who dies before its task is told.
    pub(crate) fn cancel_and_die(&self, target: &str) {
        let (key, settings) = (self.build(target).expect("a row").key, self.settings());
        let deployment = Receiving::open(&settings).expect("settings");
        now_and_here(advance(&deployment, &key, &Event::Cancel)).expect("it is under way");
    }

    /// Does something to the task that builds it; what, [`Scenario::task`] says.
    pub(crate) fn to_task(&self, target: &str, told: &Value) {
        let lease = self.build(target).expect("a row").lease().expect("a lease").id.to_string();
        let mut told = told.clone();
        told["lease"] = lease.into();
        self.scenario.task(&told);
    }

    /// How many tasks a lease has had.
    pub(crate) fn tasks_of(&self, lease: &LeaseId) -> usize {
        self.task_arns(Some(lease)).len()
    }

    /// How many tasks there ever were.
    pub(crate) fn tasks(&self) -> usize {
        self.task_arns(None).len()
    }

    fn task_arns(&self, lease: Option<&LeaseId>) -> BTreeSet<String> {
        let ecs = aws_sdk_ecs::Client::new(account(&self.settings()).sdk());
        let list = |status| {
            let list = ecs.list_tasks().cluster(&self.outputs["Cluster"]).desired_status(status);
            let pages = list.set_started_by(lease.map(ToString::to_string)).into_paginator().items().send();
            now_and_here(pages.collect::<Result<Vec<_>, _>>()).expect("tasks")
        };
        // A task that stops between the two lists is in both.
        [DesiredStatus::Running, DesiredStatus::Stopped].into_iter().flat_map(list).collect()
    }

    /// The row of slots and money, and its version.
    pub(crate) fn limits(&self) -> (Limits, Version) {
        let deployment = Receiving::open(&self.settings()).expect("settings");
        match now_and_here(deployment.ledger().load(&RowKey::Limits, Read::Consistent)).expect("the ledger") {
            Some((Row::Limits(limits), version)) => (limits, version),
            _ => (Limits::default(), Version(0)),
        }
    }

    /// Waits, without asking for the program, until its build has come to an end.
    pub(crate) fn ended(&self, target: &str) -> Build {
        wait_for(&format!("{target} to end"), || {
            let over = ["ready", "failed", "cooling-down"].contains(&self.status(target)["state"].as_str()?);
            over.then(|| self.build(target).expect("a row"))
        })
    }

    /// Has the lease end now that holds the build, as if its time had passed without a heartbeat.
    pub(crate) fn lease_is_over(&self, target: &str) {
        wait_for("the lease to be over", || {
            let (mut build, seen) = self.versioned(target).expect("a row");
            let State::Building(lease) = &mut build.state else { panic!("{target} has no lease") };
            lease.expires = binplz_clock::now();
            match now_and_here(self.ledger().commit(vec![Swap { seen, row: Row::Build(build) }])) {
                Ok(()) => Some(()),
                // A heartbeat was written in between.
                Err(NotCommitted::Conflict) => None,
                Err(NotCommitted::Unavailable(error)) => panic!("{error}"),
            }
        });
    }

    /// Waits until a build step of the program is under way.
    pub(crate) fn is_being_built(&self, target: &str) {
        wait_for(&format!("{target} to be built"), || {
            let status = self.status(target);
            assert!(["queued", "building"].contains(&status["state"].as_str().unwrap_or("")), "it is over: {status}");
            status["progress"]["step"].as_str()?.contains("buildPhase").then_some(())
        });
    }
}

/// How a build's attempts ended, the first one first.
pub(crate) fn ends(build: &Build) -> Vec<Option<Kind>> {
    build.history.iter().map(|attempt| attempt.failure.as_ref().map(|failure| failure.kind)).collect()
}

fn account(settings: &Settings) -> Account {
    Account::open(settings).expect("the variables of an account")
}

/// The value of a future, in a test that is not async: it sends and waits more than it asks AWS.
fn now_and_here<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
}
