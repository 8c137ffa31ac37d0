//! `binplz witness`: the witnesses of the transparency log, and the checkpoints that they have cosigned.

use std::path::PathBuf;

use binplz_core::{
    flow::operator::orders::{Operator, Order},
    trust::{head::LogKey, note::NoteKey},
};
use clap::{Args as ClapArgs, Subcommand};

use crate::{
    check,
    operate::{Common, OperateError},
};

/// The arguments of `binplz witness`.
#[derive(ClapArgs)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// List the witnesses' keys, and print the last checkpoint that they have cosigned
    List(Common),
    /// Add the cosignatures of a checkpoint
    Add(Add),
}

#[derive(ClapArgs)]
struct Add {
    /// A file: a checkpoint of the log, with the witnesses' signature lines after the log's own
    #[arg(value_name = "CHECKPOINT")]
    checkpoint: PathBuf,
    /// The verifier key of a new witness; may be given several times
    #[arg(long, value_name = "KEY")]
    key: Vec<NoteKey>,
    #[command(flatten)]
    common: Common,
}

/// Runs the command.
///
/// # Errors
/// [`OperateError`].
pub(crate) async fn witness(Args { verb }: Args) -> Result<(), OperateError> {
    let (common, add) = match verb {
        Verb::List(common) => (common, None),
        Verb::Add(Add { checkpoint, key, common }) => (common, Some((checkpoint, key))),
    };
    let site = common.which.find().await?;
    let mut keys = site.carry_out(Order::SigningKeys).await?.signing_keys()?;
    if let Some((path, new)) = add {
        let log: Vec<NoteKey> = keys.keyring.log.iter().map(|dated| dated.key.0.clone()).collect();
        let known: Vec<NoteKey> = keys.witnesses.iter().map(|key| key.0.clone()).collect();
        let checkpoint = check::cosigned(&path, &log, &known, &new)?.to_string();
        let order = Order::AddCosignatures { keys: new.into_iter().map(LogKey).collect(), checkpoint };
        keys = site.carry_out(order).await?.signing_keys()?;
    }
    if common.json {
        println!("{}", serde_json::json!({ "witnesses": keys.witnesses, "witnessed": keys.witnessed }));
    } else {
        keys.witnesses.iter().for_each(|key| println!("witness {}", key.0));
        keys.witnessed.iter().for_each(|note| print!("\n{note}"));
    }
    Ok(())
}
