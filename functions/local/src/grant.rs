//! Signed upload URLs. The URL carries the path, size, sha256 and expiry, and a signature that only this store can
//! make, so the upload endpoint needs no list of URLs that were issued.

use binplz_core::{
    id::{
        key::{Sha256, hex},
        time::Timestamp,
    },
    objects::artifact::ObjectPath,
};
use hmac::{Hmac, KeyInit, Mac};

use crate::store::UploadError;

/// The conditions of an upload, beside its path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Terms {
    /// The exact size, in bytes.
    pub(crate) size: u64,
    /// The content's sha256.
    pub(crate) sha256: Sha256,
    /// The instant from which the URL is refused.
    pub(crate) expires: Timestamp,
}

/// The secret that signs upload URLs.
#[derive(Clone)]
pub(crate) struct Secret(pub(crate) [u8; 32]);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Secret {
    fn mac(&self, path: &ObjectPath, terms: &Terms) -> Hmac<sha2::Sha256> {
        let mut mac = Hmac::<sha2::Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        // None of the parts can contain a line feed, so two different uploads never sign the same text.
        mac.update(format!("PUT\n{path}\n{}\n{}\n{}", terms.size, terms.sha256, terms.expires.0).as_bytes());
        mac
    }

    /// The query of an upload URL.
    pub(crate) fn query(&self, path: &ObjectPath, terms: &Terms) -> String {
        let signature = hex(&self.mac(path, terms).finalize().into_bytes());
        format!("size={}&sha256={}&expires={}&signature={signature}", terms.size, terms.sha256, terms.expires.0)
    }

    /// Checks the query of an upload to `path`, and returns its conditions.
    pub(crate) fn check(&self, path: &ObjectPath, query: &str, now: Timestamp) -> Result<Terms, UploadError> {
        let (terms, signature) = parse(query).ok_or(UploadError::Forged)?;
        // A constant-time comparison.
        self.mac(path, &terms).verify_slice(&signature).map_err(|_| UploadError::Forged)?;
        if now < terms.expires { Ok(terms) } else { Err(UploadError::Expired) }
    }
}

/// Parses the four parameters in the fixed order in which this store writes them.
fn parse(query: &str) -> Option<(Terms, Vec<u8>)> {
    let mut parts = query.split('&');
    let mut value = |name: &str| parts.next()?.strip_prefix(name)?.strip_prefix('=');
    let size = value("size")?.parse().ok()?;
    let sha256 = value("sha256")?.parse().ok()?;
    let expires = Timestamp(value("expires")?.parse().ok()?);
    let signature = unhex(value("signature")?)?;
    parts.next().is_none().then_some((Terms { size, sha256, expires }, signature))
}

fn unhex(digits: &str) -> Option<Vec<u8>> {
    let digit = |b: &u8| char::from(*b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    digits.as_bytes().chunks(2).map(|pair| Some((digit(pair.first()?)? << 4) | digit(pair.get(1)?)?)).collect()
}
