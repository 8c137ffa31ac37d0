//! Signature version 4, as a service verifies it.

use hmac::{Hmac, KeyInit, Mac};
use hyper::HeaderMap;
use percent_encoding::percent_decode_str;
use sha2::{Digest, Sha256};

/// What functions sign with.
pub const KEY_ID: &str = "ASIAIOSFODNN7EXAMPLE";
/// See [`KEY_ID`].
pub const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

/// Whether a presigned `https` URL for GET has the right signature.
pub fn is_presigned(url: &str) -> bool {
    let Some((host, rest)) = url.strip_prefix("https://").and_then(|rest| rest.split_once('/')) else { return false };
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (signature, mut signed): (Vec<_>, Vec<_>) =
        query.split('&').partition(|part| part.starts_with("X-Amz-Signature="));
    signed.sort_unstable();
    let value = |name| {
        let mut parts = signed.iter().filter_map(|part| part.split_once('='));
        parts.find(|(other, _)| *other == name).map_or("", |(_, value)| value)
    };
    let (query, headers) = (signed.join("&"), value("X-Amz-SignedHeaders"));
    let canonical = format!("GET\n/{path}\n{query}\nhost:{host}\n\n{headers}\nUNSIGNED-PAYLOAD");
    let credential = percent_decode_str(value("X-Amz-Credential")).decode_utf8_lossy();
    let right = self::signature(&credential, value("X-Amz-Date"), &canonical);
    headers == "host" && signature == [format!("X-Amz-Signature={right}")]
}

/// Whether a POST to `/` has the right signature in its headers.
pub fn is_signed(headers: &HeaderMap, body: &[u8]) -> bool {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("");
    let authorization = header("authorization").trim_start_matches("AWS4-HMAC-SHA256 ");
    let part = |name: &str| {
        let mut parts = authorization.split(',').filter_map(|part| part.trim().split_once('='));
        parts.find(|(other, _)| *other == name).map_or("", |(_, value)| value)
    };
    let names = part("SignedHeaders");
    let one_space = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let lines: String = names.split(';').map(|name| format!("{name}:{}\n", one_space(header(name)))).collect();
    let canonical = format!("POST\n/\n\n{lines}\n{names}\n{}", hex(&Sha256::digest(body)));
    part("Signature") == signature(part("Credential"), header("x-amz-date"), &canonical)
}

/// By a credential of the form `key/day/region/service/aws4_request`.
fn signature(credential: &str, date: &str, canonical: &str) -> String {
    let (_, scope) = credential.split_once('/').unwrap_or_default();
    let to_sign = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", hex(&Sha256::digest(canonical)));
    let secret = format!("AWS4{SECRET}").into_bytes();
    let key = scope.split('/').fold(secret, |key, part| hmac(&key, part));
    hex(&hmac(&key, &to_sign))
}

fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    let mut hmac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    hmac.update(text.as_bytes());
    hmac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_url_of_the_documentation_of_s3_is_presigned() {
        // AWS's example "Authenticating Requests: Using Query Parameters".
        let url = "https://examplebucket.s3.amazonaws.com/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256\
                   &X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request\
                   &X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host\
                   &X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404";
        assert!(is_presigned(url));
        assert!(!is_presigned(&url.replace("86400", "86401")));
        assert!(!is_presigned(&url.replace("test.txt", "text.txt")));
    }
}
