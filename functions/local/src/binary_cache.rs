//! The builders' Nix binary cache as a directory, which Nix reads by a `file://` URL, and the quarantine in front of
//! it. On AWS both are in the bucket.

use std::{
    fs::{self, File},
    io::{self, Cursor, Read},
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use binplz_core::{
    build::protocol::Cache,
    id::key::{Sha256, StoreHash},
    objects::{
        artifact::{AttemptPrefix, CACHE, CacheName, ObjectName, ObjectPath, QUARANTINE},
        narinfo::StoreDir,
        stored::Measured,
    },
    ports::{BinaryCache, Unavailable},
};
use binplz_nar::{Key, Meter};
use tokio::{sync::Notify, task::spawn_blocking};

use crate::{
    dir::{DataDir, OpenError, PUBLIC_KEY},
    draft::Draft,
    store::{absent, secret_in, unavailable},
};

/// Size of one read, in bytes.
const PIECE: usize = 1 << 20;

/// The binary cache, and the key that signs it.
#[derive(Debug)]
pub struct LocalBinaryCache {
    /// The data directory, which contains `cache/`.
    data: PathBuf,
    objects: PathBuf,
    tmp: PathBuf,
    of: StoreDir,
    key: Key,
    offered: Arc<Notify>,
    _dir: Arc<DataDir>,
}

impl LocalBinaryCache {
    /// Opens the binary cache in a data directory, or creates it. `of`: the Nix store whose paths it holds.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(dir: &Arc<DataDir>, of: StoreDir) -> Result<LocalBinaryCache, OpenError> {
        let (objects, tmp) = (dir.subdir("objects")?, dir.subdir("tmp")?);
        let data = std::path::absolute(dir.file("")).map_err(|e| OpenError::of(&dir.file(""), e))?;
        let plain = |b: &u8| b.is_ascii_alphanumeric() || b"/._-".contains(b);
        if !data.as_os_str().as_encoded_bytes().iter().all(plain) {
            return Err(OpenError::NotPlain(data));
        }
        // Nix creates these directories if they are missing, even when it only reads.
        for name in ["nar", "realisations"] {
            dir.subdir(&format!("{CACHE}/{name}"))?;
        }
        let info = dir.file(&CacheName::Info.to_string());
        fs::write(&info, format!("StoreDir: {of}\n")).map_err(|e| OpenError::of(&info, e))?;
        let path = dir.file("cache-key");
        let of_key = |e| OpenError::of(&path, e);
        let Some(seed) = secret_in(&path, &tmp).map_err(of_key)? else {
            let size = fs::metadata(&path).map_err(of_key)?.len();
            return Err(OpenError::Key { path, size });
        };
        let (key, offered) = (Key::of_seed(seed), Arc::new(Notify::new()));
        let public = dir.file(PUBLIC_KEY);
        match fs::read_to_string(&public) {
            // What the cache has would not be believed any more.
            Ok(signed) if signed.trim() != key.public() => return Err(OpenError::OtherKey { path }),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::write(&public, key.public()).map_err(|e| OpenError::of(&public, e))?;
            }
            Err(error) if error.kind() == io::ErrorKind::InvalidData => return Err(OpenError::OtherKey { path }),
            Err(error) => return Err(OpenError::of(&public, error)),
        }
        Ok(LocalBinaryCache { data, objects, tmp, of, key, offered, _dir: Arc::clone(dir) })
    }

    /// The cache's URL and public key, for builders.
    pub(crate) fn for_builders(&self) -> Cache {
        let url = format!("file://{}", self.data.join(CACHE).display());
        Cache { url, public_key: Some(self.key.public()) }
    }

    /// Notified when there may be something to promote.
    pub(crate) fn offered(&self) -> Arc<Notify> {
        Arc::clone(&self.offered)
    }

    /// Waits until there may be something to promote.
    pub async fn wait_for_offers(&self) {
        self.offered.notified().await;
    }

    /// Every attempt that has objects in the quarantine.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn in_quarantine(&self) -> Result<Vec<AttemptPrefix>, Unavailable> {
        let objects = self.objects.clone();
        let walk = move || {
            // REV/SYSTEM/ATTR/LEASE
            let leases = (0..4).try_fold(vec![objects.join(QUARANTINE)], |dirs, _| {
                let below: Vec<Vec<PathBuf>> = dirs.iter().map(|dir| entries(dir)).collect::<Result<_, _>>()?;
                Ok::<_, Unavailable>(below.concat())
            });
            let prefix = |dir: &PathBuf| {
                // Parsed as the path of an object that may lie there.
                let path = dir.join(ObjectName::Plan.to_string());
                let ObjectPath { key, lease, .. } = path.strip_prefix(&objects).ok()?.to_str()?.parse().ok()?;
                Some(AttemptPrefix { key, lease })
            };
            Ok(leases?.iter().filter_map(prefix).collect())
        };
        spawn_blocking(walk).await.map_err(unavailable)?
    }

    fn offer(&self, prefix: &AttemptPrefix, name: ObjectName) -> PathBuf {
        self.objects.join(prefix.object(name).to_string())
    }

    /// Writes a file of the cache, unless it exists.
    async fn write(&self, name: CacheName, mut content: impl Read + Send + 'static) -> Result<(), Unavailable> {
        let (tmp, data) = (self.tmp.clone(), self.data.clone());
        let write = move || {
            let mut draft = Draft::new(&tmp)?;
            each_piece(&mut content, |piece| draft.write(piece))?;
            // Of two concurrent writes the first one stays, whether their content is the same or not.
            draft.publish(&data, &name.to_string(), false).map(drop)
        };
        spawn_blocking(write).await.map_err(unavailable)?.map_err(unavailable)
    }
}

fn each_piece(content: &mut impl Read, mut take: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    loop {
        match content.read(&mut piece)? {
            0 => return Ok(()),
            n => take(&piece[..n])?,
        }
    }
}

/// The entries of a directory; none if it does not exist.
fn entries(dir: &Path) -> Result<Vec<PathBuf>, Unavailable> {
    let entries = absent(fs::read_dir(dir))?.into_iter().flatten();
    entries.map(|entry| entry.map(|entry| entry.path()).map_err(unavailable)).collect()
}

/// The store paths whose narinfos lie in a directory of the quarantine.
pub(crate) async fn offered_paths(dir: PathBuf) -> Result<Vec<StoreHash>, Unavailable> {
    let paths = spawn_blocking(move || entries(&dir)).await.map_err(unavailable)??;
    let name = |path: &PathBuf| path.file_name()?.to_str()?.parse().ok();
    let offered = |path| match name(path) {
        Some(ObjectName::Narinfo(hash)) => Some(hash),
        _ => None,
    };
    Ok(paths.iter().filter_map(offered).collect())
}

impl BinaryCache for LocalBinaryCache {
    fn store_dir(&self) -> &StoreDir {
        &self.of
    }

    async fn read(&self, prefix: &AttemptPrefix, offer: ObjectName) -> Result<Option<Vec<u8>>, Unavailable> {
        let path = self.offer(prefix, offer);
        spawn_blocking(move || absent(fs::read(path))).await.map_err(unavailable)?
    }

    async fn offers(&self, prefix: &AttemptPrefix) -> Result<Vec<StoreHash>, Unavailable> {
        offered_paths(self.objects.join(prefix.quarantine())).await
    }

    async fn measure(&self, prefix: &AttemptPrefix, nar: &Sha256, most: u64) -> Result<Option<Measured>, Unavailable> {
        let path = self.offer(prefix, ObjectName::Nar(nar.clone()));
        let measure = move || {
            let Some(mut file) = absent(File::open(path))? else { return Ok(None) };
            let mut meter = Meter::new(most);
            let read = each_piece(&mut file, |piece| {
                meter.feed(piece);
                Ok(())
            });
            read.map(|()| Some(meter.finish())).map_err(unavailable)
        };
        spawn_blocking(measure).await.map_err(unavailable)?
    }

    async fn has(&self, path: &StoreHash) -> Result<bool, Unavailable> {
        fs::exists(self.data.join(CacheName::Narinfo(path.clone()).to_string())).map_err(unavailable)
    }

    async fn keep(&self, prefix: &AttemptPrefix, nar: &Sha256) -> Result<(), Unavailable> {
        let (offer, name) = (self.offer(prefix, ObjectName::Nar(nar.clone())), CacheName::Nar(nar.clone()));
        let kept = self.data.join(name.to_string());
        self.write(name, File::open(offer).map_err(unavailable)?).await?;
        // A file that exists counts as new again: garbage collection goes by its age.
        #[expect(clippy::disallowed_methods, reason = "a file's time is of the file system's clock")]
        let touched = move || File::open(kept)?.set_modified(SystemTime::now());
        spawn_blocking(touched).await.map_err(unavailable)?.map_err(unavailable)
    }

    async fn publish(&self, path: &StoreHash, narinfo: String) -> Result<(), Unavailable> {
        self.write(CacheName::Narinfo(path.clone()), Cursor::new(narinfo)).await
    }

    fn sign(&self, text: &str) -> String {
        self.key.sign(text)
    }

    async fn clear(&self, prefix: &AttemptPrefix) -> Result<(), Unavailable> {
        let dir = self.objects.join(prefix.quarantine());
        spawn_blocking(move || absent(fs::remove_dir_all(dir)).map(drop)).await.map_err(unavailable)?
    }
}
