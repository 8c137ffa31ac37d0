//! A deployment: its configuration, its clock, and its ports.

use std::{fmt, future::Future};

use crate::{
    build::policy::Policy,
    id::{
        key::{LeaseId, System, Token},
        time::Timestamp,
    },
    nixpkgs::pins::Pins,
    objects::artifact::ObjectPath,
    ports::{Bell, Catalogue, DownloadStats, Launcher, Ledger, Store, Unavailable, WaitLimiter},
    telemetry::{About, Signal},
};

/// A deployment: its numbers, its clock, and who fills the roles.
pub trait Deployment: Send + Sync + 'static {
    /// The rows.
    type Ledger: Ledger;
    /// The doorbell.
    type Bell: Bell;
    /// The builders.
    type Launcher: Launcher;
    /// The objects.
    type Store: Store;
    /// A catalogue that was read.
    type Catalogue: Catalogue;
    /// Those who wait.
    type WaitLimiter: WaitLimiter;
    /// What was served.
    type DownloadStats: DownloadStats;

    /// The rows.
    fn ledger(&self) -> &Self::Ledger;
    /// The doorbell.
    fn bell(&self) -> &Self::Bell;
    /// The builders.
    fn launcher(&self) -> &Self::Launcher;
    /// The objects.
    fn store(&self) -> &Self::Store;
    /// The catalogue of a lookup file, read once and then kept for a while; `None`: there is none, or none that this version reads.
    fn catalogue(
        &self,
        lookup: &ObjectPath,
    ) -> impl Future<Output = Result<Option<Self::Catalogue>, Unavailable>> + Send;
    /// Those who wait.
    fn wait_limiter(&self) -> &Self::WaitLimiter;
    /// What was served.
    fn download_stats(&self) -> &Self::DownloadStats;
    /// The numbers.
    fn policy(&self) -> &Policy;
    /// The pins that it begins with: of no meaning once the ledger has a row of them ([`crate::flow::operator::pins`]).
    fn first_pins(&self) -> &Pins;
    /// The system that is meant where a request names none.
    fn system(&self) -> System;
    /// `https://host`, without a slash at its end: from configuration, never from a client's header.
    fn origin(&self) -> &str;
    /// The current instant.
    fn now(&self) -> Timestamp;
    /// A new lease's name and secret, from a cryptographic random source.
    fn new_lease(&self) -> (LeaseId, Token);
    /// Hears what happened: for the operator's log and metrics.
    fn emit(&self, about: About<'_>, telemetry: Signal<'_>);

    /// Hears of something that was passed over, or will be tried again.
    fn warn(&self, about: About<'_>, what: &str, error: &dyn fmt::Display) {
        self.emit(about, Signal::Trouble { what, error });
    }
}
