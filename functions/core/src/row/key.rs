//! A row's name, and its text: the same in every ledger. Roles' permissions are limited by its prefix.
//!
//! ```text
//! build/REV/SYSTEM/ATTR · derivation/SYSTEM/HASH · dependency/SYSTEM/HASH · served/ASKED · past/SYSTEM/ATTR ·
//! learned/SYSTEM/PNAME ·
//! doomed/SYSTEM · trash/REV/SYSTEM/ATTR/LEASE · trash/blob/SHA256 · client/CLIENT · keys · limits · pins
//! ```

use std::{fmt, str::FromStr};

use crate::{
    id::key::{BadName, BuildKey, DrvHash, Pname, Product, System},
    nixpkgs::served::ServedKey,
    quota::client::Client,
    row::Unreferenced,
};

/// A row's name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RowKey {
    /// A build's row.
    Build(BuildKey),
    /// A derivation's row: the requesting system, and the derivation.
    Derivation(System, DrvHash),
    /// A dependency's row: the requesting system, and the derivation.
    Dependency(System, DrvHash),
    /// A served row.
    Served(ServedKey),
    /// The profile of a package's last build.
    BuildProfile(System, Product),
    /// What builds of derivations of that name took.
    Learned(System, Pname),
    /// The failed dependencies of a system.
    FailedDependencies(System),
    /// A client's allowance.
    Allowance(Client),
    /// The API keys. There is one such row.
    Keys,
    /// An unreferenced prefix or blob.
    Trash(Unreferenced),
    /// The row of slots, money and pauses. There is one.
    Limits,
    /// The pins. There is one such row.
    Pins,
}

impl fmt::Display for RowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RowKey::Build(key) => write!(f, "build/{key}"),
            RowKey::Derivation(system, drv) => write!(f, "derivation/{system}/{drv}"),
            RowKey::Dependency(system, drv) => write!(f, "dependency/{system}/{drv}"),
            RowKey::Served(asked) => write!(f, "served/{asked}"),
            RowKey::BuildProfile(system, product) => write!(f, "past/{system}/{product}"),
            RowKey::Learned(system, pname) => write!(f, "learned/{system}/{pname}"),
            RowKey::FailedDependencies(system) => write!(f, "doomed/{system}"),
            RowKey::Trash(what) => write!(f, "trash/{what}"),
            RowKey::Allowance(client) => write!(f, "client/{client}"),
            RowKey::Keys => f.write_str("keys"),
            RowKey::Limits => f.write_str("limits"),
            RowKey::Pins => f.write_str("pins"),
        }
    }
}

impl FromStr for RowKey {
    type Err = BadName;
    fn from_str(s: &str) -> Result<Self, BadName> {
        let two = |rest: &str| rest.split_once('/').map(|(a, b)| (a.to_owned(), b.to_owned())).ok_or(BadName::Form);
        match s.split_once('/') {
            Some(("build", rest)) => rest.parse().map(RowKey::Build),
            Some(("derivation", rest)) => {
                let (system, drv) = two(rest)?;
                Ok(RowKey::Derivation(system.parse()?, drv.parse()?))
            }
            Some(("dependency", rest)) => {
                let (system, drv) = two(rest)?;
                Ok(RowKey::Dependency(system.parse()?, drv.parse()?))
            }
            Some(("served", rest)) => rest.parse().map(RowKey::Served),
            Some(("past", rest)) => {
                let (system, product) = two(rest)?;
                Ok(RowKey::BuildProfile(system.parse()?, product.parse()?))
            }
            Some(("learned", rest)) => {
                let (system, pname) = two(rest)?;
                Ok(RowKey::Learned(system.parse()?, pname.parse()?))
            }
            Some(("doomed", rest)) => rest.parse().map(RowKey::FailedDependencies),
            Some(("trash", rest)) => rest.parse().map(RowKey::Trash),
            Some(("client", rest)) => rest.parse().map(RowKey::Allowance),
            None if s == "keys" => Ok(RowKey::Keys),
            None if s == "limits" => Ok(RowKey::Limits),
            None if s == "pins" => Ok(RowKey::Pins),
            _ => Err(BadName::Form),
        }
    }
}
