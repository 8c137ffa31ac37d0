//! `binplz signing-key`: which keys sign, and the acceptance of others after a rotation or a loss.

use binplz_core::{
    flow::operator::{
        orders::{Operator, Order},
        signing::SigningKeys,
    },
    trust::head::Offered,
};
use clap::{Args as ClapArgs, Subcommand};

use crate::operate::{Common, OperateError};

/// The arguments of `binplz signing-key`.
#[derive(ClapArgs)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// List the keys of artifacts and of the transparency log, and when each signs
    List(Common),
    /// Accept the signer's new keys; the signer signs with them from then on
    Accept(Common),
}

/// Runs the command.
///
/// # Errors
/// [`OperateError`].
pub(crate) async fn signing_key(Args { verb }: Args) -> Result<(), OperateError> {
    let (common, accepts) = match verb {
        Verb::List(common) => (common, false),
        Verb::Accept(common) => (common, true),
    };
    let site = common.which.find().await?;
    let mut keys = site.carry_out(Order::SigningKeys).await?.signing_keys()?;
    if accepts {
        let Some(Offered { artifacts, log }) = &keys.offered else {
            return Err(OperateError::Some("the signer has no new keys to accept".to_owned()));
        };
        let (artifacts, log) = (artifacts.to_string(), String::from(log.clone()));
        common.confirm.that(|| format!("signs with {artifacts} and {log} from now on; clients that trust only the old keys refuse the new signatures"))?;
        keys = site.carry_out(Order::AcceptSigningKeys).await?.signing_keys()?;
    }
    match common.json {
        true => println!("{}", serde_json::json!(keys)),
        false => print!("{}", told(&keys)),
    }
    Ok(())
}

fn told(keys: &SigningKeys) -> String {
    let mut text = keys.keyring.to_string();
    if let Some(Offered { artifacts, log }) = &keys.offered {
        let log = String::from(log.clone());
        text.push_str(&format!("not accepted: artifacts {artifacts}\nnot accepted: log {log}\n"));
    }
    text
}
