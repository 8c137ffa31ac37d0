//! A deployed binplz on the bed (`tests/bed/up --tasks`): the project's template, its Lambda functions and its builders' image.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
    ops::Deref,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use binplz_core::build::policy::Policy;
use serde_json::{Value, json};

use crate::{
    answers::Running,
    server::{program, repository},
    site::Site,
};

/// A stack of its own. Dropped, it is deleted.
pub struct Stack {
    site: Site,
    /// Its name.
    pub name: String,
    /// Its region.
    pub region: String,
    /// The account's root: its access key.
    account: String,
    /// The template's outputs, by name: `Table`, `Bucket`, `Queue`, `DeadLetters`, `Cluster`, `Logs`, `BuilderRepository`, …
    pub outputs: BTreeMap<String, String>,
    /// The functions' names: of `api`, `lease`, `wait`, `dispatcher`, `reaper`, `collector`, `promoter` and `signer`.
    pub functions: BTreeMap<String, String>,
}

impl Stack {
    /// A stack whose pin is `set`, with its tarball in the bucket and with the demo's image.
    pub fn deploy(set: &Path, policy: &Policy) -> Stack {
        Stack::deploy_with(set, policy, &[])
    }

    /// The same; `more` are more of `stack.py`'s arguments: `--parameter=MaxBuilds=1`, `--env=NAME=VALUE`, `--no-image`, …
    pub fn deploy_with(set: &Path, policy: &Policy, more: &[&str]) -> Stack {
        Stack::deploy_in("us-east-1", set, policy, more)
    }

    /// The same, in that region.
    pub fn deploy_in(region: &str, set: &Path, policy: &Policy, more: &[&str]) -> Stack {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("t{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let mut stack = Stack::undeployed(name, region, "test");
        stack.update(set, policy, more);
        stack
    }

    /// A stack that is not deployed yet, in the account of that number, which is a new one.
    pub fn in_account(account: &str) -> Stack {
        Stack::undeployed(format!("n{}", std::process::id()), "us-east-1", account)
    }

    /// A stack of the same name in another region.
    pub fn twin(&self, region: &str, set: &Path, policy: &Policy, more: &[&str]) -> Stack {
        let mut stack = Stack::undeployed(self.name.clone(), region, &self.account);
        stack.update(set, policy, more);
        stack
    }

    fn undeployed(name: String, region: &str, account: &str) -> Stack {
        let (outputs, functions) = (BTreeMap::new(), BTreeMap::new());
        let (region, account) = (region.to_owned(), account.to_owned());
        Stack { site: Site::at(""), name, region, account, outputs, functions }
    }

    /// A verb of `stack.py` for it.
    fn tool(&self, verb: &str, more: &[&str]) -> Command {
        let mut tool = tool(verb, &[&[self.name.as_str()], more].concat());
        tool.envs([("AWS_REGION", &self.region), ("AWS_DEFAULT_REGION", &self.region)]);
        tool.env("AWS_ACCESS_KEY_ID", &self.account);
        tool
    }

    /// Deploys again, over what is there.
    pub fn update(&mut self, set: &Path, policy: &Policy, more: &[&str]) {
        self.try_update(set, policy, more).unwrap_or_else(|error| panic!("{error}"));
    }

    /// The same.
    ///
    /// # Errors
    /// The last words of what deploys.
    pub fn try_update(&mut self, set: &Path, policy: &Policy, more: &[&str]) -> Result<(), String> {
        let mut deploy = self.tool("deploy", &[]);
        deploy
            .arg("--set")
            .arg(set)
            .arg(format!("--parameter=Names={}", policy.names))
            .args(environment(policy).iter().flat_map(|pair| ["--env", pair]))
            .args(more);
        let output = deploy.output().expect("the bed's Python");
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        let told: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        self.functions = texts(&told["functions"]);
        self.outputs = texts(&told);
        let url = &self.outputs["ApiUrl"];
        self.site.address = url.strip_prefix("http://").expect("the bed speaks http").to_owned();
        Ok(())
    }

    /// The ids of all that it made.
    pub fn resources(&self) -> BTreeSet<String> {
        self.made().into_values().collect()
    }

    /// The same, by their names in the template.
    pub fn made(&self) -> BTreeMap<String, String> {
        texts(&said(self.tool("resources", &[])))
    }

    /// Calls one of its functions, as its schedule does, and waits until it has ended, or was killed.
    pub fn invoke(&self, function: &str) {
        self.answer(function, &Value::Object(serde_json::Map::new()));
    }

    /// What one of its functions answers to an event.
    pub fn answer(&self, function: &str, event: &Value) -> Value {
        said(self.tool("invoke", &[function, "--event", &event.to_string()]))
    }

    /// Its builders' containers, as `podman ps` would list them: those of its tasks that run.
    pub fn containers(&self) -> Vec<String> {
        let mine = format!("label=com.amazonaws.ecs.cluster={}", self.outputs["Cluster"]);
        let listed = podman().args(["ps", "--quiet", "--no-trunc", "--filter", &mine]).output().expect("podman");
        assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
        String::from_utf8_lossy(&listed.stdout).lines().map(str::to_owned).collect()
    }
}

impl Running for Stack {
    const PAID: bool = true;

    fn operator(&self, arguments: &[&str]) -> Command {
        let endpoint = std::env::var("BINPLZ_BED").expect("BINPLZ_BED: run this by tests/bed/up --tasks");
        let mut command = Command::new(program("binplz"));
        command.args(arguments).args(["--stack", &self.name]);
        command.env("AWS_ENDPOINT_URL", endpoint).env("AWS_REGION", &self.region);
        command.env("AWS_ACCESS_KEY_ID", &self.account);
        command
    }
    fn builders(&self) -> Vec<String> {
        // ECS lists them in any order.
        let mut tasks: Vec<String> = list(&said(self.tool("tasks", &[]))).collect();
        tasks.sort();
        tasks
    }
    fn objects(&self) -> Vec<(String, String)> {
        texts(&said(self.tool("objects", &[]))).into_iter().collect()
    }
}

impl Deref for Stack {
    type Target = Site;
    fn deref(&self) -> &Site {
        &self.site
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // A test that fails should say why it did, not this.
        let _ = self.tool("delete", &[]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}

/// The bed's podman, in which the tasks are.
pub fn podman() -> Command {
    Command::new(repository().join("infra/image/podman"))
}

/// The ids of all that is in a region of the bed, in any stack or none.
pub fn inventory(region: &str) -> BTreeSet<String> {
    let mut tool = tool("inventory", &[]);
    tool.envs([("AWS_REGION", region), ("AWS_DEFAULT_REGION", region)]);
    list(&said(tool)).collect()
}

/// Makes two keys that sign, for the parameter `SigningKeys`.
pub fn signing_keys() -> Vec<String> {
    list(&said(tool("keys", &[]))).collect()
}

/// Asks AWS as boto3 does, each with its credentials (`{}`: the account's root): a service, an operation and its parameters.
/// The error's code, and the answer.
pub fn ask(asked: &[(Value, &str, &str, Value)]) -> Vec<(Option<String>, Value)> {
    let mut child = script("ask.py").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the bed's Python");
    let mut input = child.stdin.take().expect("a pipe");
    input.write_all(json!(asked).to_string().as_bytes()).expect("it reads all");
    drop(input);
    let output = child.wait_with_output().expect("a child");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// A script of the bed's.
fn script(name: &str) -> Command {
    let python = std::env::var_os("BINPLZ_BED_PYTHON").map(PathBuf::from);
    let mut command = Command::new(python.expect("BINPLZ_BED_PYTHON: run this by tests/bed/up"));
    command.arg(repository().join("tests/bed").join(name));
    command
}

fn tool(verb: &str, arguments: &[&str]) -> Command {
    let mut command = script("stack.py");
    command.arg(verb).args(arguments).stdin(Stdio::null());
    command
}

fn said(mut tool: Command) -> Value {
    let output = tool.output().expect("the bed's Python");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// The members of an object that are texts.
fn texts(value: &Value) -> BTreeMap<String, String> {
    let members = value.as_object().expect("an object").iter();
    members.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect()
}

fn list(value: &Value) -> impl Iterator<Item = String> {
    value.as_array().expect("a list").iter().map(|text| text.as_str().expect("a text").to_owned())
}

/// A policy, as functions read it (`functions/aws/src/config.rs`).
fn environment(policy: &Policy) -> Vec<String> {
    let job = &policy.job;
    let numbers = [
        ("LEASE_SECONDS", policy.lease.as_secs()),
        ("ATTEMPTS", policy.attempts.into()),
        ("RETRY_DELAY_SECONDS", policy.first_delay.as_secs()),
        ("COOL_DOWN_SECONDS", policy.cool_down.as_secs()),
        ("BUILD_SECONDS", job.seconds),
        ("SILENT_SECONDS", job.silent_seconds),
        ("LOG_BYTES", job.log_bytes),
        ("PROGRAM_BYTES", job.program_bytes),
        ("PACKAGE_BYTES", job.package_bytes),
        ("BUNDLE_BYTES", job.bundle_bytes),
        ("SLOTS", policy.slots as u64),
        ("HOLD_SECONDS", policy.hold.as_secs()),
        ("WAITERS", policy.waiters as u64),
        // There 0 is no limit.
        ("CLIENT_BUILDS", policy.client_builds.unwrap_or(0).into()),
    ];
    let numbers = numbers.map(|(name, number)| format!("BINPLZ_{name}={number}"));
    numbers.into_iter().chain([format!("BINPLZ_SIZE={}", policy.size)]).collect()
}
