//! Presigned S3 URLs, made here without a request to S3. A hit is one of these.

use std::{
    borrow::Cow,
    pin::pin,
    task::{Context, Poll, Waker},
    time::{Duration, SystemTime},
};

use aws_credential_types::Credentials;
use aws_sdk_s3::config::endpoint::{DefaultResolver, Params, ResolveEndpoint};
use aws_sigv4::{
    http_request::{
        PercentEncodingMode, SignableBody, SignableRequest, SignatureLocation, SigningSettings,
        UriPathNormalizationMode, sign,
    },
    sign::v4,
};
use aws_smithy_runtime_api::client::identity::Identity;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};

use crate::{account::Account, config::ConfigError};

/// The characters that a query does not escape: RFC 3986's unreserved ones. A path does not escape slashes either.
const VALUE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const PATH: &AsciiSet = &VALUE.remove(b'/');

/// An object's path, percent-encoded.
pub(crate) fn encoded(object: &str) -> PercentEncode<'_> {
    utf8_percent_encode(object, PATH)
}

/// Signs URLs of one bucket's objects.
#[derive(Clone, Debug)]
pub(crate) struct Presigner {
    identity: Identity,
    region: String,
    /// `https://bucket.…`, without a path.
    origin: String,
    /// The bucket in an object's path: empty, or with a leading slash.
    bucket: String,
}

impl Presigner {
    pub(crate) fn new(account: &Account, bucket: &str) -> Result<Presigner, ConfigError> {
        let wrong = |cause: &dyn ToString| ConfigError::Wrong {
            name: "AWS_REGION",
            what: "a region with S3",
            cause: cause.to_string(),
        };
        // The SDK knows the host names of all partitions.
        let params = Params::builder().region(&account.region).bucket(bucket);
        let params = params.set_endpoint(account.endpoint.clone()).force_path_style(account.endpoint.is_some());
        let params = params.build().map_err(|error| wrong(&error))?;
        let resolver = DefaultResolver::new();
        let resolved = pin!(resolver.resolve_endpoint(&params)).poll(&mut Context::from_waker(Waker::noop()));
        let Poll::Ready(resolved) = resolved else { return Err(wrong(&"the SDK did not resolve it")) };
        let resolved = resolved.map_err(|error| wrong(&error))?;
        let url = resolved.url().trim_end_matches('/');
        let path = url.find("://").and_then(|scheme| Some(scheme + 3 + url[scheme + 3..].find('/')?));
        let (origin, bucket) = url.split_at(path.unwrap_or(url.len()));
        Ok(Presigner {
            identity: account.credentials.clone().into(),
            region: account.region.clone(),
            origin: origin.to_owned(),
            bucket: bucket.to_owned(),
        })
    }

    /// Signs with these from now on.
    pub(crate) fn renew(&mut self, credentials: Credentials) {
        self.identity = credentials.into();
    }

    /// Whether what it signs with expires before `then`.
    pub(crate) fn expires_before(&self, then: SystemTime) -> bool {
        self.identity.expiration().is_some_and(|end| end < then)
    }

    /// The scheme and authority of its URLs.
    pub(crate) fn origin(&self) -> &str {
        &self.origin
    }

    /// The unsigned URL of an object.
    pub(crate) fn unsigned(&self, object: &str) -> String {
        format!("{}{}/{}", self.origin, self.bucket, encoded(object))
    }

    /// A URL with a query for one method, valid from `now` for `life`, and only for requests with exactly these headers
    /// (others may be added).
    pub(crate) fn url(
        &self,
        method: &str,
        object: &str,
        query: &[(&str, &str)],
        headers: &[(&str, &str)],
        now: SystemTime,
        life: Duration,
    ) -> Result<String, Box<dyn std::error::Error + Send + Sync>> {
        let mut url = self.unsigned(object);
        let mut separator = "?";
        let mut append = |url: &mut String, name: &str, value: &str| {
            let value: Cow<str> = utf8_percent_encode(value, VALUE).into();
            for part in [std::mem::replace(&mut separator, "&"), name, "=", &value] {
                url.push_str(part);
            }
        };
        query.iter().for_each(|(name, value)| append(&mut url, name, value));
        // S3's variant of SigV4: the path is encoded once, and the content's hash is not signed.
        let mut settings = SigningSettings::default();
        settings.signature_location = SignatureLocation::QueryParams;
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        settings.expires_in = Some(life);
        let params = v4::SigningParams::builder()
            .identity(&self.identity)
            .region(&self.region)
            .name("s3")
            .time(now)
            .settings(settings)
            .build()?
            .into();
        let request =
            SignableRequest::new(method, url.as_str(), headers.iter().copied(), SignableBody::UnsignedPayload)?;
        let (_, signature) = sign(request, &params)?.into_parts().0.into_parts();
        signature.iter().for_each(|(name, value)| append(&mut url, name, value));
        Ok(url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;

    fn presigner(endpoint: &str) -> Presigner {
        presigner_in("us-east-1", endpoint)
    }

    fn presigner_in(region: &str, endpoint: &str) -> Presigner {
        let settings = Settings::default()
            .with("AWS_REGION", region)
            .with("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
            .with("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
            .with("AWS_ENDPOINT_URL", endpoint);
        Presigner::new(&Account::open(&settings).expect("settings"), "examplebucket").expect("a region")
    }

    #[test]
    fn a_url_is_signed_as_the_documentation_of_s3_says() {
        // AWS's example "Authenticating Requests: Using Query Parameters", whose host has no region.
        let presigner = Presigner { origin: "https://examplebucket.s3.amazonaws.com".to_owned(), ..presigner("") };
        let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_369_353_600);
        let url = presigner.url("GET", "test.txt", &[], &[], then, Duration::from_secs(86_400)).expect("a URL");
        assert!(url.starts_with("https://examplebucket.s3.amazonaws.com/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&"));
        assert!(url.contains("&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request&"));
        let signature = "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404";
        assert!(url.contains(&format!("X-Amz-Signature={signature}")), "{url}");
    }

    #[test]
    fn every_partition_has_its_own_host_names() {
        for (region, suffix) in [
            ("eu-central-1", "amazonaws.com"),
            ("cn-north-1", "amazonaws.com.cn"),
            ("us-gov-west-1", "amazonaws.com"),
            ("us-iso-east-1", "c2s.ic.gov"),
            ("us-isob-east-1", "sc2s.sgov.gov"),
        ] {
            let origin = format!("https://examplebucket.s3.{region}.{suffix}");
            assert_eq!(presigner_in(region, "").origin(), origin);
        }
    }

    #[test]
    fn an_object_is_below_its_bucket_wherever_that_is() {
        let url = |endpoint| {
            let url = presigner(endpoint).url(
                "PUT",
                "a/[/c++",
                &[],
                &[("if-none-match", "*")],
                SystemTime::UNIX_EPOCH,
                Duration::from_secs(9),
            );
            url.expect("a URL")
        };
        assert!(url("").starts_with("https://examplebucket.s3.us-east-1.amazonaws.com/a/%5B/c%2B%2B?"));
        assert!(url("http://127.0.0.1:4566/").starts_with("http://127.0.0.1:4566/examplebucket/a/%5B/c%2B%2B?"));
        assert!(url("").contains("&X-Amz-SignedHeaders=host%3Bif-none-match&"));
    }
}
