//! The objects of one S3 bucket by presigned URLs, for redirects and for reading. The whole S3 client would be the
//! largest part of a function that needs nothing else of it.

use std::{
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_smithy_runtime::client::orchestrator::operation::Operation;
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse, OrchestratorError};
use binplz_core::{
    id::key::Bin,
    objects::{
        artifact::{ObjectName, ObjectPath},
        stored::{Location, Method, attachment},
    },
    ports::{Store, Unavailable},
    trust::head::LogName,
};

use crate::{
    account::Account,
    config::{ConfigError, Settings},
    presign::{Presigner, encoded},
    unavailable,
};

pub(crate) const ROLE: &str = "store";
/// The lifetime of a redirect's URL. A download that has begun continues.
pub const URL_LIFE: Duration = Duration::from_secs(15 * 60);
/// How long before their end an operator's credentials are renewed.
const MARGIN: Duration = Duration::from_secs(60);

/// A bucket's objects.
#[derive(Clone, Debug)]
pub struct S3Objects {
    presigner: Presigner,
    /// An operator's, whose credentials may expire while a command reads.
    renewal: Option<Arc<Renewal>>,
    /// Reads the content at a signed URL, if the object exists.
    get: Operation<Wanted, Option<Vec<u8>>, Refusal>,
    /// The CDN's origin for the bucket's programs, without a trailing slash.
    cdn: Option<String>,
}

#[derive(Debug)]
struct Renewal {
    provider: SharedCredentialsProvider,
    presigner: Mutex<Presigner>,
}

impl Renewal {
    fn presigner(&self) -> MutexGuard<'_, Presigner> {
        self.presigner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The signed URL to read, and a range of its bytes.
#[derive(Debug)]
struct Wanted {
    url: String,
    range: Option<Range<u64>>,
}

/// An answer of S3 that means neither that the object exists nor that it does not.
#[derive(Debug, thiserror::Error)]
#[error("S3 answered {0}")]
struct Refusal(u16);

impl S3Objects {
    /// Opens the bucket that the settings name.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn open(account: &Account, settings: &Settings) -> Result<S3Objects, ConfigError> {
        let presigner = Presigner::new(account, &settings.need("BINPLZ_BUCKET")?)?;
        let get = get(account, presigner.origin());
        let renewal = account.renewal.clone();
        let renewal = renewal.map(|provider| Renewal { provider, presigner: Mutex::new(presigner.clone()) }.into());
        Ok(S3Objects { presigner, renewal, get, cdn: settings.find_origin("BINPLZ_CDN")? })
    }

    /// Signs a URL and drops it.
    pub(crate) fn warm(&self) -> Result<(), Unavailable> {
        self.signed("GET", "-", &[], &[], URL_LIFE).map(drop)
    }

    async fn fetch(&self, object: &str, range: Option<Range<u64>>) -> Result<Option<Vec<u8>>, Unavailable> {
        let url = self.signed_now(object).await?;
        self.get.invoke(Wanted { url, range }).await.map_err(|error| unavailable(ROLE, &error))
    }

    /// The answer at a signed URL; `None` if there is nothing.
    pub(crate) async fn at(&self, url: String) -> Result<Option<Vec<u8>>, Unavailable> {
        self.get.invoke(Wanted { url, range: None }).await.map_err(|error| unavailable(ROLE, &error))
    }

    /// The content of a text object; `None` if it does not exist.
    pub(crate) async fn text(&self, object: &str) -> Result<Option<String>, Unavailable> {
        let text = self.fetch(object, None).await?.map(String::from_utf8).transpose();
        text.map_err(|error| Unavailable::new(ROLE, format!("{object}: {error}")))
    }

    /// Whether an object exists that is not empty.
    pub(crate) async fn exists(&self, object: &str) -> Result<bool, Unavailable> {
        Ok(self.fetch(object, Some(0..1)).await?.is_some())
    }

    /// The unsigned URL of an object or prefix, for clients that may read it without a signature.
    pub(crate) fn unsigned(&self, object: &str) -> String {
        self.presigner.unsigned(object)
    }

    /// A URL to read at once, signed with credentials that are valid.
    #[expect(clippy::disallowed_methods, reason = "S3 checks a signature's time against the real clock")]
    async fn signed_now(&self, object: &str) -> Result<String, Unavailable> {
        let Some(renewal) = &self.renewal else { return self.signed("GET", object, &[], &[], URL_LIFE) };
        let now = SystemTime::now();
        if renewal.presigner().expires_before(now + MARGIN) {
            let credentials = renewal.provider.provide_credentials().await;
            let credentials = credentials.map_err(|error| unavailable(ROLE, &error))?;
            renewal.presigner().renew(credentials);
        }
        let url = renewal.presigner().url("GET", object, &[], &[], now, URL_LIFE);
        url.map_err(|error| Unavailable::new(ROLE, error))
    }

    #[expect(clippy::disallowed_methods, reason = "S3 checks a signature's time against the real clock")]
    pub(crate) fn signed(
        &self,
        method: &str,
        object: &str,
        query: &[(&str, &str)],
        headers: &[(&str, &str)],
        life: Duration,
    ) -> Result<String, Unavailable> {
        let url = self.presigner.url(method, object, query, headers, SystemTime::now(), life);
        url.map_err(|error| Unavailable::new(ROLE, error))
    }
}

/// An operation like the SDK's own: the same connections, timeouts and retries.
fn get(account: &Account, origin: &str) -> Operation<Wanted, Option<Vec<u8>>, Refusal> {
    account
        .signed::<Refusal>(origin)
        .service_name("S3")
        .operation_name("GetObject")
        .serializer(|Wanted { url, range }| {
            let mut request = HttpRequest::get(url)?;
            if let Some(Range { start, end }) = range {
                request.headers_mut().insert("range", format!("bytes={start}-{}", end.saturating_sub(1)));
            }
            Ok(request)
        })
        .deserializer(|answer: &HttpResponse| match answer.status() {
            status if status.is_success() => Ok(answer.body().bytes().map(<[u8]>::to_vec)),
            // 416: the object is shorter than the start of the range.
            status if matches!(status.as_u16(), 404 | 416) => Ok(None),
            status => Err(OrchestratorError::operation(Refusal(status.as_u16()))),
        })
        .build()
}

impl Store for S3Objects {
    async fn url(&self, path: &ObjectPath, name: &Bin, method: Method) -> Result<Location, Unavailable> {
        let object = path.location();
        if let Some(cdn) = &self.cdn {
            // The CDN removes a blob's last component, which is the file's name for clients.
            let object = if matches!(path.name, ObjectName::Blob(_)) { format!("{object}/{name}") } else { object };
            return Ok(Location::Cdn(format!("{cdn}/{}", encoded(&object))));
        }
        let method = match method {
            Method::Get => "GET",
            Method::Head => "HEAD",
        };
        let saved = attachment(name);
        let query: &[_] =
            if path.name.is_called(name) { &[] } else { &[("response-content-disposition", saved.as_str())] };
        self.signed(method, &object, query, &[], URL_LIFE).map(Location::Store)
    }

    async fn read(&self, path: &ObjectPath) -> Result<Option<Vec<u8>>, Unavailable> {
        self.fetch(&path.location(), None).await
    }

    async fn log_object(&self, name: &LogName) -> Result<Option<Vec<u8>>, Unavailable> {
        self.fetch(&name.to_string(), None).await
    }

    async fn part(&self, path: &ObjectPath, range: Range<u64>) -> Result<Option<Vec<u8>>, Unavailable> {
        let length = range.end.saturating_sub(range.start);
        let part = self.fetch(&path.location(), Some(range)).await?;
        Ok(part.filter(|part| part.len() as u64 == length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use binplz_core::{
        answer::asked::{Asked, Format},
        flow::request::outcome::RequestOutcome,
        nixpkgs::served::{Notes, Served},
    };

    /// The `Location` and `Cache-Control` of a hit, with or without a CDN.
    async fn hit(cdn: &str, object: &str) -> (String, String) {
        let settings = [
            ("AWS_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
            ("BINPLZ_BUCKET", "bucket"),
            ("BINPLZ_CDN", cdn),
        ];
        let settings = settings.iter().fold(Settings::default(), |settings, (name, value)| settings.with(name, value));
        let store = S3Objects::open(&Account::open(&settings).expect("an account"), &settings).expect("a store");
        let object: ObjectPath = format!("{}/{object}", prefix()).parse().expect("an object");
        let bin: Bin = "[".parse().expect("a program");
        let at = store.url(&object, &bin, Method::Get).await.expect("a URL");
        let served = Served {
            asked: "a.b?sys=x86_64-linux".parse().expect("a key"),
            pin: "unstable".parse().expect("a pin"),
            rev: object.key.rev.clone(),
            attr: "a.b".parse().expect("an attribute"),
            bin,
            version: "1".to_owned(),
            sha256: "0".repeat(64).parse().expect("hex"),
            size: 1,
            object,
            notes: Notes::default(),
            stale: false,
            lost: false,
        };
        let asked = Asked { origin: "https://h", target: None, format: Format::Shell, retry: false };
        let headers = RequestOutcome::Hit { served, at }.answer(&asked).headers;
        let value = |name| headers.iter().find(|(header, _)| *header == name).expect(name).1.clone();
        assert_eq!(value("vary"), "Accept");
        (value("location"), value("cache-control"))
    }

    fn prefix() -> String {
        format!("builds/{}/x86_64-linux/a.b/{}", "ab".repeat(20), "c".repeat(32))
    }

    #[tokio::test]
    async fn a_redirect_may_be_kept_only_where_it_leads_to_the_cdn_and_ends_with_the_programs_name() {
        let blob = format!("blob/{}", "d".repeat(64));
        for (object, path) in
            [("bin/[", format!("{}/bin/%5B", prefix())), (&*blob, format!("blobs/{}/%5B", "d".repeat(64)))]
        {
            let cdn = (format!("https://binplz.example/{path}"), "public, max-age=60".to_owned());
            assert_eq!(hit("https://binplz.example/", object).await, cdn);
        }
        let named =
            format!("blobs/{}?response-content-disposition=attachment%3B%20filename%3D%22%5B%22&", "d".repeat(64));
        for (object, path) in [("bin/[", format!("{}/bin/%5B?", prefix())), (&*blob, named)] {
            let (location, kept) = hit("", object).await;
            let start = format!("https://bucket.s3.us-east-1.amazonaws.com/{path}X-Amz-");
            assert!(location.starts_with(&start), "{location}");
            assert_eq!(kept, "no-store");
        }
    }
}
