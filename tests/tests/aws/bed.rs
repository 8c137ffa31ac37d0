//! The AWS adapters beside the bed, new ones for each test, and how a builder's uploads reach S3.

use std::sync::atomic::{AtomicU32, Ordering};

use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, GlobalSecondaryIndex, KeySchemaElement, KeyType, Projection, ProjectionType,
    ScalarAttributeType,
};
use aws_sdk_kms::types::{KeySpec, KeyUsageType};
use binplz_aws::{
    account::Account,
    bell::{RING, SqsBell},
    binary_cache::S3BinaryCache,
    config::Settings,
    item,
    ledger::DynamoLedger,
    signer::KmsSigner,
    store::{GRANT_LIFE, S3Store},
};
use binplz_core::{
    build::protocol::PresignedUpload,
    id::key::{Bin, Rev},
    objects::{
        artifact::{BUILDS, CacheName, ObjectPath, QUARANTINE},
        content::Content,
        stored::Method,
    },
    ports::{BinaryCache, Collect, Intake, Signer, Store},
};
use binplz_tests::{
    contract::{binary_cache::Promotes, signer::Signs, store::Uploads},
    http::ask,
};

/// What `tests/bed/up` says.
pub(crate) fn endpoint() -> String {
    std::env::var("BINPLZ_BED").expect("BINPLZ_BED: run this by tests/bed/up")
}

/// Adapters that hold nothing yet: a table, a bucket, a queue and a cluster of their own.
pub(crate) struct Fresh {
    pub(crate) account: Account,
    pub(crate) settings: Settings,
    ledger: DynamoLedger,
    store: S3Uploads,
    binary_cache: S3BinaryCache,
    signer: KmsSigner,
    pub(crate) bell: SqsBell,
}

pub(crate) async fn fresh() -> Fresh {
    fresh_by(Settings::of_process()).await
}

/// The same in another account than the tests' usual one: a new account, as far as AWS is concerned.
pub(crate) async fn fresh_in(account: &str) -> Fresh {
    fresh_by(Settings::of_process().with("AWS_ACCESS_KEY_ID", account)).await
}

async fn fresh_by(settings: Settings) -> Fresh {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("binplz-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let settings = settings.with("AWS_ENDPOINT_URL", &endpoint());
    let account = Account::open(&settings).expect("the variables of an account");
    make_table(&account, &name).await;
    let s3 = aws_sdk_s3::config::Builder::from(account.sdk()).force_path_style(true).build();
    aws_sdk_s3::Client::from_conf(s3).create_bucket().bucket(&name).send().await.expect("a bucket");
    let queue = aws_sdk_sqs::Client::new(account.sdk()).create_queue().queue_name(&name).send().await;
    let settings = settings
        .with("BINPLZ_TABLE", &name)
        .with("BINPLZ_BUCKET", &name)
        .with("BINPLZ_QUEUE_URL", queue.expect("a queue").queue_url().expect("its URL"))
        .with("BINPLZ_CLUSTER", &name)
        .with("BINPLZ_TASK_X86_64", "builder-x86_64")
        .with("BINPLZ_TASK_ARM64", "builder-arm64")
        .with("BINPLZ_SUBNETS", "subnet-1,subnet-2")
        .with("BINPLZ_SECURITY_GROUPS", "sg-1")
        .with("BINPLZ_CACHE_SECRET", "a secret")
        .with("BINPLZ_ORIGIN", "https://binplz.example");
    let store = S3Store::open(&account, &settings).expect("settings");
    // Only the signer has keys. A deployment without them serves a build at once.
    let keys = format!("{},{}", make_key(&account).await, make_key(&account).await);
    let signing = settings.clone().with("BINPLZ_SIGNING_KEYS", &keys);
    Fresh {
        ledger: DynamoLedger::open(&account, &settings).expect("settings"),
        binary_cache: S3BinaryCache::open(&store, &settings).expect("settings"),
        signer: KmsSigner::open(&account, &store, &signing).expect("settings"),
        store: S3Uploads(store),
        bell: SqsBell::open(&account, &settings).expect("settings"),
        account,
        settings,
    }
}

/// A key of the guide's kind: its ARN.
async fn make_key(account: &Account) -> String {
    let make = aws_sdk_kms::Client::new(account.sdk()).create_key().key_spec(KeySpec::EccNistEdwards25519);
    let made = make.key_usage(KeyUsageType::SignVerify).send().await.expect("KMS");
    made.key_metadata().and_then(|key| key.arn()).expect("its ARN").to_owned()
}

/// The table as the template makes it.
pub(crate) async fn make_table(account: &Account, name: &str) {
    let text = |name: &str| {
        let attribute = AttributeDefinition::builder().attribute_name(name).attribute_type(ScalarAttributeType::S);
        attribute.build().expect("an attribute")
    };
    let part =
        |name: &str, kind| KeySchemaElement::builder().attribute_name(name).key_type(kind).build().expect("a key");
    let index = GlobalSecondaryIndex::builder()
        .index_name(item::SHELVES)
        .key_schema(part(item::SHELF, KeyType::Hash))
        .key_schema(part(item::AT, KeyType::Range))
        .projection(Projection::builder().projection_type(ProjectionType::KeysOnly).build())
        .build()
        .expect("an index");
    let made = aws_sdk_dynamodb::Client::new(account.sdk())
        .create_table()
        .table_name(name)
        .billing_mode(BillingMode::PayPerRequest)
        .attribute_definitions(text(item::PK))
        .attribute_definitions(text(item::SHELF))
        .attribute_definitions(text(item::AT))
        .key_schema(part(item::PK, KeyType::Hash))
        .global_secondary_indexes(index)
        .send()
        .await;
    made.expect("a table");
}

/// The adapter that each module of the suite is about.
impl Fresh {
    pub(crate) fn fencing(&self) -> &DynamoLedger {
        &self.ledger
    }
    pub(crate) fn reading(&self) -> &DynamoLedger {
        &self.ledger
    }
    pub(crate) fn store(&self) -> &S3Uploads {
        &self.store
    }
    pub(crate) fn binary_cache(&self) -> &Fresh {
        self
    }
    pub(crate) fn signer(&self) -> &Fresh {
        self
    }

    /// Waits for a message, and takes it: what the dispatcher's event source does.
    pub(crate) async fn rung(&self) {
        let sqs = aws_sdk_sqs::Client::new(self.account.sdk());
        let queue = self.settings.need("BINPLZ_QUEUE_URL").expect("its URL");
        loop {
            // Longer than one call may take here, and so cut off by it.
            let received = sqs.receive_message().queue_url(&queue).max_number_of_messages(1).wait_time_seconds(2);
            let received = received.send().await.expect("the queue answers");
            if let [message] = received.messages() {
                assert_eq!(message.body(), Some(RING));
                let receipt = message.receipt_handle().expect("a receipt");
                sqs.delete_message().queue_url(&queue).receipt_handle(receipt).send().await.expect("it is deleted");
                return;
            }
        }
    }
}

impl Signs for Fresh {
    fn store(&self) -> &impl Intake {
        &self.store.0
    }
    fn signer(&self) -> &impl Signer {
        &self.signer
    }
}

impl Promotes for Fresh {
    fn store(&self) -> &(impl Intake + Collect) {
        &self.store.0
    }
    fn binary_cache(&self) -> &impl BinaryCache {
        &self.binary_cache
    }
    async fn cached(&self, name: &CacheName) -> Option<Vec<u8>> {
        let s3 = aws_sdk_s3::config::Builder::from(self.account.sdk()).force_path_style(true).build();
        let bucket = self.settings.need("BINPLZ_BUCKET").expect("its name");
        let get = aws_sdk_s3::Client::from_conf(s3).get_object().bucket(bucket).key(name.to_string());
        Some(get.send().await.ok()?.body.collect().await.ok()?.to_vec())
    }
}

/// The store, with uploads over HTTP as a builder makes them.
pub(crate) struct S3Uploads(S3Store);

impl S3Uploads {
    /// 412 is how S3 says that the object is there already. A builder asks for no other object than its own, so it takes that for
    /// done; whether it is the same is looked up here.
    fn put_with(&self, grant: &PresignedUpload, more: &[(&str, &str)], body: &[u8]) -> bool {
        // Every client says its body's own length.
        let own = grant.headers.iter().filter(|(name, _)| name != "content-length");
        let headers: Vec<_> =
            own.map(|(name, value)| (name.as_str(), value.as_str())).chain(more.iter().copied()).collect();
        let answer = ask("PUT", &grant.url, &headers, body);
        match answer.status {
            200 => true,
            412 => ask("GET", &self.plain(&grant.url), &[], b"").body == body,
            400 | 403 => false,
            other => panic!("{other}: {}", answer.text()),
        }
    }

    /// A URL that reads what a grant's writes.
    fn plain(&self, granted: &str) -> String {
        let (object, _) = granted.split_once('?').expect("a query");
        let root = [BUILDS, QUARANTINE].into_iter().find_map(|root| object.find(&format!("/{root}")));
        let path = &object[root.expect("an object") + 1..];
        let path = percent_encoding::percent_decode_str(path).decode_utf8().expect("text");
        let path: ObjectPath = path.parse().expect("an object's path");
        futures_now(self.0.url(&path, &saved_as(), Method::Get)).expect("a URL").url().to_owned()
    }
}

/// The value of a future that waits for nothing: signing needs no request.
fn futures_now<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    match future.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
        std::task::Poll::Ready(value) => value,
        std::task::Poll::Pending => panic!("it waits"),
    }
}

/// The name of a program, for its clients.
fn saved_as() -> Bin {
    "saved".parse().expect("a program's name")
}

impl Uploads for S3Uploads {
    fn store(&self) -> &(impl Intake + Collect) {
        &self.0
    }
    async fn put(&self, grant: &PresignedUpload, body: &[u8]) -> bool {
        self.put_with(grant, &[], body)
    }
    async fn put_late(&self, grant: &PresignedUpload, body: &[u8]) -> bool {
        let seconds = (GRANT_LIFE.as_secs() + 1).to_string();
        self.put_with(grant, &[("x-bed-seconds-ahead", &seconds)], body)
    }
    async fn keep_nixpkgs(&self, rev: &Rev) {
        self.0.keep_nixpkgs(rev, b"a tarball".to_vec()).await.expect("the bucket");
    }
    async fn keep_programs(&self, bytes: &[u8]) -> Content {
        self.0.keep_programs(bytes.to_vec()).await.expect("the bucket")
    }
    async fn serves(&self, path: &ObjectPath, body: Option<&[u8]>) -> bool {
        let get = ask("GET", self.0.url(path, &saved_as(), Method::Get).await.expect("a URL").url(), &[], b"");
        let source = ask("GET", &self.0.source(path).await.expect("a URL"), &[], b"");
        // The body of an error names its request.
        assert!(source.status == get.status && (get.status != 200 || source.body == get.body), "{}", source.text());
        let head = ask("HEAD", self.0.url(path, &saved_as(), Method::Head).await.expect("a URL").url(), &[], b"");
        assert_eq!(get.status, head.status);
        match get.status {
            200 => {
                let named = get.header("content-disposition") == Some("attachment; filename=\"saved\"");
                assert_eq!(named, !path.name.is_called(&saved_as()), "{:?}", get.header("content-disposition"));
                Some(get.body.as_slice()) == body
            }
            404 => body.is_none(),
            other => panic!("{other}: {}", get.text()),
        }
    }
}
