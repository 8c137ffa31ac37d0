//! Signature version 4: a request with a signed header, and a URL with a signed query.

use std::time::{SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit, Mac};
use percent_encoding::utf8_percent_encode;
use sha2::{Digest, Sha256};

use crate::{Fallible, VALUE};

const SECONDS_OF_DAY: u64 = 86_400;

pub struct Signer {
    region: String,
    key_id: String,
    /// What the first HMAC of a signature takes.
    secret: Vec<u8>,
    token: String,
    /// The token as a query has it.
    token_in_query: String,
    endpoint: String,
    host: String,
}

impl Signer {
    pub fn new(region: String, key_id: String, secret: &str, token: String, endpoint: &str) -> Fallible<Signer> {
        let host = endpoint.strip_prefix("https://").ok_or("the endpoint is not https")?;
        Ok(Signer {
            region,
            key_id,
            secret: format!("AWS4{secret}").into_bytes(),
            token_in_query: utf8_percent_encode(&token, VALUE).to_string(),
            token,
            endpoint: endpoint.to_owned(),
            host: host.to_owned(),
        })
    }

    pub fn host(&self) -> &str {
        &self.host
    }

    /// A whole request for an operation of a service that takes JSON.
    pub fn post(&self, service: &str, operation: &str, body: &str) -> String {
        const SIGNED: &str = "host;x-amz-date;x-amz-security-token;x-amz-target";
        let Signer { host, key_id, token, .. } = self;
        let now = stamp(SystemTime::now());
        let headers =
            format!("host:{host}\nx-amz-date:{now}\nx-amz-security-token:{token}\nx-amz-target:{operation}\n");
        let canonical = format!("POST\n/\n\n{headers}\n{SIGNED}\n{}", hex(&Sha256::digest(body)));
        let scope = self.scope(&now, service);
        let signature = self.signature(&now, &scope, service, &canonical);
        format!(
            "POST / HTTP/1.1\r\n\
             host: {host}\r\n\
             content-type: application/x-amz-json-1.0\r\n\
             content-length: {}\r\n\
             x-amz-date: {now}\r\n\
             x-amz-security-token: {token}\r\n\
             x-amz-target: {operation}\r\n\
             authorization: AWS4-HMAC-SHA256 Credential={key_id}/{scope}, SignedHeaders={SIGNED}, Signature={signature}\r\n\
             \r\n\
             {body}",
            body.len()
        )
    }

    /// A URL for S3's object at an encoded path, valid for 15 minutes.
    pub fn presigned(&self, path: &str) -> String {
        let Signer { host, key_id, token_in_query, .. } = self;
        let now = stamp(SystemTime::now());
        let scope = self.scope(&now, "s3");
        let credential = format!("{key_id}/{scope}").replace('/', "%2F");
        let query = format!(
            "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={credential}&X-Amz-Date={now}&X-Amz-Expires=900\
             &X-Amz-Security-Token={token_in_query}&X-Amz-SignedHeaders=host"
        );
        let canonical = format!("GET\n{path}\n{query}\nhost:{host}\n\nhost\nUNSIGNED-PAYLOAD");
        let signature = self.signature(&now, &scope, "s3", &canonical);
        format!("{}{path}?{query}&X-Amz-Signature={signature}", self.endpoint)
    }

    fn scope(&self, now: &str, service: &str) -> String {
        format!("{}/{}/{service}/aws4_request", &now[..8], self.region)
    }

    fn signature(&self, now: &str, scope: &str, service: &str, canonical: &str) -> String {
        let to_sign = format!("AWS4-HMAC-SHA256\n{now}\n{scope}\n{}", hex(&Sha256::digest(canonical)));
        let day = hmac(&self.secret, &now[..8]);
        let region = hmac(&day, &self.region);
        let key = hmac(&hmac(&region, service), "aws4_request");
        hex(&hmac(&key, &to_sign))
    }
}

fn hmac(key: &[u8], text: &str) -> [u8; 32] {
    let mut hmac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    hmac.update(text.as_bytes());
    hmac.finalize().into_bytes().into()
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

/// `20261130T201500Z`.
fn stamp(at: SystemTime) -> String {
    let seconds = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (days, second) = (seconds / SECONDS_OF_DAY, seconds % SECONDS_OF_DAY);
    // Years begin in March here, so that the leap day is the last one. Day 0 is the first of March of the year 0.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (year, month) = (400 * era + year + month / 10, (month + 2) % 12 + 1);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_time_is_written_as_the_calendar_has_it() {
        for (seconds, written) in [
            (0, "19700101T000000Z"),
            (951_782_399, "20000228T235959Z"),
            (951_782_400, "20000229T000000Z"),
            (951_868_800, "20000301T000000Z"),
            (1_798_761_599, "20261231T235959Z"),
            (4_107_542_400, "21000301T000000Z"),
        ] {
            assert_eq!(stamp(UNIX_EPOCH + Duration::from_secs(seconds)), written);
        }
    }
}
