//! The signer: its signatures are of its keys, its digests are of what is stored, and the log's objects do not change.

use binplz_core::{
    objects::{
        artifact::{AttemptPrefix, ObjectName},
        content::Content,
    },
    ports::{Intake, KeyUse, MESSAGE_MAX, Signer, Store},
    trust::{
        head::LogName,
        leaf::Blake2b,
        note::Verify,
        tile::{Kind, TileName},
    },
};
use binplz_signing::{Digester, Ring};

use super::{
    Kept,
    rows::{key, lease_id},
    same,
};

/// The store, and what signs its objects.
pub trait Signs {
    /// Where the objects are.
    fn store(&self) -> &impl Intake;

    /// The signer.
    fn signer(&self) -> &impl Signer;
}

/// A key of each use, and neither is the other.
pub async fn a_signature_is_by_the_key_of_its_use(it: &impl Signs) -> Kept {
    let signer = it.signer();
    let keys = signer.public().await?;
    same("the keys again", &signer.public().await?, &keys)?;
    for (by, key, other) in [(KeyUse::Artifacts, keys.artifacts, keys.log), (KeyUse::Log, keys.log, keys.artifacts)] {
        for message in [&b""[..], b"a message", &[7; MESSAGE_MAX]] {
            let signature = signer.sign(by, message).await?;
            same("its own key", &Ring.verify(&key, message, &signature), &true)?;
            same("the other key", &Ring.verify(&other, message, &signature), &false)?;
        }
        same("a message that is too long", &signer.sign(by, &[7; MESSAGE_MAX + 1]).await.is_err(), &true)?;
    }
    Ok(())
}

/// The size and both hashes of the bytes that are stored.
pub async fn a_digest_is_of_what_is_stored(it: &impl Signs) -> Kept {
    let prefix = AttemptPrefix { key: key(1), lease: lease_id(1) };
    let (path, missing) = (prefix.object(ObjectName::Manifest), prefix.object(ObjectName::WholeLog));
    let content: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    it.store().write(&path, content.clone()).await?;
    let digest: Option<(Content, Blake2b)> = it.signer().digest(&path).await?;
    same("its digest", &digest, &Digester::of(&*content).ok())?;
    same("of nothing", &it.signer().digest(&missing).await?, &None)
}

/// An object of the log can be written again, and only as it is.
pub async fn an_object_of_the_log_never_changes(it: &impl Signs) -> Kept {
    let (signer, store) = (it.signer(), it.store());
    let names = [LogName::Tile(TileName::of(Kind::Hashes(0), 0, 3)), LogName::Staged(lease_id(1))];
    for name in &names {
        same("before", &store.log_object(name).await?, &None)?;
        for _ in 0..2 {
            signer.write(name, b"content".to_vec()).await?;
        }
        same("another content", &signer.write(name, b"Content".to_vec()).await.is_err(), &true)?;
        same("its content", &store.log_object(name).await?, &Some(b"content".to_vec()))?;
    }
    signer.remove_staged(&lease_id(1)).await?;
    signer.remove_staged(&lease_id(1)).await?;
    same("removed", &store.log_object(&names[1]).await?, &None)?;
    same("the other one", &store.log_object(&names[0]).await?.is_some(), &true)
}

/// Those of a tile that is full, and no others.
pub async fn narrower_tiles_are_removed_and_nothing_else(it: &impl Signs) -> Kept {
    let (signer, store) = (it.signer(), it.store());
    let tile = |kind, index, size| TileName::of(kind, index, size);
    let full = tile(Kind::Hashes(0), 0, 256);
    let narrower = [tile(Kind::Hashes(0), 0, 1), tile(Kind::Hashes(0), 0, 255)];
    let others = [full, tile(Kind::Hashes(0), 1, 257), tile(Kind::Entries, 0, 255), tile(Kind::Hashes(1), 0, 256)];
    for name in narrower.iter().chain(&others) {
        signer.write(&LogName::Tile(*name), name.to_string().into_bytes()).await?;
    }
    for _ in 0..2 {
        signer.remove_narrower(&full).await?;
    }
    for (names, kept) in [(&narrower[..], false), (&others[..], true)] {
        for name in names {
            same(&name.to_string(), &store.log_object(&LogName::Tile(*name)).await?.is_some(), &kept)?;
        }
    }
    Ok(())
}
