//! Checks of an AWS account and a stack, before and after the deployment: what a new account lacks, and what operators
//! forget. Each finding comes with the command that fixes it. Without `fix`, a check changes nothing.

mod account;
mod deployed;
mod keys;

use aws_types::SdkConfig;
use binplz_core::{
    build::size::Size,
    flow::operator::findings::{Finding, State},
};

use crate::{causes, stack::Stack};

/// A check that could not be made.
fn unknown(check: &str, error: &dyn std::error::Error) -> Finding {
    Finding::unknown(check, causes(error))
}

/// Parallel builds, by the template's default.
const BUILDS: u32 = 4;

/// Makes all checks for the stack of that name; `fix`: creates the service-linked role if it is missing.
pub async fn examine(sdk: &SdkConfig, name: &str, fix: bool) -> Vec<Finding> {
    let mut findings = vec![account::identity(sdk).await, account::ecs_role(sdk, fix).await];
    let (found, stack) = look_at_stack(sdk, name).await;
    let known = found.state != State::Unknown;
    findings.push(found);
    let catalogue = stack.as_ref().is_none_or(Stack::has_catalogues);
    let (builds, size) = stack.as_ref().map_or((BUILDS, Size::default()), |stack| (stack.builds(), stack.size()));
    findings.extend(account::quotas(sdk, builds, catalogue, size).await);
    match &stack {
        Some(stack) if stack.outputs.contains_key("Table") => {
            findings.extend(deployed::examine(stack, sdk).await);
            findings.extend(keys::examine(stack, sdk).await);
            findings.extend(account::leftovers(sdk, name, Some(stack)).await);
        }
        None if known => {
            findings.extend(account::collisions(sdk, name).await);
            findings.extend(account::leftovers(sdk, name, None).await);
        }
        // CloudFormation has no outputs of a stack that is being made or rolled back, and may not have answered. What
        // has the stack's name may be its own, and must not be reported with a command that deletes it.
        _ => {}
    }
    findings
}

const STACK: &str = "stack";

async fn look_at_stack(sdk: &SdkConfig, name: &str) -> (Finding, Option<Stack>) {
    match Stack::find(sdk, name).await {
        Ok(Some(stack)) => (judge(name, &stack.status), Some(stack)),
        Ok(None) => {
            let told = format!("no stack {name} in this region yet");
            (Finding::missing(STACK, told, "scripts/sam build && scripts/sam deploy --guided"), None)
        }
        Err(error) => (unknown(STACK, &error), None),
    }
}

fn judge(name: &str, status: &str) -> Finding {
    let told = format!("the stack {name} is {status}");
    let mend = match status {
        // A failed update leaves the previous deployment, which works.
        "CREATE_COMPLETE" | "UPDATE_COMPLETE" | "UPDATE_ROLLBACK_COMPLETE" => return Finding::ok(STACK, told),
        // A first deployment that failed can only be deleted.
        "CREATE_FAILED" | "DELETE_FAILED" | "REVIEW_IN_PROGRESS" | "ROLLBACK_COMPLETE" | "ROLLBACK_FAILED" => {
            format!("aws cloudformation delete-stack --stack-name {name}")
        }
        "UPDATE_ROLLBACK_FAILED" => format!("aws cloudformation continue-update-rollback --stack-name {name}"),
        "CREATE_IN_PROGRESS" => format!("aws cloudformation wait stack-create-complete --stack-name {name}"),
        "DELETE_IN_PROGRESS" => format!("aws cloudformation wait stack-delete-complete --stack-name {name}"),
        "UPDATE_IN_PROGRESS" => format!("aws cloudformation wait stack-update-complete --stack-name {name}"),
        _ => format!("aws cloudformation describe-stack-events --stack-name {name}"),
    };
    Finding::missing(STACK, told, mend)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stack_that_is_not_whole_is_told_with_the_command_that_gets_on() {
        for (status, mend) in [
            ("CREATE_COMPLETE", None),
            ("UPDATE_ROLLBACK_COMPLETE", None),
            ("ROLLBACK_COMPLETE", Some("delete-stack")),
            ("CREATE_IN_PROGRESS", Some("wait stack-create-complete")),
            ("DELETE_FAILED", Some("delete-stack")),
            ("SOMETHING_NEW", Some("describe-stack-events")),
        ] {
            let found = judge("s", status);
            assert_eq!(found.state == State::Ok, mend.is_none(), "{status}");
            let mend = mend.map(|verb| format!("aws cloudformation {verb} --stack-name s"));
            assert_eq!(found.mend, mend, "{status}");
        }
    }
}
