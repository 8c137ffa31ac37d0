//! A channel's release. The channels' server redirects a channel's name to the directory of its newest release, which
//! has `git-revision` (its commit) and `nixexprs.tar.xz` (its nixpkgs, with the database of programs).

use std::time::Duration;

use binplz_core::id::key::{PinName, Rev};
use thiserror::Error;
use ureq::ResponseExt;

/// The timeout of a request.
const PATIENCE: Duration = Duration::from_secs(30);
/// The largest `git-revision`, in bytes.
const REVISION_MAX: u64 = 100;

/// A release.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Release {
    /// Its commit.
    pub(crate) rev: Rev,
    /// The URL of its nixpkgs.
    pub(crate) tarball: String,
}

/// Why a channel has no usable release.
#[derive(Debug, Error)]
pub(crate) enum ChannelError {
    /// The server does not answer, or does not have the channel.
    #[error("{url}: {cause}")]
    Http {
        /// The requested URL.
        url: String,
        /// The reason.
        cause: ureq::Error,
    },
    /// The directory is not one of a release.
    #[error("{0}/git-revision is not a commit: expected 40 hex digits")]
    NoRevision(String),
}

/// The newest release of a channel, below the URL of all channels.
///
/// # Errors
/// [`ChannelError`].
pub(crate) fn newest(channels: &str, channel: &PinName) -> Result<Release, ChannelError> {
    let config = ureq::config::Config::builder().timeout_global(Some(PATIENCE)).user_agent("binplz");
    let agent = config.build().new_agent();
    let get = |url: &str| agent.get(url).call().map_err(|cause| ChannelError::Http { url: url.to_owned(), cause });
    // Both files come from the directory that the redirect leads to: the channel may advance in between.
    let found = get(&format!("{}/{channel}", channels.trim_end_matches('/')))?;
    let release = found.get_uri().to_string().trim_end_matches('/').to_owned();
    let revision =
        get(&format!("{release}/git-revision"))?.into_body().with_config().limit(REVISION_MAX).read_to_string();
    match revision.ok().and_then(|text| text.trim().parse().ok()) {
        Some(rev) => Ok(Release { rev, tarball: format!("{release}/nixexprs.tar.xz") }),
        None => Err(ChannelError::NoRevision(release)),
    }
}
