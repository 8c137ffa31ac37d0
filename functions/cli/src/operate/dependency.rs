//! `binplz dependency`: dependencies that are known to fail, so that no further package is built in vain.

use binplz_core::{
    build::failed_dependencies::FailedDependency,
    flow::operator::orders::{Operator, Order},
    id::key::DrvHash,
};
use clap::{Args as ClapArgs, Subcommand};

use crate::{operate::OperateError, site::Which};

/// What `binplz dependency` takes.
#[derive(ClapArgs)]
pub(crate) struct Args {
    #[command(flatten)]
    which: Which,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// List these dependencies, with the packages that hit them
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Clear a dependency, so that packages that need it can be built
    Clear {
        /// The hash of the dependency's derivation, as printed by list: HASH in /nix/store/HASH-zlib-1.3.drv
        hash: DrvHash,
    },
}

/// Carries the command out.
///
/// # Errors
/// [`OperateError`].
pub(crate) async fn dependency(Args { which, verb }: Args) -> Result<(), OperateError> {
    let site = which.find().await?;
    match verb {
        Verb::List { json } => {
            let all = site.carry_out(Order::FailedDependencies).await?.failed_dependencies()?;
            match json {
                true => println!("{}", serde_json::json!(all)),
                false => print!("{}", all.iter().map(line).collect::<String>()),
            }
        }
        Verb::Clear { hash } => {
            site.carry_out(Order::ClearDependency(hash)).await?;
        }
    }
    Ok(())
}

fn line(FailedDependency { drv, system, failure, packages, counts, until }: &FailedDependency) -> String {
    let name = failure.derivation.as_deref().unwrap_or("?");
    let packages = packages.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let effect = if *counts { "packages that need it fail at once" } else { "packages that need it are still built" };
    format!("{drv}  {name} ({system}): hit by {packages}; {effect}, until {} (UTC)\n", until.day())
}

#[cfg(test)]
mod tests {
    use binplz_core::{
        build::failure::{Failure, Kind},
        id::time::Timestamp,
    };

    use super::*;

    #[test]
    fn a_dependency_is_listed_with_the_hash_that_clears_it() {
        let drv = "0c8avx37rwvyk1s2x2v7x2hqkxbs3qd4";
        let failure = Failure { derivation: Some("zlib-1.3".to_owned()), ..Failure::new(Kind::BuildFailed, "") };
        let listed = FailedDependency {
            drv: drv.parse().expect("a hash"),
            system: "x86_64-linux".parse().expect("a system"),
            failure,
            packages: ["tree", "dash"].map(|name| name.parse().expect("a name")).into(),
            counts: true,
            until: Timestamp(1_800_000_000_000),
        };
        assert_eq!(
            line(&listed),
            format!(
                "{drv}  zlib-1.3 (x86_64-linux): hit by tree, dash; packages that need it fail at once, until 2027-01-15 (UTC)\n"
            )
        );
    }
}
