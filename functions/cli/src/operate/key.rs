//! `binplz key`: API keys, for clients that are trusted with more builds a day than an address is.

use std::fmt;

use binplz_core::{
    client::{Key, KeyChange},
    flow::operate::{Operator, Order},
    key::{KeyName, Sha256, hex},
};
use clap::{Args as ClapArgs, Subcommand};

use crate::{operate::Fault, site::Which};

/// What `binplz key` takes.
#[derive(ClapArgs)]
pub(crate) struct Args {
    #[command(flatten)]
    which: Which,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Make a key, and tell its secret this once: curl -L -H 'Authorization: Bearer SECRET' HOST/tree
    Add {
        /// What to call it: 1 to 64 of a-z, 0-9, dots and dashes
        name: KeyName,
        /// Builds that its holder may have started in a day [default: no limit but the budget]
        #[arg(long, value_name = "N")]
        builds: Option<u32>,
    },
    /// Let a key count no more
    Remove {
        /// The key
        name: KeyName,
    },
    /// Tell the keys, without their secrets
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

/// Does it.
///
/// # Errors
/// [`Fault`].
pub(crate) async fn key(Args { which, verb }: Args) -> Result<(), Fault> {
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
                false => keys.all().iter().for_each(|(name, key)| println!("{name:<20} {}", Told(key))),
            }
        }
    }
    Ok(())
}

struct Told<'a>(&'a Key);

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.builds {
            Some(builds) => write!(f, "{builds} builds a day")?,
            None => f.write_str("any number of builds")?,
        }
        write!(f, ", since {}", self.0.since.day())
    }
}
