//! The URL of a builder's lease, which also identifies a stopped task.

use binplz_core::id::key::{BuildKey, LeaseId};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

const ROUTE: &str = "/-/lease/";
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// `{origin}/-/lease/REV/SYSTEM/ATTR/LEASE`.
pub(crate) fn write(origin: &str, key: &BuildKey, lease: &LeaseId) -> String {
    format!("{origin}{ROUTE}{}/{lease}", utf8_percent_encode(&key.to_string(), PATH))
}

/// Parses the build and the lease of a URL.
pub(crate) fn read(url: &str) -> Option<(BuildKey, LeaseId)> {
    let (_, path) = url.split_once(ROUTE)?;
    let path = percent_decode_str(path).decode_utf8().ok()?;
    let (key, lease) = path.rsplit_once('/')?;
    Some((key.parse().ok()?, lease.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_read_back_whatever_the_attribute_is_called() {
        let lease: LeaseId = "1".repeat(32).parse().expect("hex");
        for attr in ["tree", "a.b.c.d", "libsigc++", "x'"] {
            let key: BuildKey = format!("{}/x86_64-linux/{attr}", "0".repeat(40)).parse().expect("a key");
            let url = write("https://h/$default", &key, &lease);
            assert!(url.is_ascii() && !url.contains(['+', '\'']), "{url}");
            assert_eq!(read(&url), Some((key, lease.clone())));
        }
        for url in ["", "https://h/-/lease/", "https://h/-/lease/x/y/z/l", "https://h/-/lease/%ff/a"] {
            assert_eq!(read(url), None, "{url}");
        }
    }
}
