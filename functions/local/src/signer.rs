//! The signing keys as files that only this user can read, and the objects of the transparency log beside the others.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    sync::Arc,
};

use binplz_core::{
    id::key::LeaseId,
    objects::{artifact::ObjectPath, content::Content},
    ports::{KeyUse, MESSAGE_MAX, Signer, Unavailable},
    trust::{
        head::{LogName, PublicKeys},
        leaf::Blake2b,
        tile::TileName,
    },
};
use binplz_signing::{Digester, KeyPair};
use tokio::task::spawn_blocking;

use crate::{
    dir::{DataDir, OpenError},
    draft::{Draft, Published},
    store::{absent, object_file, secret_in, unavailable},
};

/// The files of the keys in the data directory.
pub const KEY_FILES: [&str; 2] = ["signing-key", "log-key"];

/// The signer of one machine.
#[derive(Debug)]
pub struct LocalSigner {
    artifacts: KeyPair,
    log: KeyPair,
    objects: PathBuf,
    tmp: PathBuf,
    _dir: Arc<DataDir>,
}

impl LocalSigner {
    /// Opens the keys in a data directory. The first time, they are made.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(dir: &Arc<DataDir>) -> Result<LocalSigner, OpenError> {
        let (objects, tmp) = (dir.subdir("objects")?, dir.subdir("tmp")?);
        let [artifacts, log] = KEY_FILES.map(|name| key_in(&dir.file(name), &tmp));
        Ok(LocalSigner { artifacts: artifacts?, log: log?, objects, tmp, _dir: Arc::clone(dir) })
    }

    fn file(&self, name: &LogName) -> PathBuf {
        self.objects.join(name.to_string())
    }
}

fn key_in(path: &Path, tmp: &Path) -> Result<KeyPair, OpenError> {
    let of = |e| OpenError::of(path, e);
    match secret_in(path, tmp).map_err(of)? {
        Some(seed) => Ok(KeyPair::of_seed(&seed)),
        None => Err(OpenError::SigningKey { path: path.to_owned(), size: fs::metadata(path).map_err(of)?.len() }),
    }
}

impl Signer for LocalSigner {
    async fn public(&self) -> Result<PublicKeys, Unavailable> {
        Ok(PublicKeys { artifacts: self.artifacts.public(), log: self.log.public() })
    }

    async fn sign(&self, by: KeyUse, message: &[u8]) -> Result<[u8; 64], Unavailable> {
        if message.len() > MESSAGE_MAX {
            return Err(Unavailable::new("signer", format!("a message of {} bytes is too long", message.len())));
        }
        Ok(match by {
            KeyUse::Artifacts => self.artifacts.sign(message),
            KeyUse::Log => self.log.sign(message),
        })
    }

    async fn digest(&self, path: &ObjectPath) -> Result<Option<(Content, Blake2b)>, Unavailable> {
        let file = object_file(&self.objects, path);
        let digest = move || {
            let Some(file) = absent(File::open(file))? else { return Ok(None) };
            Digester::of(file).map(Some).map_err(unavailable)
        };
        spawn_blocking(digest).await.map_err(unavailable)?
    }

    async fn write(&self, name: &LogName, content: Vec<u8>) -> Result<(), Unavailable> {
        let (tmp, objects, name) = (self.tmp.clone(), self.objects.clone(), name.to_string());
        let write = move || {
            let mut draft = Draft::new(&tmp).map_err(unavailable)?;
            draft.write(&content).map_err(unavailable)?;
            match draft.publish(&objects, &name, false).map_err(unavailable)? {
                Published::Whole => Ok(()),
                Published::Taken => Err(unavailable(format!("{name} exists, with other content"))),
            }
        };
        spawn_blocking(write).await.map_err(unavailable)?
    }

    async fn remove_staged(&self, name: &LeaseId) -> Result<(), Unavailable> {
        let file = self.file(&LogName::Staged(name.clone()));
        spawn_blocking(move || absent(fs::remove_file(file)).map(drop)).await.map_err(unavailable)?
    }

    async fn remove_narrower(&self, full: &TileName) -> Result<(), Unavailable> {
        let directory = self.objects.join(format!("{}.p", LogName::Tile(*full)));
        spawn_blocking(move || absent(fs::remove_dir_all(directory)).map(drop)).await.map_err(unavailable)?
    }
}
