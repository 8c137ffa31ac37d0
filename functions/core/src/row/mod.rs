//! Rows: everything that the ledger stores. To add a kind, add it to `rows!`, to [`RowKey`] and its text, and to [`Row::key`].

use serde::de::DeserializeOwned;

use crate::{
    build::{
        Build, dependency::Dependency, derivation::Derivation, failed_dependencies::FailedDependencies,
        learned::Learned, profile::BuildProfile,
    },
    nixpkgs::{pins::Pins, served::Served},
    quota::{
        client::{Allowance, Keys},
        limits::Limits,
    },
    trust::head::{LogHead, Logged},
};

pub mod backup;
mod key;
mod status_index;
mod trash;

pub use key::RowKey;
pub use status_index::{Listed, StatusIndex};
pub use trash::{Trash, Unreferenced};

/// The kinds of rows. The kind is part of a row's key, so its JSON does not repeat it.
macro_rules! rows {
    ($($(#[$doc:meta])+ $kind:ident,)+) => {
        /// A row.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Row {
            $($(#[$doc])+ $kind($kind),)+
        }

        impl Row {
            /// Its content as JSON: the form in every ledger.
            ///
            /// # Errors
            /// serde's. It does not occur, because JSON can express every row.
            pub fn to_json(&self) -> serde_json::Result<String> {
                match self {
                    $(Row::$kind(content) => serde_json::to_string(content),)+
                }
            }

            /// Reads the content of the row that is stored under `key`.
            ///
            /// # Errors
            /// serde's, if the JSON is not of the key's kind.
            pub fn from_json(key: &RowKey, json: &[u8]) -> serde_json::Result<Row> {
                fn read<R: DeserializeOwned>(json: &[u8]) -> serde_json::Result<R> {
                    serde_json::from_slice(json)
                }
                match key {
                    $(RowKey::$kind { .. } => read(json).map(Row::$kind),)+
                }
            }
        }

        $(impl From<$kind> for Row {
            fn from(content: $kind) -> Row {
                Row::$kind(content)
            }
        }

        impl TryFrom<Row> for $kind {
            type Error = ();
            fn try_from(row: Row) -> Result<$kind, ()> {
                match row {
                    Row::$kind(content) => Ok(content),
                    _ => Err(()),
                }
            }
        })+
    };
}

rows! {
    /// A build.
    Build,
    /// The attempt that has claimed a derivation.
    Derivation,
    /// The attempt that builds a dependency.
    Dependency,
    /// The last good program of a target.
    Served,
    /// The duration and memory of a package's last build.
    BuildProfile,
    /// The duration and memory of earlier builds of derivations of one name.
    Learned,
    /// Dependencies that are known to fail.
    FailedDependencies,
    /// The builds that a client has started in a day.
    Allowance,
    /// The API keys.
    Keys,
    /// An unreferenced attempt's prefix, or an unreferenced blob.
    Trash,
    /// Slots, budget and pauses.
    Limits,
    /// The pins.
    Pins,
    /// The head of the transparency log.
    LogHead,
    /// The log's entries of a build.
    Logged,
}

impl Row {
    /// The row's key, which follows from its content.
    pub fn key(&self) -> RowKey {
        match self {
            Row::Build(build) => RowKey::Build(build.key.clone()),
            Row::Derivation(taken) => RowKey::Derivation(taken.system(), taken.drv.clone()),
            Row::Dependency(claimed) => RowKey::Dependency(claimed.holder.system, claimed.drv.clone()),
            Row::Served(served) => RowKey::Served(served.asked.clone()),
            Row::BuildProfile(past) => RowKey::BuildProfile(past.system, past.product.clone()),
            Row::Learned(learned) => RowKey::Learned(learned.system, learned.pname.clone()),
            Row::FailedDependencies(failed_dependencies) => RowKey::FailedDependencies(failed_dependencies.system),
            Row::Allowance(allowance) => RowKey::Allowance(allowance.client.clone()),
            Row::Keys(_) => RowKey::Keys,
            Row::Trash(trash) => RowKey::Trash(trash.what.clone()),
            Row::Limits(_) => RowKey::Limits,
            Row::Pins(_) => RowKey::Pins,
            Row::LogHead(_) => RowKey::LogHead,
            Row::Logged(logged) => RowKey::Logged(logged.key.clone()),
        }
    }
}

/// How often a row was written, from 1; 0 means that there is no row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u64);

/// A row's replacement, which applies only if the row's version is unchanged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Swap {
    /// The version that the decision was based on.
    pub seen: Version,
    /// The new row.
    pub row: Row,
}

/// The most swaps in one commit.
pub const SWAPS_MAX: usize = 4;
