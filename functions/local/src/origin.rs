//! URLs below the service's own origin.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What stands for itself: RFC 3986's unreserved characters, and the slashes. A program may be called `[`.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// `{origin}/-/{path}`, the path percent-encoded: the HTTP layer reads it decoded.
pub(crate) fn url(origin: &str, path: &str) -> String {
    format!("{origin}/-/{}", utf8_percent_encode(path, ENCODED))
}
