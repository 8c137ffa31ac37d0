//! The assets of pages. Each name contains a hash of the content, so that clients may cache it for ever.

use std::sync::LazyLock;

use axum::{extract::Path, response::Response};

use crate::respond::{for_ever, plain};

struct Asset {
    name: &'static str,
    suffix: &'static str,
    media_type: &'static str,
    content: &'static str,
}

const STYLE: Asset = Asset {
    name: "style",
    suffix: "css",
    media_type: "text/css; charset=utf-8",
    content: include_str!("../assets/style.css"),
};
const SCRIPT: Asset = Asset {
    name: "live",
    suffix: "js",
    media_type: "text/javascript; charset=utf-8",
    content: include_str!("../assets/live.js"),
};
const ICON: Asset =
    Asset { name: "icon", suffix: "svg", media_type: "image/svg+xml", content: include_str!("../assets/icon.svg") };

impl Asset {
    fn path(&self) -> String {
        format!("/-/assets/{}-{:016x}.{}", self.name, fnv(self.content.as_bytes()), self.suffix)
    }
}

/// FNV-1a: the bytes are our own, so the hash need not resist an attacker.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The style's path.
pub(crate) fn style() -> &'static str {
    static PATH: LazyLock<String> = LazyLock::new(|| STYLE.path());
    &PATH
}

/// The script's path.
pub(crate) fn script() -> &'static str {
    static PATH: LazyLock<String> = LazyLock::new(|| SCRIPT.path());
    &PATH
}

/// The icon's path.
pub(crate) fn icon() -> &'static str {
    static PATH: LazyLock<String> = LazyLock::new(|| ICON.path());
    &PATH
}

/// `/-/assets/NAME-HASH.SUFFIX`; `None`: there is no such file (any more).
pub(crate) fn file(Path(file): Path<String>) -> Option<Response> {
    let paths = [(style(), STYLE), (script(), SCRIPT), (icon(), ICON)];
    let (_, asset) = paths.into_iter().find(|(path, _)| path.strip_prefix("/-/assets/") == Some(&file))?;
    Some(for_ever(plain(200, asset.media_type, asset.content)))
}
