//! The signing keys in KMS, and the objects of the transparency log in the bucket.

use std::sync::OnceLock;

use aws_sdk_kms::{
    Client,
    primitives::Blob,
    types::{MessageType, SigningAlgorithmSpec},
};
use aws_sdk_s3::operation::get_object::GetObjectError;
use binplz_core::{
    id::key::LeaseId,
    objects::{artifact::ObjectPath, content::Content},
    ports::{KeyUse, MESSAGE_MAX, Signer, Store, Unavailable},
    trust::{
        head::{LogName, PublicKeys},
        leaf::Blake2b,
        tile::TileName,
    },
};
use binplz_signing::Digester;

use crate::{
    account::Account,
    config::{ConfigError, SIGNING_KEYS, Settings},
    objects::ROLE,
    store::S3Store,
    unavailable,
};

const KMS: &str = "signer";
/// What precedes the 32 bytes of an Ed25519 key in its DER form (RFC 8410).
const ED25519_DER: &[u8] = &[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// The signer of a stack. KMS does not give its private keys to anyone.
#[derive(Debug)]
pub struct KmsSigner {
    store: S3Store,
    kms: Client,
    artifacts: String,
    log: String,
    /// The public keys, once they were read. A key's ARN always means the same key.
    public: OnceLock<PublicKeys>,
}

impl KmsSigner {
    /// Opens the keys that the settings name: `ARTIFACTS,LOG`, two ARNs of KMS keys of the type `ECC_NIST_EDWARDS25519`.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn open(account: &Account, store: &S3Store, settings: &Settings) -> Result<KmsSigner, ConfigError> {
        let keys = <[String; 2]>::try_from(settings.list(SIGNING_KEYS)?);
        let [artifacts, log] = keys.map_err(|keys| ConfigError::Wrong {
            name: SIGNING_KEYS,
            what: "two keys",
            cause: format!("it has {}", keys.len()),
        })?;
        Ok(KmsSigner { store: store.clone(), kms: Client::new(account.sdk()), artifacts, log, public: OnceLock::new() })
    }

    async fn public_key(&self, key: &str) -> Result<[u8; 32], Unavailable> {
        let answer = self.kms.get_public_key().key_id(key).send().await.map_err(|error| unavailable(KMS, &error))?;
        let der = answer.public_key().map(AsRef::as_ref).unwrap_or_default();
        let raw = der.strip_prefix(ED25519_DER).and_then(|raw| raw.try_into().ok());
        raw.ok_or_else(|| Unavailable::new(KMS, format!("{key} is not an Ed25519 key (ECC_NIST_EDWARDS25519)")))
    }
}

impl Signer for KmsSigner {
    async fn public(&self) -> Result<PublicKeys, Unavailable> {
        if let Some(known) = self.public.get() {
            return Ok(*known);
        }
        let (artifacts, log) = (self.public_key(&self.artifacts).await?, self.public_key(&self.log).await?);
        Ok(*self.public.get_or_init(|| PublicKeys { artifacts, log }))
    }

    async fn sign(&self, by: KeyUse, message: &[u8]) -> Result<[u8; 64], Unavailable> {
        if message.len() > MESSAGE_MAX {
            return Err(Unavailable::new(KMS, format!("a message of {} bytes is too long", message.len())));
        }
        let key = match by {
            KeyUse::Artifacts => &self.artifacts,
            KeyUse::Log => &self.log,
        };
        // Ed25519 as in RFC 8032. KMS' other algorithm for these keys hashes the message first.
        let sign = self.kms.sign().key_id(key).message(Blob::new(message)).message_type(MessageType::Raw);
        let signed = sign.signing_algorithm(SigningAlgorithmSpec::Ed25519Sha512).send().await;
        let signed = signed.map_err(|error| unavailable(KMS, &error))?;
        let signature = signed.signature().and_then(|signature| signature.as_ref().try_into().ok());
        signature.ok_or_else(|| Unavailable::new(KMS, "KMS' signature does not have 64 bytes"))
    }

    async fn digest(&self, path: &ObjectPath) -> Result<Option<(Content, Blake2b)>, Unavailable> {
        let get = self.store.s3.get_object().bucket(&self.store.bucket).key(path.location());
        let mut body = match get.send().await {
            Ok(object) => object.body,
            Err(error) if error.as_service_error().is_some_and(GetObjectError::is_no_such_key) => return Ok(None),
            Err(error) => return Err(unavailable(ROLE, &error)),
        };
        let mut digester = Digester::default();
        while let Some(piece) = body.next().await {
            digester.update(&piece.map_err(|error| unavailable(ROLE, &error))?);
        }
        Ok(Some(digester.finish()))
    }

    async fn write(&self, name: &LogName, content: Vec<u8>) -> Result<(), Unavailable> {
        let key = name.to_string();
        if self.store.put_new(&key, "application/octet-stream", content.clone()).await?
            || self.store.log_object(name).await?.as_ref() == Some(&content)
        {
            return Ok(());
        }
        Err(Unavailable::new(ROLE, format!("{key} exists, with other content")))
    }

    async fn remove_staged(&self, name: &LeaseId) -> Result<(), Unavailable> {
        let remove = self.store.s3.delete_object().bucket(&self.store.bucket);
        let removed = remove.key(LogName::Staged(name.clone()).to_string()).send().await;
        removed.map(drop).map_err(|error| unavailable(ROLE, &error))
    }

    async fn remove_narrower(&self, full: &TileName) -> Result<(), Unavailable> {
        self.store.remove_below(&format!("{}.p/", LogName::Tile(*full))).await
    }
}
