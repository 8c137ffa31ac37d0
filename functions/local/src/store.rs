//! The objects, as files. A file gets its name when it is complete and on the disk, and never changes afterwards.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use binplz_core::{
    build::protocol::{Cache, PresignedUpload},
    id::{
        key::{Bin, Sha256, StoreHash},
        time::Timestamp,
    },
    objects::{
        artifact::{AttemptPrefix, CACHE, ObjectName, ObjectPath, programs_path},
        content::Content,
        stored::{Fingerprint, Integrity, Location, Method},
    },
    ports::{Inspect, Intake, Store, Unavailable},
    trust::head::LogName,
};
use thiserror::Error;
use tokio::{sync::Notify, task::spawn_blocking};

use crate::{
    binary_cache::{LocalBinaryCache, offered_paths},
    checked::Checked,
    dir::{DataDir, KEY_BYTES, OpenError, private},
    draft::{Draft, Published},
    gc::bytes_below,
    grant::{Secret, Terms},
    origin,
};

/// The lifetime of an upload URL. A builder requests one right before it uploads, and requests another if that was too
/// short.
const GRANT_LIFE: Duration = Duration::from_secs(15 * 60);

/// The object store of one machine. The HTTP layer serves `GET` and `HEAD /-/objects/{path}` from [`LocalStore::file`],
/// and `PUT` with [`LocalStore::receive`].
#[derive(Debug)]
pub struct LocalStore {
    pub(crate) objects: PathBuf,
    /// The directory of the shared binary cache, if enabled.
    pub(crate) cached: PathBuf,
    /// The directory of `binplz pin`'s links, which Nix's garbage collector respects.
    pub(crate) roots: PathBuf,
    tmp: PathBuf,
    secret: Secret,
    origin: String,
    /// The origin of upload URLs.
    uploads: String,
    /// The shared binary cache, and the notification of an offer to it.
    shared: Option<(Cache, Arc<Notify>)>,
    pub(crate) checked: Checked,
    /// Keeps the directory locked while any write is under way.
    _dir: Arc<DataDir>,
}

/// Why an upload is refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum UploadError {
    /// The signature is not this store's, or is for another path. 403.
    #[error("the upload URL is not from this service")]
    Forged,
    /// The URL has expired. 403.
    #[error("the upload URL has expired")]
    Expired,
    /// More or fewer bytes than announced. 400.
    #[error("the size of the upload differs from the announced one")]
    Size,
    /// Other content than announced. 400.
    #[error("the sha256 of the upload differs from the announced one")]
    Content,
    /// An object of this name with other content exists. 409.
    #[error("the object exists already, with other content")]
    Taken,
    /// The disk did not take the write. 503.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

pub(crate) fn unavailable(cause: impl ToString) -> Unavailable {
    Unavailable::new("store", cause)
}

/// The file of an object.
pub(crate) fn object_file(objects: &Path, path: &ObjectPath) -> PathBuf {
    // An object path is valid by construction: no component is empty, starts with a dot or contains a slash.
    objects.join(path.location())
}

/// `None` if the file does not exist.
pub(crate) fn absent<T>(result: io::Result<T>) -> Result<Option<T>, Unavailable> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(unavailable(e)),
    }
}

/// Runs file operations on a blocking thread, so that requests do not wait for the disk.
async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, UploadError> + Send + 'static,
) -> Result<T, UploadError> {
    spawn_blocking(work).await.unwrap_or_else(|panic| Err(unavailable(panic).into()))
}

impl LocalStore {
    /// Opens the store in a data directory, or creates it. Unfinished objects of an earlier process are removed.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(dir: &Arc<DataDir>, origin: &str) -> Result<LocalStore, OpenError> {
        let (objects, tmp) = (dir.subdir("objects")?, dir.subdir("tmp")?);
        let of = |e| OpenError::of(&tmp, e);
        for leftover in fs::read_dir(&tmp).map_err(of)? {
            fs::remove_file(leftover.map_err(of)?.path()).map_err(of)?;
        }
        let path = dir.file("secret");
        let of = |e| OpenError::of(&path, e);
        let secret = match secret_in(&path, &tmp).map_err(of)? {
            Some(secret) => Secret(secret),
            // It is good for uploads of a quarter of an hour: builders ask for new URLs.
            None => {
                tracing::warn!(path = %path.display(), "the secret of upload URLs was damaged: there is a new one");
                Secret(new_secret(&path, &tmp).map_err(of)?)
            }
        };
        let (roots, cached) = (dir.file("roots"), dir.file(CACHE));
        Ok(LocalStore {
            objects,
            roots,
            cached,
            tmp,
            secret,
            origin: origin.to_owned(),
            uploads: origin.to_owned(),
            shared: None,
            checked: Checked::default(),
            _dir: Arc::clone(dir),
        })
    }

    /// Adds the builders' shared binary cache.
    pub fn sharing(self, binary_cache: &LocalBinaryCache) -> LocalStore {
        LocalStore { shared: Some((binary_cache.for_builders(), binary_cache.offered())), ..self }
    }

    /// Uploads go to another origin than downloads.
    #[must_use]
    pub fn with_uploads_at(self, origin: &str) -> LocalStore {
        LocalStore { uploads: origin.to_owned(), ..self }
    }

    /// The file of an object; it may not exist.
    pub fn file(&self, path: &ObjectPath) -> PathBuf {
        object_file(&self.objects, path)
    }

    /// The file of a database of programs; it may not exist.
    pub fn programs_file(&self, sha256: &Sha256) -> PathBuf {
        self.objects.join(programs_path(sha256))
    }

    /// Whether an object is as it was when it was last compared with what it must be, and was that.
    pub fn is_checked(&self, path: &ObjectPath) -> bool {
        self.checked.is_intact(&self.file(path))
    }

    fn object_url(origin: &str, path: &ObjectPath) -> String {
        origin::url(origin, &format!("objects/{path}"))
    }

    /// Begins an upload to a URL from [`binplz_core::ports::Intake::grant`]. `query`: the part of the URL after `?`.
    ///
    /// # Errors
    /// [`UploadError`].
    pub async fn receive(&self, path: &ObjectPath, query: &str, now: Timestamp) -> Result<Receiver, UploadError> {
        let terms = self.secret.check(path, query, now)?;
        let tmp = self.tmp.clone();
        let draft = off_thread(move || Ok(Draft::new(&tmp).map_err(unavailable)?)).await?;
        Ok(Receiver { draft: Some(draft), terms, objects: self.objects.clone(), path: path.clone() })
    }
}

/// An upload in progress. The object appears when [`Receiver::finish`] returns `Ok`; dropping the receiver before that
/// leaves nothing behind.
#[derive(Debug)]
pub struct Receiver {
    /// `None` while a write is under way, and after one that failed.
    draft: Option<Draft>,
    terms: Terms,
    objects: PathBuf,
    path: ObjectPath,
}

impl Receiver {
    /// The announced size, in bytes.
    pub fn size(&self) -> u64 {
        self.terms.size
    }

    /// Writes the next bytes.
    ///
    /// # Errors
    /// [`UploadError::Size`] as soon as there are more bytes than announced; [`UploadError::Unavailable`]. Either ends
    /// the upload.
    pub async fn write(&mut self, chunk: impl AsRef<[u8]> + Send + 'static) -> Result<(), UploadError> {
        let mut draft = self.draft.take().ok_or_else(broken_off)?;
        if chunk.as_ref().len() as u64 > self.terms.size - draft.size() {
            return Err(UploadError::Size);
        }
        let written = off_thread(move || {
            draft.write(chunk.as_ref()).map_err(unavailable)?;
            Ok(draft)
        });
        self.draft = Some(written.await?);
        Ok(())
    }

    /// Ends the upload. If the content matches the announcement, the object exists and is on the disk.
    ///
    /// # Errors
    /// [`UploadError`]; then the object does not exist.
    pub async fn finish(mut self) -> Result<(), UploadError> {
        let draft = self.draft.take().ok_or_else(broken_off)?;
        if draft.size() != self.terms.size {
            return Err(UploadError::Size);
        }
        if draft.sha256() != self.terms.sha256 {
            return Err(UploadError::Content);
        }
        off_thread(move || publish(draft, &self.objects, &self.path)).await
    }
}

fn broken_off() -> UploadError {
    unavailable("the upload was aborted").into()
}

fn publish(draft: Draft, objects: &Path, path: &ObjectPath) -> Result<(), UploadError> {
    // A file that is not as its name says is damaged.
    let replace = matches!(path.name, ObjectName::Blob(_));
    match draft.publish(objects, &path.location(), replace).map_err(unavailable)? {
        Published::Whole => Ok(()),
        Published::Taken => Err(UploadError::Taken),
    }
}

impl Store for LocalStore {
    async fn url(&self, path: &ObjectPath, name: &Bin, _method: Method) -> Result<Location, Unavailable> {
        Ok(Location::Store(match path.name.is_called(name) {
            true => Self::object_url(&self.origin, path),
            false => origin::url(&self.origin, &format!("objects/{path}/{name}")),
        }))
    }

    async fn read(&self, path: &ObjectPath) -> Result<Option<Vec<u8>>, Unavailable> {
        let file = self.file(path);
        spawn_blocking(move || absent(fs::read(file))).await.map_err(unavailable)?
    }

    async fn log_object(&self, name: &LogName) -> Result<Option<Vec<u8>>, Unavailable> {
        let file = self.objects.join(name.to_string());
        spawn_blocking(move || absent(fs::read(file))).await.map_err(unavailable)?
    }

    async fn part(&self, path: &ObjectPath, range: Range<u64>) -> Result<Option<Vec<u8>>, Unavailable> {
        let file = self.file(path);
        let read = move || {
            let Some(mut file) = absent(File::open(file))? else { return Ok(None) };
            let length = range.end.saturating_sub(range.start);
            let mut part = Vec::new();
            file.seek(SeekFrom::Start(range.start)).map_err(unavailable)?;
            file.take(length).read_to_end(&mut part).map_err(unavailable)?;
            Ok((part.len() as u64 == length).then_some(part))
        };
        spawn_blocking(read).await.map_err(unavailable)?
    }

    async fn glance(&self, path: &ObjectPath, content: &Content) -> Result<Integrity, Unavailable> {
        self.checked.glance(self.file(path), content).await
    }
}

impl Inspect for LocalStore {
    async fn size(&self, path: &ObjectPath) -> Result<Option<u64>, Unavailable> {
        Ok(absent(fs::metadata(self.file(path)))?.map(|about| about.len()))
    }

    async fn digest(&self, path: &ObjectPath) -> Result<Option<Fingerprint>, Unavailable> {
        self.checked.digest(self.file(path)).await
    }
}

impl Intake for LocalStore {
    async fn grant(&self, path: &ObjectPath, size: u64, sha256: &Sha256) -> Result<PresignedUpload, Unavailable> {
        let terms = Terms { size, sha256: sha256.clone(), expires: binplz_clock::now() + GRANT_LIFE };
        let url = format!("{}?{}", Self::object_url(&self.uploads, path), self.secret.query(path, &terms));
        Ok(PresignedUpload { url, headers: Vec::new(), stored: false })
    }

    async fn programs(&self, sha256: &Sha256) -> Result<String, Unavailable> {
        Ok(origin::url(&self.uploads, &format!("objects/{}", programs_path(sha256))))
    }

    async fn source(&self, path: &ObjectPath) -> Result<String, Unavailable> {
        Ok(Self::object_url(&self.uploads, path))
    }

    async fn write(&self, path: &ObjectPath, content: Vec<u8>) -> Result<(), Unavailable> {
        let (tmp, objects, path) = (self.tmp.clone(), self.objects.clone(), path.clone());
        let written = off_thread(move || {
            let mut draft = Draft::new(&tmp).map_err(unavailable)?;
            draft.write(&content).map_err(unavailable)?;
            publish(draft, &objects, &path)
        });
        written.await.map_err(|refused| match refused {
            UploadError::Unavailable(error) => error,
            other => unavailable(other),
        })
    }

    async fn remove_segments(&self, prefix: &AttemptPrefix) -> Result<(), Unavailable> {
        remove_below(self.objects.join(prefix.segments())).await
    }

    async fn remove_partial(&self, prefix: &AttemptPrefix) -> Result<(), Unavailable> {
        remove_below(self.objects.join(prefix.partial())).await
    }

    async fn cache(&self) -> Result<Option<Cache>, Unavailable> {
        Ok(self.shared.as_ref().map(|(cache, _)| cache.clone()))
    }

    async fn offered_bytes(&self, prefix: &AttemptPrefix) -> Result<u64, Unavailable> {
        bytes_below(self.objects.join(prefix.quarantine())).await
    }

    async fn offered_paths(&self, prefix: &AttemptPrefix) -> Result<Vec<StoreHash>, Unavailable> {
        offered_paths(self.objects.join(prefix.quarantine())).await
    }

    async fn offered(&self, _: &AttemptPrefix) -> Result<(), Unavailable> {
        if let Some((_, offered)) = &self.shared {
            offered.notify_one();
        }
        Ok(())
    }
}

async fn remove_below(directory: PathBuf) -> Result<(), Unavailable> {
    spawn_blocking(move || absent(fs::remove_dir_all(directory)).map(drop)).await.map_err(unavailable)?
}

/// Reads the secret of a file, which is created atomically at the first call. `None`: it has another size than it was
/// written with.
pub(crate) fn secret_in(path: &Path, tmp: &Path) -> io::Result<Option<[u8; KEY_BYTES]>> {
    match fs::read(path) {
        Ok(bytes) => Ok(bytes.try_into().ok()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => new_secret(path, tmp).map(Some),
        Err(e) => Err(e),
    }
}

/// Writes a new secret.
fn new_secret(path: &Path, tmp: &Path) -> io::Result<[u8; KEY_BYTES]> {
    let bytes = binplz_clock::random();
    let draft = tmp.join("secret");
    let mut file = private().create_new(true).open(&draft)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    fs::rename(draft, path)?;
    Ok(bytes)
}
