//! `binplz plan` and `binplz allow`: what a build would take, and how much it may.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use binplz_core::{
    build::{
        plan::{DryRun, about},
        protocol::Job,
    },
    flow::operator::{
        forecast::Foreseen,
        orders::{Declined, Named, Operator, Order},
    },
    id::text::bytes,
};
use clap::Args as ClapArgs;

use crate::operate::{One, OperateError, builds};

/// The arguments of `binplz plan`.
#[derive(ClapArgs)]
pub(crate) struct Plan {
    #[command(flatten)]
    one: One,
    /// The builder program, which evaluates the package on this machine [default: binplz-builder beside this program]
    #[arg(long, value_name = "FILE")]
    builder: Option<PathBuf>,
}

/// The arguments of `binplz allow`.
#[derive(ClapArgs)]
pub(crate) struct Allow {
    #[command(flatten)]
    one: One,
    /// The time limit of each attempt, in hours: 8, or 1.5
    #[arg(long, value_name = "HOURS", value_parser = hours, required_unless_present = "clear")]
    hours: Option<Duration>,
    /// Return to the deployment's limit
    #[arg(long, conflicts_with = "hours")]
    clear: bool,
}

/// The most hours: what is longer is a slip of the finger.
const HOURS_MAX: f64 = 7.0 * 24.0;

fn hours(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(hours) if hours > 0.0 && hours <= HOURS_MAX => Ok(Duration::from_secs_f64((hours * 3600.0).ceil())),
        _ => Err(format!("expected a number of hours, at most {HOURS_MAX}")),
    }
}

pub(crate) async fn allow(Allow { one: One { of, common }, hours, clear: _ }: Allow) -> Result<(), OperateError> {
    let seconds = hours.map(|time| time.as_secs());
    let build = common.which.find().await?.carry_out(Order::Allow { of, seconds }).await?.build()?;
    match (common.json, hours) {
        (true, _) => println!("{}", serde_json::json!(build)),
        (false, None) => println!("{}: the limit of all builds applies", builds::name(&build)),
        (false, Some(time)) => {
            println!("{}: each attempt may take {}; its state is {}", builds::name(&build), about(time), build.state);
        }
    }
    Ok(())
}

pub(crate) async fn plan(Plan { one: One { of, common }, builder }: Plan) -> Result<(), OperateError> {
    let builder = match builder {
        Some(builder) => builder,
        None => std::env::current_exe()?.with_file_name("binplz-builder"),
    };
    let site = common.which.find().await?;
    let job = site.carry_out(Order::Job(of.clone())).await?.job()?;
    let run = dry_run(&builder, &job)?;
    let foreseen = site.carry_out(Order::Plan { of: Named::Key(job.key.clone()), run }).await?.plan()?;
    match common.json {
        true => println!("{}", serde_json::json!(foreseen)),
        false => print!("{}", told(&foreseen)),
    }
    Ok(())
}

/// Evaluates a job with this machine's Nix.
fn dry_run(builder: &Path, job: &Job) -> Result<DryRun, OperateError> {
    if Command::new("nix-instantiate").arg("--version").stdout(Stdio::null()).status().is_err() {
        return Err(OperateError::Some(
            "a plan is made by Nix on this machine, and Nix is not installed; install it: scripts/setup --nix"
                .to_owned(),
        ));
    }
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", builder.display()));
    let mut command = Command::new(builder);
    command.arg("plan").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().map_err(named)?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(serde_json::json!(job).to_string().as_bytes())?;
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        return Err(OperateError::Some("the package was not evaluated".to_owned()));
    }
    Ok(serde_json::from_slice(&output.stdout).map_err(|error| Declined(format!("the builder's plan: {error}")))?)
}

fn told(Foreseen { key, plan, size, limit_seconds, price, refused }: &Foreseen) -> String {
    let mut text = format!("build     {key}\nplan      {plan}\n");
    let mut line = |name: &str, value: &str| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{name:<10}{value}");
    };
    if let Some(expected) = plan.expected() {
        let price = price.map_or(String::new(), |price| format!(", {price} on demand"));
        line("ready in", &format!("about {} after its start{price}", about(expected)));
    }
    if let Some(memory) = plan.memory {
        line("memory", &format!("{} for the heaviest derivation", bytes(memory)));
    }
    line("machine", &size.to_string());
    line("limit", &about(Duration::from_secs(*limit_seconds)));
    if let Some(refused) = refused {
        line("refused", &refused.sentence());
    }
    text
}

#[cfg(test)]
mod tests {
    use binplz_core::{
        build::{
            failure::{Failure, Kind},
            plan::Plan,
        },
        id::money::Micros,
    };

    use super::*;

    #[test]
    fn a_plan_is_told_with_its_price_and_its_limit() {
        let plan = Plan { to_build: 3, milliseconds: 7_200_000, expected: Some(7_500_000), ..Plan::default() };
        let foreseen = Foreseen {
            key: format!("{}/x86_64-linux/tree", "ab".repeat(20)).parse().expect("a key"),
            plan,
            size: "4096/9216/50".parse().expect("a size"),
            limit_seconds: 3600,
            price: Some(Micros(120_000)),
            refused: Some(Failure::new(Kind::TooLong, "why")),
        };
        let told = told(&foreseen);
        assert!(told.ends_with(
            "/x86_64-linux/tree\nplan      3 to build, about 120 minutes\nready in  about 125 minutes after its start, $0.12 on demand\n\
             machine   4096/9216/50\nlimit     60 minutes\nrefused   the build cannot finish within its time limit: why\n"
        ), "{told}");
    }

    #[test]
    fn hours_are_a_number_that_is_not_a_slip() {
        assert_eq!((hours("8"), hours("1.5")), (Ok(Duration::from_secs(28_800)), Ok(Duration::from_secs(5400))));
        assert!(["0", "-1", "800", "x", "NaN"].iter().all(|text| hours(text).is_err()));
    }
}
