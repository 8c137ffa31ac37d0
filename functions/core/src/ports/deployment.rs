//! A deployment: its configuration and clock, and a trait for each port that it may have. A flow's bounds name the ports
//! that it uses, so a function without one of them does not compile with that flow.

use std::{fmt, future::Future};

use serde::{Deserialize, Serialize};

use crate::{
    build::policy::Policy,
    id::{
        key::{LeaseId, System, Token},
        time::Timestamp,
    },
    nixpkgs::pins::Pins,
    objects::artifact::ObjectPath,
    ports::{Bell, Catalogue, DownloadStats, Launcher, Ledger, Store, Unavailable, Unreadable, WaitLimiter},
    telemetry::{About, Signal},
};

/// A part of a deployment that does not work at present.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// The part: a background loop, a listener, or the disk.
    pub part: String,
    /// The cause, for the operator, never for a client.
    pub why: String,
}

/// What every deployment has: its configuration, its clock, and its telemetry.
pub trait Deployment: Send + Sync + 'static {
    /// The limits and durations.
    fn policy(&self) -> &Policy;
    /// The pins of a new deployment: without meaning once the ledger has a row of pins ([`crate::flow::operator::pins`]).
    fn first_pins(&self) -> &Pins;
    /// The default system of requests that name none.
    fn system(&self) -> System;
    /// `https://host` without a trailing slash: from configuration, never from a client's header.
    fn origin(&self) -> &str;
    /// The current instant.
    fn now(&self) -> Timestamp;
    /// A new lease's id and secret, from a cryptographic random source.
    fn new_lease(&self) -> (LeaseId, Token);
    /// Emits a signal, for the operator's log and metrics.
    fn emit(&self, about: About<'_>, signal: Signal<'_>);

    /// Whether artifacts are signed and logged before they are served.
    fn signs(&self) -> bool {
        false
    }

    /// The parts that do not work at present. On AWS the functions run no loops of their own, and alarms watch them.
    fn faults(&self) -> Vec<Fault> {
        Vec::new()
    }

    /// Emits a warning: something was skipped, or will be retried.
    fn warn(&self, about: About<'_>, what: &str, error: &dyn fmt::Display) {
        self.emit(about, Signal::Trouble { what, error });
    }
}

/// Has a ledger.
pub trait HasLedger: Deployment {
    /// The ledger's type.
    type Ledger: Ledger;
    /// The ledger.
    fn ledger(&self) -> &Self::Ledger;
}

/// Has a doorbell.
pub trait HasBell: Deployment {
    /// The doorbell's type.
    type Bell: Bell;
    /// The doorbell.
    fn bell(&self) -> &Self::Bell;
}

/// Can start or stop builders.
pub trait HasLauncher: Deployment {
    /// The launcher's type.
    type Launcher: Launcher;
    /// The launcher.
    fn launcher(&self) -> &Self::Launcher;
}

/// Has a store.
pub trait HasStore: Deployment {
    /// The store's type.
    type Store: Store;
    /// The store.
    fn store(&self) -> &Self::Store;
}

/// Can read catalogues.
pub trait HasCatalogues: Deployment {
    /// An open catalogue.
    type Catalogue: Catalogue;
    /// The catalogue of a lookup file, read once and then kept for a while.
    fn catalogue(
        &self,
        lookup: &ObjectPath,
    ) -> impl Future<Output = Result<Result<Self::Catalogue, Unreadable>, Unavailable>> + Send;
}

/// Limits waiting requests.
pub trait HasWaitLimiter: Deployment {
    /// The limiter's type.
    type WaitLimiter: WaitLimiter;
    /// The limiter.
    fn wait_limiter(&self) -> &Self::WaitLimiter;
}

/// Counts downloads.
pub trait HasDownloadStats: Deployment {
    /// The statistics' type.
    type DownloadStats: DownloadStats;
    /// The statistics.
    fn download_stats(&self) -> &Self::DownloadStats;
}

/// Gives a deployment ports, each in a field of its own: `has_ports!([] Local: HasLedger(Ledger = LocalLedger, ledger))`.
#[macro_export]
macro_rules! has_ports {
    ($generics:tt $type:ty: $($port:ident($name:ident = $of:ty, $field:ident)),+ $(,)?) => {
        $($crate::has_ports!(@one $generics $type: $port($name = $of, $field));)+
    };
    (@one [$($generics:tt)*] $type:ty: $port:ident($name:ident = $of:ty, $field:ident)) => {
        impl<$($generics)*> $crate::ports::$port for $type {
            type $name = $of;
            fn $field(&self) -> &$of {
                &self.$field
            }
        }
    };
}
