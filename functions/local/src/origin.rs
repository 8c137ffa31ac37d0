//! URLs below the service's own origin.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Every character but RFC 3986's unreserved ones and the slash is escaped: a program may be called `[`.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// `{origin}/-/{path}` with the path percent-encoded; the HTTP layer decodes it.
pub(crate) fn url(origin: &str, path: &str) -> String {
    format!("{origin}/-/{}", utf8_percent_encode(path, ENCODED))
}
