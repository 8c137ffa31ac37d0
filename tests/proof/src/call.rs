//! Calls of ports and their replies, as values.

use binplz_core::{
    id::{
        key::{BuildKey, DrvHash, LeaseId, Sha256, StoreHash},
        time::Timestamp,
    },
    nixpkgs::{pins::Pinned, served::ServedKey},
    objects::artifact::AttemptPrefix,
    row::{RowKey, StatusIndex},
};

/// A call of a port that has not been answered. Rows, objects and contents are numbers of [`crate::names`].
#[derive(Clone, Debug)]
pub(crate) enum Call {
    /// Of the ledger.
    Load(u32),
    Commit(Vec<(u64, u32)>),
    List(StatusIndex, Option<(Timestamp, BuildKey)>, usize),
    ListServed(Pinned, Option<ServedKey>, usize),
    Scan(Option<RowKey>, usize),
    Remove(u32, u64),
    Progress,
    /// Of the bell.
    Ring,
    /// Of the launcher.
    Launch(BuildKey, LeaseId),
    Stop(LeaseId),
    Running,
    Left(AttemptPrefix),
    /// Of the store.
    Read(u32),
    Write(u32, u32),
    RemoveBelow(AttemptPrefix, Part),
    Prefixes,
    Blobs,
    RemoveBlob(Sha256),
    /// Of the quarantine and the binary cache.
    Offers(AttemptPrefix),
    /// What a builder does by itself: it realises its derivation.
    Build(DrvHash, LeaseId),
}

/// Which objects of an attempt are removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Segments,
    Partial,
    All,
    Offers,
}

/// A reply.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Reply {
    Done,
    Conflict,
    Unavailable,
    Row(Option<(u32, u64)>),
    Listed(Vec<(Timestamp, BuildKey)>),
    Served(Vec<ServedKey>),
    Scanned(Vec<(u32, u64)>),
    Content(Option<u32>),
    Number(u64),
    Leases(Vec<LeaseId>),
    Held(Vec<(AttemptPrefix, u64, u64, Vec<Sha256>)>),
    Blobs(Vec<(Sha256, u64)>),
    Paths(Vec<StoreHash>),
}

impl Call {
    /// Whether it may change what others see.
    pub(crate) fn writes(&self) -> bool {
        !matches!(
            self,
            Call::Load(_)
                | Call::List(..)
                | Call::ListServed(..)
                | Call::Scan(..)
                | Call::Progress
                | Call::Running
                | Call::Left(_)
                | Call::Read(_)
                | Call::Prefixes
                | Call::Blobs
                | Call::Offers(_)
        )
    }

    /// Whether it concerns objects only.
    pub(crate) fn is_of_objects(&self) -> bool {
        matches!(
            self,
            Call::Left(_)
                | Call::Read(_)
                | Call::Write(..)
                | Call::RemoveBelow(..)
                | Call::Prefixes
                | Call::Blobs
                | Call::RemoveBlob(..)
        )
    }
}
