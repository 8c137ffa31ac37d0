//! `binplz key`: API keys, for clients that need more builds a day than an address may start.

use binplz_core::{
    flow::operator::orders::{Operator, Order},
    id::key::{KeyName, Sha256, hex},
    quota::client::{Key, KeyChange, Keys},
};
use clap::{Args as ClapArgs, Subcommand};

use crate::{operate::OperateError, site::Which};

/// The arguments of `binplz key`.
#[derive(ClapArgs)]
pub(crate) struct Args {
    #[command(flatten)]
    which: Which,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Create a key, and print its secret, which is not shown again. Usage: curl -L -H 'Authorization: Bearer SECRET' HOST/tree
    Add {
        /// The name of the key: 1 to 64 of a-z, 0-9, dots and dashes
        name: KeyName,
        /// New builds per day [default: limited by the budget only]
        #[arg(long, value_name = "N")]
        builds: Option<u32>,
    },
    /// Revoke a key
    Remove {
        /// The name of the key
        name: KeyName,
    },
    /// List the keys, without their secrets
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// Runs the command.
///
/// # Errors
/// [`OperateError`].
pub(crate) async fn key(Args { which, verb }: Args) -> Result<(), OperateError> {
    let site = which.find().await?;
    let change = async |change| site.carry_out(Order::ChangeKeys(change)).await?.keys();
    match verb {
        Verb::Add { name, builds } => {
            let secret = hex(&binplz_clock::random::<16>());
            change(KeyChange::Add { name, sha256: Sha256::of(secret.as_bytes()), builds }).await?;
            println!("{secret}");
        }
        Verb::Remove { name } => {
            change(KeyChange::Remove(name)).await?;
        }
        Verb::List { json } => {
            let keys = site.carry_out(Order::Keys).await?.keys()?;
            match json {
                true => println!("{}", serde_json::json!(keys)),
                false => print!("{}", told(&keys)),
            }
        }
    }
    Ok(())
}

fn told(keys: &Keys) -> String {
    let line = |(name, key): (&KeyName, &Key)| {
        let builds = match key.builds {
            Some(1) => "1 build a day".to_owned(),
            Some(builds) => format!("{builds} builds a day"),
            None => "any number of builds".to_owned(),
        };
        // A name does not fill its column by itself.
        format!("{:<20} {builds}, since {}\n", name.to_string(), key.since.day())
    };
    keys.all().iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use binplz_core::id::time::Timestamp;

    use super::*;

    #[test]
    fn keys_are_told_in_columns_and_without_their_secrets() {
        let add = |keys: &Keys, name: &str, builds| {
            let (name, sha256) = (name.parse().expect("a name"), Sha256::of(name.as_bytes()));
            let change = KeyChange::Add { name, sha256, builds };
            keys.changed(&change, Timestamp(1_800_000_000_000)).expect("a new one").expect("a change")
        };
        let keys = add(&add(&add(&Keys::default(), "ci", Some(1)), "mirror.example", Some(500)), "open", None);
        assert_eq!(
            told(&keys),
            "ci                   1 build a day, since 2027-01-15\n\
             mirror.example       500 builds a day, since 2027-01-15\n\
             open                 any number of builds, since 2027-01-15\n"
        );
        assert_eq!(told(&Keys::default()), "");
    }
}
