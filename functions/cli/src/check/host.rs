//! The service that is checked, as any client sees it.

use std::{io::Read, time::Duration};

use binplz_core::id::key::{Rev, Sha256};
use serde::Deserialize;
use ureq::Agent;

use crate::check::CheckError;

/// The timeout of a request.
const PATIENCE: Duration = Duration::from_secs(60);
/// The largest answer that is read, in bytes: a full bundle of the longest entries.
const ANSWER_MAX: u64 = 32 << 20;

/// The service.
pub(super) struct Host {
    pub(super) origin: String,
    agent: Agent,
}

impl Host {
    pub(super) fn new(origin: &str) -> Host {
        let config = Agent::config_builder()
            .timeout_global(Some(PATIENCE))
            .user_agent(concat!("binplz ", env!("CARGO_PKG_VERSION")));
        let agent = config.http_status_as_error(false).max_redirects(0).build().new_agent();
        Host { origin: origin.trim_end_matches('/').to_owned(), agent }
    }

    fn get(&self, path: &str, accept: &str) -> Result<Vec<u8>, CheckError> {
        let url = format!("{}/-/{path}", self.origin);
        let failed = |cause: String| CheckError::Http { url: url.clone(), cause };
        let answer = self.agent.get(&url).header("Accept", accept).call().map_err(|error| failed(error.to_string()))?;
        let status = answer.status();
        let body = answer.into_body().with_config().limit(ANSWER_MAX).read_to_vec();
        let body = body.map_err(|error| failed(error.to_string()))?;
        match status.as_u16() {
            200 => Ok(body),
            _ => Err(failed(format!("{status}: {}", String::from_utf8_lossy(&body).trim()))),
        }
    }

    pub(super) fn bytes(&self, path: &str) -> Result<Vec<u8>, CheckError> {
        self.get(path, "*/*")
    }

    pub(super) fn text(&self, path: &str) -> Result<String, CheckError> {
        Ok(String::from_utf8_lossy(&self.get(path, "text/plain")?).into_owned())
    }

    pub(super) fn json<T: for<'a> Deserialize<'a>>(&self, path: &str) -> Result<T, CheckError> {
        let cause = |error: serde_json::Error| CheckError::Http {
            url: format!("{}/-/{path}", self.origin),
            cause: error.to_string(),
        };
        serde_json::from_slice(&self.get(path, "application/json")?).map_err(cause)
    }

    /// The sha256 of what a target leads to, and its nixpkgs, by the service's word; `None`: it leads to nothing now.
    pub(super) fn served(&self, target: &str) -> Result<Option<(Sha256, Rev)>, CheckError> {
        let url = format!("{}/{target}", self.origin);
        let answer = self.agent.head(&url).call();
        let answer = answer.map_err(|error| CheckError::Http { url, cause: error.to_string() })?;
        let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok());
        let served = || Some((header("x-binplz-sha256")?.parse().ok()?, header("x-binplz-nixpkgs")?.parse().ok()?));
        Ok(served().filter(|_| answer.status() == 302))
    }

    /// The file that a target leads to.
    pub(super) fn download(&self, target: &str) -> Result<impl Read + use<>, CheckError> {
        let url = format!("{}/{target}", self.origin);
        let failed = |cause: String| CheckError::Http { url: url.clone(), cause };
        let config =
            self.agent.get(&url).config().max_redirects(5).timeout_global(None).timeout_recv_response(Some(PATIENCE));
        let answer = config.build().call().map_err(|error| failed(error.to_string()))?;
        match answer.status().as_u16() {
            200 => Ok(answer.into_body().into_with_config().limit(u64::MAX).reader()),
            status => Err(failed(format!("answered {status}"))),
        }
    }
}
