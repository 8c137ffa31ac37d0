//! Builders as ECS tasks on Fargate: the first attempt on Spot; on demand after a failure, and while Spot is refused.

use aws_sdk_ecs::{
    Client,
    error::SdkError,
    operation::{
        run_task::{RunTaskError, RunTaskOutput},
        stop_task::StopTaskError,
    },
    types::{
        AssignPublicIp, AwsVpcConfiguration, CapacityProviderStrategyItem, ContainerOverride, EphemeralStorage,
        KeyValuePair, NetworkConfiguration, TaskOverride,
    },
};
use binplz_core::{
    build::Lease,
    id::key::{BuildKey, LeaseId, Rev, System},
    objects::artifact::{AttemptPrefix, nixpkgs_path},
    ports::{Launcher, NotLaunched, Unavailable},
    quota::limits::Why,
};

use crate::{
    account::Account,
    config::{ConfigError, Settings},
    images::Images,
    lease_url,
    objects::S3Objects,
    unavailable,
};

const ROLE: &str = "launcher";
/// DescribeTasks's limit per call.
const DESCRIBED: usize = 100;
/// The name of the only container in both task definitions.
pub const CONTAINER: &str = "builder";
/// The variable with the lease's URL.
pub(crate) const LEASE_URL: &str = "BINPLZ_LEASE_URL";
/// The variable with the lease's token.
const LEASE_TOKEN: &str = "BINPLZ_LEASE_TOKEN";

/// The cluster's tasks, for stopping them.
#[derive(Clone, Debug)]
pub struct EcsTasks {
    ecs: Client,
    cluster: String,
}

/// The cluster, and the parameters of a new task.
#[derive(Clone, Debug)]
pub struct EcsLauncher {
    tasks: EcsTasks,
    x86_64: String,
    arm64: String,
    network: AwsVpcConfiguration,
    images: Option<Images>,
    /// Where the tarballs of nixpkgs are.
    objects: Option<S3Objects>,
    origin: String,
}

impl EcsTasks {
    /// Those of the cluster that the settings name.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn open(account: &Account, settings: &Settings) -> Result<EcsTasks, ConfigError> {
        Ok(EcsTasks { ecs: Client::new(&account.sdk), cluster: settings.need("BINPLZ_CLUSTER")? })
    }

    /// Lists the tasks that run or are about to: of one lease, or all.
    async fn list(&self, lease: Option<&LeaseId>) -> Result<Vec<String>, Unavailable> {
        let list = self.ecs.list_tasks().cluster(&self.cluster).set_started_by(lease.map(ToString::to_string));
        let tasks = list.into_paginator().items().send().collect::<Result<Vec<_>, _>>().await;
        tasks.map_err(|error| unavailable(ROLE, &error))
    }
}

impl EcsLauncher {
    /// The cluster that the settings name.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn open(account: &Account, settings: &Settings) -> Result<EcsLauncher, ConfigError> {
        // A public subnet: there is no NAT gateway, and builds download from the internet.
        let network = AwsVpcConfiguration::builder()
            .set_subnets(Some(settings.list("BINPLZ_SUBNETS")?))
            .set_security_groups(Some(settings.list("BINPLZ_SECURITY_GROUPS")?))
            .assign_public_ip(AssignPublicIp::Enabled)
            .build()
            .map_err(|_| ConfigError::Missing("BINPLZ_SUBNETS"))?;
        Ok(EcsLauncher {
            tasks: EcsTasks::open(account, settings)?,
            x86_64: settings.need("BINPLZ_TASK_X86_64")?,
            arm64: settings.need("BINPLZ_TASK_ARM64")?,
            network,
            images: Images::open(account, settings)?,
            objects: settings.find("BINPLZ_BUCKET").map(|_| S3Objects::open(account, settings)).transpose()?,
            origin: settings.origin()?,
        })
    }

    fn definition(&self, system: System) -> &str {
        match system {
            System::X86_64Linux => &self.x86_64,
            System::Aarch64Linux => &self.arm64,
        }
    }
}

impl Launcher for EcsLauncher {
    async fn launch(&self, key: &BuildKey, lease: &Lease) -> Result<String, NotLaunched> {
        let variable = |name: &str, value: &str| KeyValuePair::builder().name(name).value(value).build();
        let container = ContainerOverride::builder()
            .name(CONTAINER)
            .environment(variable(LEASE_URL, &lease_url::write(&self.origin, key, &lease.id)))
            .environment(variable(LEASE_TOKEN, lease.token.reveal()))
            .build();
        let machine = TaskOverride::builder()
            .cpu(lease.size.cpu().to_string())
            .memory(lease.size.memory().to_string())
            .ephemeral_storage(EphemeralStorage::builder().size_in_gib(lease.size.disk().into()).build())
            .container_overrides(container);
        let capacity = if lease.is_on_demand() { "FARGATE" } else { "FARGATE_SPOT" };
        let capacity = CapacityProviderStrategyItem::builder().capacity_provider(capacity).weight(1).build();
        let run = self
            .tasks
            .ecs
            .run_task()
            .cluster(&self.tasks.cluster)
            .task_definition(self.definition(key.system))
            .count(1)
            // A lease is one attempt and its id is unique: the same lease again gives the same task. This makes RunTask
            // idempotent.
            .client_token(lease.id.as_str())
            .started_by(lease.id.as_str())
            .capacity_provider_strategy(capacity.map_err(refused)?)
            .network_configuration(NetworkConfiguration::builder().awsvpc_configuration(self.network.clone()).build())
            .overrides(machine.build());
        match run.send().await {
            Ok(answer) => started(&answer),
            Err(error) => not_started(&error),
        }
    }

    async fn stop(&self, lease: &LeaseId, task: Option<&str>) -> Result<(), Unavailable> {
        self.tasks.stop(lease, task).await
    }

    async fn running(&self) -> Result<Vec<LeaseId>, Unavailable> {
        self.tasks.running().await
    }

    async fn obstacle(&self, system: System) -> Result<Option<Why>, Unavailable> {
        match &self.images {
            Some(images) => Ok((!images.has(system).await?).then_some(Why::NoImage)),
            None => Ok(None),
        }
    }

    async fn lacks_nixpkgs(&self, rev: &Rev) -> Result<bool, Unavailable> {
        match &self.objects {
            Some(objects) => Ok(!objects.exists(&nixpkgs_path(rev)).await?),
            None => Ok(false),
        }
    }

    async fn left(&self, prefix: &AttemptPrefix) -> Result<Option<u64>, Unavailable> {
        match &self.objects {
            Some(objects) => objects.left(prefix).await.map(Some),
            None => Ok(None),
        }
    }
}

/// For an operator, who stops builders and starts none.
impl Launcher for EcsTasks {
    async fn launch(&self, _: &BuildKey, _: &Lease) -> Result<String, NotLaunched> {
        Err(Unavailable::new(ROLE, "an operator starts no builder").into())
    }

    async fn stop(&self, lease: &LeaseId, task: Option<&str>) -> Result<(), Unavailable> {
        let tasks = match task {
            Some(task) => vec![task.to_owned()],
            None => self.list(Some(lease)).await?,
        };
        for task in tasks {
            let stop = self.ecs.stop_task().cluster(&self.cluster).task(task).reason("the lease is over").send().await;
            match stop {
                Ok(_) => {}
                Err(error) if gone(&error) => {}
                Err(error) => return Err(unavailable(ROLE, &error)),
            }
        }
        Ok(())
    }

    async fn running(&self) -> Result<Vec<LeaseId>, Unavailable> {
        let mut running = Vec::new();
        for tasks in self.list(None).await?.chunks(DESCRIBED) {
            let describe = self.ecs.describe_tasks().cluster(&self.cluster).set_tasks(Some(tasks.to_vec()));
            let told = describe.send().await.map_err(|error| unavailable(ROLE, &error))?;
            // Tasks that another service started are not ours to stop.
            running.extend(told.tasks().iter().filter_map(|task| task.started_by()?.parse().ok()));
        }
        Ok(running)
    }
}

fn refused(cause: impl ToString) -> NotLaunched {
    NotLaunched::Refused(cause.to_string())
}

/// A 200 means that the request was understood. Its lists say whether a task will run.
fn started(answer: &RunTaskOutput) -> Result<String, NotLaunched> {
    let task = answer.tasks().first().and_then(|task| task.task_arn());
    task.map(str::to_owned).ok_or_else(|| match answer.failures() {
        [] => NotLaunched::Unavailable(Unavailable::new(ROLE, "neither a task nor a failure")),
        failures => refused(failures.iter().filter_map(|f| f.reason()).collect::<Vec<_>>().join(", ")),
    })
}

/// If the service refuses, no task exists, also for "too many requests" or "no capacity": the row waits, and is tried
/// again. Without an answer, or if the service itself fails, there may be one.
fn not_started(error: &SdkError<RunTaskError>) -> Result<String, NotLaunched> {
    let failing = error.raw_response().is_none_or(|response| response.status().is_server_error());
    match error.as_service_error() {
        // The lease's task was started before, with other settings: that task is it.
        Some(RunTaskError::ConflictException(conflict)) if !conflict.resource_ids().is_empty() => {
            Ok(conflict.resource_ids()[0].clone())
        }
        Some(service) if !failing => {
            let meta = service.meta();
            let (code, message) = (meta.code().unwrap_or("no code"), meta.message().unwrap_or("no message"));
            Err(refused(format!("{code}: {message}")))
        }
        _ => Err(unavailable(ROLE, error).into()),
    }
}

/// "The referenced task was not found": it stopped an hour ago or more.
fn gone(error: &SdkError<StopTaskError>) -> bool {
    error.as_service_error().is_some_and(|error| {
        error.is_invalid_parameter_exception() && error.meta().message().is_some_and(|text| text.contains("not found"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_ecs::{
        error::ErrorMetadata,
        types::{Failure, Task},
    };
    use aws_smithy_runtime_api::http::{Response, StatusCode};
    use aws_smithy_types::body::SdkBody;

    fn failed(status: u16, code: &str) -> Result<String, NotLaunched> {
        let error = RunTaskError::generic(ErrorMetadata::builder().code(code).message("so it is").build());
        let status = StatusCode::try_from(status).expect("a status");
        not_started(&SdkError::service_error(error, Response::new(status, SdkBody::empty())))
    }

    #[test]
    fn a_200_is_a_task_only_where_it_names_one() {
        let failure = |reason: &str| Failure::builder().reason(reason).build();
        let full = RunTaskOutput::builder().failures(failure("RESOURCE:MEMORY")).failures(failure("AGENT")).build();
        assert_eq!(started(&full), Err(NotLaunched::Refused("RESOURCE:MEMORY, AGENT".to_owned())));
        let task = RunTaskOutput::builder().tasks(Task::builder().task_arn("arn").build()).build();
        assert_eq!(started(&task), Ok("arn".to_owned()));
        assert!(matches!(started(&RunTaskOutput::builder().build()), Err(NotLaunched::Unavailable(_))));
    }

    #[test]
    fn a_no_is_no_task_and_a_failing_service_says_neither() {
        for (status, code) in [(400, "ThrottlingException"), (400, "ClientException"), (403, "AccessDeniedException")] {
            assert_eq!(failed(status, code), Err(NotLaunched::Refused(format!("{code}: so it is"))));
        }
        for (status, code) in [(500, "ServerException"), (503, "ServiceUnavailable")] {
            assert!(matches!(failed(status, code), Err(NotLaunched::Unavailable(_))), "{code}");
        }
        let lost = not_started(&SdkError::timeout_error("no answer"));
        assert!(matches!(lost, Err(NotLaunched::Unavailable(_))));
    }
}
