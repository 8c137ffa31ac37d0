//! The deployment that a command is for: the server of a data directory, reached by its socket, or a stack on AWS, reached
//! with the operator's own credentials.

use std::path::PathBuf;

#[cfg(feature = "aws")]
use binplz_aws::{Operating, stack};
use binplz_core::flow::operator::orders::{Declined, Operator, Order, Outcome};
use clap::Args;
use thiserror::Error;

use crate::socket::Socket;

/// The options that select a deployment.
#[derive(Args)]
pub(crate) struct Which {
    /// The data directory of the server
    #[arg(long, default_value = ".binplz", value_name = "DIR", global = true)]
    data: PathBuf,
    /// Use a stack on AWS instead, with the AWS CLI's region and credentials
    #[cfg(feature = "aws")]
    #[arg(long, value_name = "NAME", global = true, conflicts_with = "data")]
    stack: Option<String>,
}

/// A deployment.
pub(crate) enum Site {
    /// On this machine.
    Server(Socket),
    /// On AWS.
    #[cfg(feature = "aws")]
    Stack(Box<Operating>),
}

/// Why no deployment was found.
#[derive(Debug, Error)]
pub(crate) enum SiteError {
    /// There is no such stack.
    #[cfg(feature = "aws")]
    #[error(transparent)]
    NotFound(#[from] stack::NotFound),
}

impl Which {
    /// Finds it.
    ///
    /// # Errors
    /// [`SiteError`].
    pub(crate) async fn find(&self) -> Result<Site, SiteError> {
        #[cfg(feature = "aws")]
        if let Some(name) = &self.stack {
            return Ok(Site::Stack(Box::new(stack::open(name).await?)));
        }
        Ok(Site::Server(Socket { data: self.data.clone() }))
    }
}

impl Operator for Site {
    async fn carry_out(&self, order: Order) -> Result<Outcome, Declined> {
        match self {
            Site::Server(socket) => socket.carry_out(order).await,
            #[cfg(feature = "aws")]
            Site::Stack(stack) => stack.carry_out(order).await,
        }
    }
}
