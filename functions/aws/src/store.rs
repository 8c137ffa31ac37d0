//! The objects of one S3 bucket, with uploads. What a builder may write is signed into its URL: the size, the content's
//! sha256, and that no object of that name exists. S3 refuses all else, so uploads need no further check here.

use std::{ops::Range, time::Duration};

use aws_sdk_s3::{
    Client,
    operation::{head_object::HeadObjectError, put_object::PutObjectError},
    primitives::ByteStream,
    types::{ChecksumMode, Delete, ObjectIdentifier},
};
use aws_smithy_types::{base64, timeout::TimeoutConfig};
use binplz_core::{
    build::protocol::{Cache, PresignedUpload},
    id::key::{Bin, Rev, Sha256, StoreHash, hex},
    objects::{
        artifact::{AttemptPrefix, ObjectName, ObjectPath, nixpkgs_path, programs_path},
        content::Content,
        stored::{Fingerprint, Location, Method},
    },
    ports::{Inspect, Intake, Store, Unavailable},
    trust::head::LogName,
};
use sha2::Digest;

use crate::{
    account::Account,
    config::{ConfigError, Settings},
    objects::{ROLE, S3Objects, URL_LIFE},
    shared::Shared,
    unavailable,
};

/// How long a builder may take to begin an upload.
pub const GRANT_LIFE: Duration = Duration::from_secs(15 * 60);
/// The timeout of the upload of a nixpkgs tarball.
const UPLOAD: Duration = Duration::from_secs(3600);

/// The bucket.
#[derive(Clone, Debug)]
pub struct S3Store {
    pub(crate) s3: Client,
    pub(crate) bucket: String,
    pub(crate) objects: S3Objects,
    /// The builders' shared binary cache, if enabled.
    shared: Option<Shared>,
}

impl S3Store {
    /// The bucket that the settings name.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn open(account: &Account, settings: &Settings) -> Result<S3Store, ConfigError> {
        let bucket = settings.need("BINPLZ_BUCKET")?;
        let config = aws_sdk_s3::config::Builder::from(&account.sdk).force_path_style(account.endpoint.is_some());
        let (objects, shared) = (S3Objects::open(account, settings)?, Shared::open(settings));
        Ok(S3Store { s3: Client::from_conf(config.build()), bucket, objects, shared })
    }

    /// Stores the tarball of a nixpkgs for builders.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn keep_nixpkgs(&self, rev: &Rev, tarball: Vec<u8>) -> Result<(), Unavailable> {
        let put = self.s3.put_object().bucket(&self.bucket).key(nixpkgs_path(rev)).content_type("application/gzip");
        // About 50 MB over the operator's line, which may be slow.
        let put = put.body(ByteStream::from(tarball)).customize().config_override(within(UPLOAD)).send().await;
        put.map(drop).map_err(|error| unavailable(ROLE, &error))
    }

    /// Stores a database of programs for builders.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn keep_programs(&self, bytes: Vec<u8>) -> Result<Content, Unavailable> {
        let content = Content { sha256: Sha256::of(&bytes), size: bytes.len() as u64 };
        let put = self.s3.put_object().bucket(&self.bucket).key(programs_path(&content.sha256));
        let put = put.content_type("application/vnd.sqlite3").checksum_sha256(base64_of(&content.sha256));
        let put = put.body(ByteStream::from(bytes)).customize().config_override(within(UPLOAD)).send().await;
        put.map(|_| content).map_err(|error| unavailable(ROLE, &error))
    }

    /// Whether the tarball of a nixpkgs is stored for builders.
    #[cfg(feature = "operator")]
    pub(crate) async fn has_nixpkgs(&self, rev: &Rev) -> Result<bool, Unavailable> {
        self.has(&nixpkgs_path(rev)).await
    }

    /// Whether a database of programs is stored for builders.
    #[cfg(feature = "operator")]
    pub(crate) async fn has_programs(&self, sha256: &Sha256) -> Result<bool, Unavailable> {
        self.has(&programs_path(sha256)).await
    }

    #[cfg(feature = "operator")]
    async fn has(&self, key: &str) -> Result<bool, Unavailable> {
        match self.s3.head_object().bucket(&self.bucket).key(key).send().await {
            Ok(_) => Ok(true),
            Err(error) if error.as_service_error().is_some_and(HeadObjectError::is_not_found) => Ok(false),
            Err(error) => Err(unavailable(ROLE, &error)),
        }
    }

    /// Removes all objects whose keys begin with `prefix`.
    pub(crate) async fn remove_below(&self, prefix: &str) -> Result<(), Unavailable> {
        loop {
            let list = self.s3.list_objects_v2().bucket(&self.bucket).prefix(prefix);
            let list = list.send().await.map_err(|error| unavailable(ROLE, &error))?;
            let keys = list.contents().iter().filter_map(|object| object.key());
            let keys: Result<Vec<_>, _> = keys.map(|key| ObjectIdentifier::builder().key(key).build()).collect();
            let keys = keys.map_err(|error| Unavailable::new(ROLE, error))?;
            // S3 refuses a request that removes nothing.
            if keys.is_empty() {
                return Ok(());
            }
            let these = Delete::builder().set_objects(Some(keys)).quiet(true).build();
            let these = these.map_err(|error| Unavailable::new(ROLE, error))?;
            let removed = self.s3.delete_objects().bucket(&self.bucket).delete(these).send().await;
            // A 200 lists the objects that were not removed.
            let removed = removed.map_err(|error| unavailable(ROLE, &error))?;
            if let Some(error) = removed.errors().first() {
                let (key, why) = (error.key().unwrap_or_default(), error.message().unwrap_or_default());
                return Err(Unavailable::new(ROLE, format!("{key} was not removed: {why}")));
            }
            // A thousand at a time; removed objects are no longer listed.
            if list.is_truncated() != Some(true) {
                return Ok(());
            }
        }
    }

    /// Writes a small object. Returns false if an object of that name exists, which stays.
    pub(crate) async fn put_new(&self, key: &str, media_type: &str, content: Vec<u8>) -> Result<bool, Unavailable> {
        let checksum = checksum_of(&content);
        let put = self.s3.put_object().bucket(&self.bucket).key(key).content_type(media_type);
        let put = put.if_none_match("*").checksum_sha256(checksum).body(ByteStream::from(content));
        match put.send().await {
            Ok(_) => Ok(true),
            Err(error) if error.as_service_error().is_some_and(already_there) => Ok(false),
            Err(error) => Err(unavailable(ROLE, &error)),
        }
    }

    /// Whether the existing object has this content.
    async fn holds(&self, path: &ObjectPath, checksum: &str) -> Result<bool, Unavailable> {
        let head = self.s3.head_object().bucket(&self.bucket).key(path.location());
        let head = head.checksum_mode(ChecksumMode::Enabled).send().await.map_err(|error| unavailable(ROLE, &error))?;
        Ok(head.checksum_sha256() == Some(checksum))
    }
}

/// The timeouts of a request that moves many bytes.
pub(crate) fn within(time: Duration) -> aws_sdk_s3::config::Builder {
    let patient = TimeoutConfig::builder().operation_attempt_timeout(time).operation_timeout(time).build();
    aws_sdk_s3::config::Builder::new().timeout_config(patient)
}

fn checksum_of(content: &[u8]) -> String {
    base64::encode(sha2::Sha256::digest(content))
}

/// S3's form of a checksum.
fn base64_of(sha256: &Sha256) -> String {
    base64::encode(sha256.bytes())
}

/// The sha256 of S3's form; `None` for another checksum, such as that of an upload in parts.
fn sha256_of(checksum: &str) -> Option<Sha256> {
    hex(&base64::decode(checksum).ok()?).parse().ok()
}

impl Store for S3Store {
    async fn url(&self, path: &ObjectPath, name: &Bin, method: Method) -> Result<Location, Unavailable> {
        self.objects.url(path, name, method).await
    }

    async fn read(&self, path: &ObjectPath) -> Result<Option<Vec<u8>>, Unavailable> {
        self.objects.read(path).await
    }

    async fn log_object(&self, name: &LogName) -> Result<Option<Vec<u8>>, Unavailable> {
        self.objects.log_object(name).await
    }

    async fn part(&self, path: &ObjectPath, range: Range<u64>) -> Result<Option<Vec<u8>>, Unavailable> {
        self.objects.part(path, range).await
    }
}

impl Inspect for S3Store {
    async fn size(&self, path: &ObjectPath) -> Result<Option<u64>, Unavailable> {
        match self.s3.head_object().bucket(&self.bucket).key(path.location()).send().await {
            Ok(head) => Ok(head.content_length().and_then(|length| u64::try_from(length).ok())),
            Err(error) if matches!(error.as_service_error(), Some(HeadObjectError::NotFound(_))) => Ok(None),
            Err(error) => Err(unavailable(ROLE, &error)),
        }
    }

    /// By the checksum that S3 has stored, and checks whenever it reads the object.
    async fn digest(&self, path: &ObjectPath) -> Result<Option<Fingerprint>, Unavailable> {
        let head = self.s3.head_object().bucket(&self.bucket).key(path.location());
        match head.checksum_mode(ChecksumMode::Enabled).send().await {
            Ok(head) => {
                let size = head.content_length().and_then(|length| u64::try_from(length).ok()).unwrap_or(0);
                Ok(Some(Fingerprint { size, sha256: head.checksum_sha256().and_then(sha256_of) }))
            }
            Err(error) if matches!(error.as_service_error(), Some(HeadObjectError::NotFound(_))) => Ok(None),
            Err(error) => Err(unavailable(ROLE, &error)),
        }
    }
}

impl Intake for S3Store {
    async fn grant(&self, path: &ObjectPath, size: u64, sha256: &Sha256) -> Result<PresignedUpload, Unavailable> {
        let (size, checksum) = (size.to_string(), base64_of(sha256));
        // In the order of their names, as they are signed.
        let mut headers = vec![("content-length", size.as_str()), ("content-type", path.name.media_type())];
        // The uploader gets a 412 if its object exists already. Under a blob's name there is only one content.
        if !matches!(path.name, ObjectName::Blob(_)) {
            headers.push(("if-none-match", "*"));
        }
        headers.push(("x-amz-checksum-sha256", checksum.as_str()));
        let url = self.objects.signed("PUT", &path.location(), &[], &headers, GRANT_LIFE)?;
        let headers = headers.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        Ok(PresignedUpload { url, headers: headers.collect(), stored: false })
    }

    async fn nixpkgs(&self, rev: &Rev) -> Result<String, Unavailable> {
        self.objects.signed("GET", &nixpkgs_path(rev), &[], &[], URL_LIFE)
    }

    async fn programs(&self, sha256: &Sha256) -> Result<String, Unavailable> {
        self.objects.signed("GET", &programs_path(sha256), &[], &[], URL_LIFE)
    }

    async fn source(&self, path: &ObjectPath) -> Result<String, Unavailable> {
        self.objects.signed("GET", &path.location(), &[], &[], URL_LIFE)
    }

    async fn write(&self, path: &ObjectPath, content: Vec<u8>) -> Result<(), Unavailable> {
        let checksum = checksum_of(&content);
        // An earlier write whose reply was lost may have stored the same content.
        let (key, media_type) = (path.location(), path.name.media_type());
        if self.put_new(&key, media_type, content).await? || self.holds(path, &checksum).await? {
            return Ok(());
        }
        Err(Unavailable::new(ROLE, format!("{path} exists already, with other content")))
    }

    async fn remove_segments(&self, prefix: &AttemptPrefix) -> Result<(), Unavailable> {
        self.remove_below(&prefix.segments()).await
    }

    async fn remove_partial(&self, prefix: &AttemptPrefix) -> Result<(), Unavailable> {
        self.remove_below(&prefix.partial()).await
    }

    async fn cache(&self) -> Result<Option<Cache>, Unavailable> {
        let Some(shared) = &self.shared else { return Ok(None) };
        shared.cache(&self.objects).await.map(Some)
    }

    async fn offered_bytes(&self, prefix: &AttemptPrefix) -> Result<u64, Unavailable> {
        self.bytes_below(&prefix.quarantine()).await
    }

    async fn offered_paths(&self, prefix: &AttemptPrefix) -> Result<Vec<StoreHash>, Unavailable> {
        self.offers_in(&prefix.quarantine()).await
    }
}

fn already_there(error: &PutObjectError) -> bool {
    error.meta().code() == Some("PreconditionFailed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sha256_is_written_as_s3_does() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855".parse().expect("64 digits");
        let checksum = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
        assert_eq!((base64_of(&empty).as_str(), sha256_of(checksum)), (checksum, Some(empty)));
        assert_eq!(sha256_of(&format!("{checksum}-2")), None);
    }
}
