//! A row's name as text: the same in every ledger. Roles' permissions are limited by its prefix.
//!
//! ```text
//! build/REV/SYSTEM/ATTR · derivation/SYSTEM/HASH · served/ASKED · past/SYSTEM/ATTR · doomed/SYSTEM ·
//! trash/REV/SYSTEM/ATTR/LEASE · client/CLIENT · keys · limits · pins
//! ```

use std::{fmt, str::FromStr};

use crate::{id::key::BadName, ports::RowKey};

impl fmt::Display for RowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RowKey::Build(key) => write!(f, "build/{key}"),
            RowKey::Derivation(system, drv) => write!(f, "derivation/{system}/{drv}"),
            RowKey::Served(asked) => write!(f, "served/{asked}"),
            RowKey::BuildProfile(system, attr) => write!(f, "past/{system}/{attr}"),
            RowKey::FailedDependencies(system) => write!(f, "doomed/{system}"),
            RowKey::Trash(prefix) => write!(f, "trash/{prefix}"),
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
            Some(("served", rest)) => rest.parse().map(RowKey::Served),
            Some(("past", rest)) => {
                let (system, attr) = two(rest)?;
                Ok(RowKey::BuildProfile(system.parse()?, attr.parse()?))
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
