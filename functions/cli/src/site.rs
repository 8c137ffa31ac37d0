//! Which deployment an operator means, and how it is reached: the server of a data directory through its socket, a stack on AWS
//! with the operator's own credentials.

use std::path::PathBuf;

#[cfg(feature = "aws")]
use binplz_aws::{Operating, stack};
use binplz_core::flow::operator::orders::{Declined, Operator, Order, Outcome};
use clap::Args;
use thiserror::Error;

use crate::socket::Socket;

/// Which.
#[derive(Args)]
pub(crate) struct Which {
    /// The data directory of the server that is meant
    #[arg(long, default_value = ".binplz", value_name = "DIR", global = true)]
    data: PathBuf,
    /// Instead: the name of a stack on AWS, in the region and with the credentials that the AWS CLI would use
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

/// Why there is none.
#[derive(Debug, Error)]
pub(crate) enum SiteError {
    /// No stack.
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
