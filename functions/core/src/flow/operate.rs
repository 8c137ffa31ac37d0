//! What an operator may ask of a deployment. An order is data, so that it is carried out in the same way wherever the operator
//! sits: beside the ledger, or at the other end of a socket.

use std::future::Future;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    flow::pins,
    pins::{Change, Pins},
    ports::Deployment,
};

/// One order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Tell the pins.
    Pins,
    /// Change them, and tell what they are then.
    ChangePins(Change),
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The pins, as they are now.
    Pins(Pins),
}

/// Why it was not carried out: a sentence for the operator.
#[derive(Clone, Debug, Error, PartialEq, Eq, Serialize, Deserialize)]
#[error("{0}")]
pub struct Declined(pub String);

/// Carries orders out: a deployment, or what speaks to one.
pub trait Operator {
    /// Carries one out. Each may be given again: what is done already is well.
    fn carry_out(&self, order: Order) -> impl Future<Output = Result<Outcome, Declined>> + Send;
}

impl<D: Deployment> Operator for D {
    async fn carry_out(&self, order: Order) -> Result<Outcome, Declined> {
        let declined = |why: &dyn std::fmt::Display| Declined(why.to_string());
        match order {
            Order::Pins => pins::load(self).await.map(Outcome::Pins).map_err(|error| declined(&error)),
            Order::ChangePins(change) => {
                pins::change(self, &change).await.map(Outcome::Pins).map_err(|error| declined(&error))
            }
        }
    }
}
