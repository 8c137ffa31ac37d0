//! The objects: whole or not there, and never another.

use std::time::{SystemTime, UNIX_EPOCH};

use binplz_core::{
    build::protocol::PresignedUpload,
    id::{
        key::{BuildKey, Product, Rev, Sha256, System},
        time::Timestamp,
    },
    objects::{
        artifact::{AttemptPrefix, ObjectName, ObjectPath},
        content::Content,
        stored::{Fingerprint, Held, HeldBlob, Integrity, KeptNixpkgs},
    },
    ports::{Collect, Inspect, Intake, Store},
};

use super::{
    Kept, Violation,
    rows::{key, lease_id},
    same,
};

/// A store, and how a builder's upload reaches it.
pub trait Uploads {
    /// The store.
    fn store(&self) -> &(impl Intake + Collect);

    /// `PUT`s a body to a grant's URL, with its headers; whether it was taken.
    fn put(&self, grant: &PresignedUpload, body: &[u8]) -> impl Future<Output = bool>;

    /// The same after the grant's life is over.
    fn put_late(&self, grant: &PresignedUpload, body: &[u8]) -> impl Future<Output = bool>;

    /// Puts a nixpkgs where builders find it, as an operator does.
    fn keep_nixpkgs(&self, rev: &Rev) -> impl Future<Output = ()>;

    /// Puts a database of programs where builders find it, as an operator does.
    fn keep_programs(&self, bytes: &[u8]) -> impl Future<Output = Content>;

    /// Whether a `GET` of the object's public URL, and of its URL for builders, gives exactly this; `None`: that it gives
    /// nothing.
    fn serves(&self, path: &ObjectPath, body: Option<&[u8]>) -> impl Future<Output = bool>;
}

const CONTENT: &[u8] = b"\x7fELF and so on";
/// The sha256 of [`CONTENT`].
const CONTENT_SHA256: &str = "f10dcfc38df641ffd9013f9834e069b55f9c2213e1d9fedc3414fd106aa8e5d3";
/// Of the same length as [`CONTENT`].
const OTHER: &[u8] = b"\x7fELF and so ON";
/// The sha256 of [`OTHER`].
const OTHER_SHA256: &str = "82f5eb5fadfe32d554c40ffb7bfa389a4151c2552b2b8efd17c570789df64f5d";

fn program(name: &str) -> ObjectPath {
    let bin = name.parse().expect("a program's name");
    ObjectPath { key: key(1), lease: lease_id(1), name: ObjectName::Program(bin) }
}

fn sha256(hex: &str) -> Sha256 {
    hex.parse().expect("64 hex digits")
}

async fn grant(uploads: &impl Uploads, path: &ObjectPath) -> Result<PresignedUpload, Violation> {
    Ok(uploads.store().grant(path, CONTENT.len() as u64, &sha256(CONTENT_SHA256)).await?)
}

/// The object is exactly this, by every way to look at it.
async fn expect(uploads: &impl Uploads, path: &ObjectPath, content: Option<&[u8]>) -> Kept {
    let size = content.map(|content| content.len() as u64);
    same("the size", &uploads.store().size(path).await?, &size)?;
    same("the content", &uploads.store().read(path).await?, &content.map(<[u8]>::to_vec))?;
    same("what its URL gives", &uploads.serves(path, content).await, &true)
}

async fn refused(uploads: &impl Uploads, what: &str, grant: &PresignedUpload, body: &[u8]) -> Kept {
    same(what, &uploads.put(grant, body).await, &false)
}

/// By a builder with a grant, and by the service itself; both empty ones too.
pub async fn what_was_granted_can_be_written_and_read(uploads: &impl Uploads) -> Kept {
    let path = program("tree");
    let granted = grant(uploads, &path).await?;
    expect(uploads, &path, None).await?;
    same("the upload", &uploads.put(&granted, CONTENT).await, &true)?;
    expect(uploads, &path, Some(CONTENT)).await?;
    let manifest = ObjectPath { name: ObjectName::Manifest, ..path };
    uploads.store().write(&manifest, b"{}".to_vec()).await?;
    expect(uploads, &manifest, Some(b"{}")).await?;
    let log = ObjectPath { name: ObjectName::Log(1), ..manifest };
    uploads.store().write(&log, Vec::new()).await?;
    expect(uploads, &log, Some(b"")).await
}

/// Each object can be compared with what it must be, if a builder uploaded it or if the service wrote it.
pub async fn an_object_is_known_by_its_size_and_its_sha256(uploads: &impl Uploads) -> Kept {
    let (store, path) = (uploads.store(), program("tree"));
    let content = |hex| Content { sha256: sha256(hex), size: CONTENT.len() as u64 };
    same("of what is not there", &store.digest(&path).await?, &None)?;
    same("the upload", &uploads.put(&grant(uploads, &path).await?, CONTENT).await, &true)?;
    let manifest = ObjectPath { name: ObjectName::Manifest, ..path.clone() };
    store.write(&manifest, CONTENT.to_vec()).await?;
    for path in [&path, &manifest] {
        let stored = store.digest(path).await?;
        same("the content", &stored.clone().and_then(Fingerprint::content), &Some(content(CONTENT_SHA256)))?;
        same("as it must be", &Integrity::of(stored.as_ref(), &content(CONTENT_SHA256)), &Integrity::Intact)?;
        same("another", &Integrity::of(stored.as_ref(), &content(OTHER_SHA256)), &Integrity::OtherContent)?;
        same("at a glance", &store.glance(path, &content(CONTENT_SHA256)).await?, &Integrity::Intact)?;
    }
    Ok(())
}

/// Of an object that is shorter there is no such part.
pub async fn a_part_of_an_object_is_those_bytes(uploads: &impl Uploads) -> Kept {
    let (store, path) = (uploads.store(), program("tree"));
    same("of what is not there", &store.part(&path, 0..1).await?, &None)?;
    store.write(&path, b"0123456789".to_vec()).await?;
    for (range, part) in [(0..10, "0123456789"), (0..1, "0"), (3..6, "345"), (9..10, "9")] {
        same("the part", &store.part(&path, range).await?, &Some(part.as_bytes().to_vec()))?;
    }
    for range in [5..11, 9..11, 10..11, 99..100] {
        same("of what is shorter", &store.part(&path, range).await?, &None)?;
    }
    Ok(())
}

/// Nor is anything where only its neighbour was written.
pub async fn what_nobody_wrote_is_not_there(uploads: &impl Uploads) -> Kept {
    expect(uploads, &program("tree"), None).await?;
    uploads.store().write(&program("tree"), CONTENT.to_vec()).await?;
    expect(uploads, &program("tre"), None).await?;
    expect(uploads, &program("tree.1"), None).await
}

/// One byte less, one more, none, and far more.
pub async fn another_size_is_refused_and_leaves_nothing(uploads: &impl Uploads) -> Kept {
    let path = program("tree");
    let granted = grant(uploads, &path).await?;
    let long = [CONTENT, b"!"].concat();
    let endless = vec![0; 1 << 20];
    for body in [&CONTENT[..CONTENT.len() - 1], &long, b"", &endless] {
        refused(uploads, "an upload of another size", &granted, body).await?;
        expect(uploads, &path, None).await?;
    }
    Ok(())
}

/// As long as announced, and yet another.
pub async fn another_content_is_refused_and_leaves_nothing(uploads: &impl Uploads) -> Kept {
    let path = program("tree");
    let granted = grant(uploads, &path).await?;
    refused(uploads, "an upload of other content", &granted, OTHER).await?;
    expect(uploads, &path, None).await?;
    same("the right one afterwards", &uploads.put(&granted, CONTENT).await, &true)?;
    expect(uploads, &path, Some(CONTENT)).await
}

/// A grant for one object writes no other: not of this build, not of another's.
pub async fn a_grant_is_for_its_path_alone(uploads: &impl Uploads) -> Kept {
    let path = program("tree");
    let granted = grant(uploads, &path).await?;
    let neighbour = program("trei");
    let stranger = ObjectPath { lease: lease_id(2), ..path.clone() };
    let (before, query) = granted.url.split_once('?').unwrap_or((&granted.url, ""));
    for (part, instead, other) in
        [("tree", "trei", &neighbour), (path.lease.as_str(), stranger.lease.as_str(), &stranger)]
    {
        let at = before.rfind(part).ok_or_else(|| Violation(format!("no {part} in {before}")))?;
        let moved = format!("{}{instead}{}?{query}", &before[..at], &before[at + part.len()..]);
        refused(uploads, "a grant of another path", &PresignedUpload { url: moved, ..granted.clone() }, CONTENT)
            .await?;
        expect(uploads, other, None).await?;
    }
    expect(uploads, &path, None).await
}

/// Any character of its query, left out or replaced.
pub async fn a_changed_grant_is_refused(uploads: &impl Uploads) -> Kept {
    let path = program("tree");
    let granted = grant(uploads, &path).await?;
    let query = granted.url.find('?').ok_or_else(|| Violation("a grant without a query".to_owned()))?;
    for at in query..granted.url.len() {
        let (before, after) = (&granted.url[..at], &granted.url[at + 1..]);
        let other = if granted.url.as_bytes()[at] == b'1' { '2' } else { '1' };
        for url in [format!("{before}{after}"), format!("{before}{other}{after}")] {
            refused(uploads, &url, &PresignedUpload { url: url.clone(), ..granted.clone() }, CONTENT).await?;
        }
    }
    let bare = granted.url[..query].to_owned();
    refused(uploads, "no query", &PresignedUpload { url: bare, ..granted.clone() }, CONTENT).await?;
    expect(uploads, &path, None).await
}

/// After its time it is worth nothing.
pub async fn a_grant_ends(uploads: &impl Uploads) -> Kept {
    let path = program("tree");
    let granted = grant(uploads, &path).await?;
    same("a late upload", &uploads.put_late(&granted, CONTENT).await, &false)?;
    expect(uploads, &path, None).await
}

/// A builder whose reply was lost uploads again, with the same grant or another; the service writes again.
pub async fn the_same_content_again_is_fine(uploads: &impl Uploads) -> Kept {
    let path = program("tree");
    for granted in [grant(uploads, &path).await?, grant(uploads, &path).await?] {
        for _ in 0..2 {
            same("the upload", &uploads.put(&granted, CONTENT).await, &true)?;
        }
    }
    uploads.store().write(&path, CONTENT.to_vec()).await?;
    expect(uploads, &path, Some(CONTENT)).await
}

/// An attempt to replace an object leaves it unchanged.
pub async fn an_object_never_changes(uploads: &impl Uploads) -> Kept {
    let path = program("tree");
    same("the upload", &uploads.put(&grant(uploads, &path).await?, CONTENT).await, &true)?;
    let other = uploads.store().grant(&path, OTHER.len() as u64, &sha256(OTHER_SHA256)).await?;
    refused(uploads, "other content under the same name", &other, OTHER).await?;
    expect(uploads, &path, Some(CONTENT)).await?;
    same("the service's own write", &uploads.store().write(&path, OTHER.to_vec()).await.is_err(), &true)?;
    expect(uploads, &path, Some(CONTENT)).await
}

/// In the quarantine, too, which lies elsewhere: neither an object of the build is written by its grant nor another's offer.
pub async fn what_is_offered_is_written_once_and_by_its_own_grant(uploads: &impl Uploads) -> Kept {
    let (store, own) = (uploads.store(), AttemptPrefix { key: key(1), lease: lease_id(1) });
    let offer = || ObjectName::Narinfo("0".repeat(32).parse().expect("base 32"));
    let (path, stranger) = (own.object(offer()), AttemptPrefix { lease: lease_id(2), ..own.clone() }.object(offer()));
    let granted = grant(uploads, &path).await?;
    for (part, instead) in
        [("quarantine", "builds"), ("quarantine", "cache"), (own.lease.as_str(), lease_id(2).as_str())]
    {
        let moved = PresignedUpload { url: granted.url.replacen(part, instead, 1), ..granted.clone() };
        refused(uploads, "a grant of another path", &moved, CONTENT).await?;
    }
    same("what a stranger has offered", &store.size(&stranger).await?, &None)?;
    same("the upload", &uploads.put(&granted, CONTENT).await, &true)?;
    let other = store.grant(&path, OTHER.len() as u64, &sha256(OTHER_SHA256)).await?;
    refused(uploads, "another offer of the same path", &other, OTHER).await?;
    same("the offer", &store.read(&path).await?, &Some(CONTENT.to_vec()))
}

/// No other object of the attempt, and no segment of another attempt or another build.
pub async fn the_segments_of_a_log_are_removed_and_nothing_else(uploads: &impl Uploads) -> Kept {
    let (store, program) = (uploads.store(), program("log"));
    let prefix = program.prefix();
    let other = AttemptPrefix { lease: lease_id(2), ..prefix.clone() };
    let another = AttemptPrefix { key: key(2), ..prefix.clone() };
    store.remove_segments(&prefix).await?;
    let segments = [1, 2, 999_999, 1_000_000].map(|number| prefix.object(ObjectName::Log(number)));
    let mut stay = [ObjectName::WholeLog, ObjectName::Manifest].map(|name| prefix.object(name)).to_vec();
    stay.push(program);
    stay.extend([&other, &another].map(|prefix| prefix.object(ObjectName::Log(1))));
    for path in segments.iter().chain(&stay) {
        store.write(path, CONTENT.to_vec()).await?;
    }
    // Twice: the first one's reply may have been lost.
    for _ in 0..2 {
        store.remove_segments(&prefix).await?;
        for path in &segments {
            expect(uploads, path, None).await?;
        }
        for path in &stay {
            expect(uploads, path, Some(CONTENT)).await?;
        }
    }
    Ok(())
}

/// No complete catalogue beside them, no log, and no file of another attempt or another build.
pub async fn the_partial_files_of_a_catalogue_are_removed_and_nothing_else(uploads: &impl Uploads) -> Kept {
    let store = uploads.store();
    let catalogue = |n| BuildKey { product: Product::Catalogue, ..key(n) };
    let prefix = AttemptPrefix { key: catalogue(1), lease: lease_id(1) };
    let other = AttemptPrefix { lease: lease_id(2), ..prefix.clone() };
    let system = BuildKey { system: System::Aarch64Linux, ..catalogue(1) };
    let another = AttemptPrefix { key: system, ..prefix.clone() };
    store.remove_partial(&prefix).await?;
    let partial = [ObjectName::PartialLookup, ObjectName::PartialDetails]
        .into_iter()
        .chain([1, 2, 999_999, 1_000_000].map(ObjectName::Checkpoint))
        .map(|name| prefix.object(name));
    let partial: Vec<_> = partial.collect();
    let beside = [ObjectName::Lookup, ObjectName::Details, ObjectName::Manifest, ObjectName::Log(1)];
    let mut stay = beside.map(|name| prefix.object(name)).to_vec();
    stay.extend([&other, &another].map(|prefix| prefix.object(ObjectName::Checkpoint(1))));
    for path in partial.iter().chain(&stay) {
        store.write(path, CONTENT.to_vec()).await?;
    }
    // Twice: the first one's reply may have been lost.
    for _ in 0..2 {
        store.remove_partial(&prefix).await?;
        for path in &partial {
            expect(uploads, path, None).await?;
        }
        for path in &stay {
            expect(uploads, path, Some(CONTENT)).await?;
        }
    }
    Ok(())
}

/// More than are removed at once.
pub async fn all_segments_of_a_long_log_are_removed(uploads: &impl Uploads) -> Kept {
    let (store, prefix) = (uploads.store(), AttemptPrefix { key: key(1), lease: lease_id(1) });
    let segments: Vec<_> = (1..=1001).map(|number| prefix.object(ObjectName::Log(number))).collect();
    for path in &segments {
        store.write(path, b"x".to_vec()).await?;
    }
    store.remove_segments(&prefix).await?;
    for path in &segments {
        same("a segment", &store.size(path).await?, &None)?;
    }
    Ok(())
}

/// What one attempt has stored is there for each other one, and stays when an attempt's objects are removed.
pub async fn a_blob_is_one_object_for_all_attempts(uploads: &impl Uploads) -> Kept {
    let (store, first) = (uploads.store(), program("tree").prefix());
    let other = AttemptPrefix { key: key(2), lease: lease_id(2) };
    let [blob, same_blob] = [&first, &other].map(|prefix| prefix.object(ObjectName::Blob(sha256(CONTENT_SHA256))));
    expect(uploads, &blob, None).await?;
    refused(uploads, "other content", &grant(uploads, &blob).await?, OTHER).await?;
    expect(uploads, &blob, None).await?;
    // Again, also by another attempt: it is the same content.
    for path in [&blob, &same_blob, &blob] {
        same("the upload", &uploads.put(&grant(uploads, path).await?, CONTENT).await, &true)?;
        expect(uploads, &blob, Some(CONTENT)).await?;
        expect(uploads, &same_blob, Some(CONTENT)).await?;
    }
    let content = Content { sha256: sha256(CONTENT_SHA256), size: CONTENT.len() as u64 };
    same("the content", &store.digest(&same_blob).await?.and_then(Fingerprint::content), &Some(content))?;
    store.write(&first.object(ObjectName::Manifest), CONTENT.to_vec()).await?;
    store.remove_prefix(&first).await?;
    same("homes", &store.prefixes(None, 9).await?, &Vec::new())?;
    expect(uploads, &same_blob, Some(CONTENT)).await
}

/// In pages of any size; one that is gone can be there again.
pub async fn blobs_are_listed_in_order_and_removed(uploads: &impl Uploads) -> Kept {
    let (store, prefix) = (uploads.store(), program("tree").prefix());
    same("nothing", &store.blobs(None, 9).await?, &Vec::new())?;
    store.write(&prefix.object(ObjectName::Manifest), CONTENT.to_vec()).await?;
    let mut all = Vec::new();
    for content in [CONTENT, OTHER, b"1", b"", b"22"] {
        let (sha256, bytes) = (Sha256::of(content), content.len() as u64);
        let path = prefix.object(ObjectName::Blob(sha256.clone()));
        let granted = store.grant(&path, bytes, &sha256).await?;
        same("the upload", &uploads.put(&granted, content).await, &true)?;
        all.push(HeldBlob { sha256, bytes });
    }
    all.sort_by(|a, b| a.sha256.cmp(&b.sha256));
    for limit in [1, 2, 5, 99] {
        let mut listed: Vec<HeldBlob> = Vec::new();
        loop {
            let page = store.blobs(listed.last().map(|blob| &blob.sha256), limit).await?;
            same("no more than was asked for", &(page.len() <= limit), &true)?;
            if page.is_empty() {
                break;
            }
            listed.extend(page);
        }
        same("every blob once", &listed, &all)?;
    }
    // Twice: the first one's reply may have been lost.
    for _ in 0..2 {
        store.remove_blob(&sha256(CONTENT_SHA256)).await?;
        expect(uploads, &prefix.object(ObjectName::Blob(sha256(CONTENT_SHA256))), None).await?;
        expect(uploads, &prefix.object(ObjectName::Blob(sha256(OTHER_SHA256))), Some(OTHER)).await?;
    }
    let again = prefix.object(ObjectName::Blob(sha256(CONTENT_SHA256)));
    same("the upload", &uploads.put(&grant(uploads, &again).await?, CONTENT).await, &true)?;
    expect(uploads, &again, Some(CONTENT)).await?;
    expect(uploads, &prefix.object(ObjectName::Manifest), Some(CONTENT)).await
}

/// Homes of several builds and attempts, in pages of any size: each once, with all that lies in it and nothing else.
pub async fn homes_are_told_with_what_lies_in_them(uploads: &impl Uploads) -> Kept {
    let store = uploads.store();
    same("nothing", &store.prefixes(None, 9).await?, &Vec::new())?;
    let mut all = Vec::new();
    for (build, lease) in [(1, 1), (1, 2), (2, 1), (10, 3), (3, 1)] {
        let prefix = AttemptPrefix { key: key(build), lease: lease_id(lease) };
        let bin = ObjectName::Program("tree".parse().map_err(|_| Violation("a name".to_owned()))?);
        let names = [ObjectName::Log(1), ObjectName::Log(2), bin, ObjectName::Manifest];
        let objects = 1 + all.len() % names.len();
        for name in names.into_iter().take(objects) {
            store.write(&prefix.object(name), CONTENT.to_vec()).await?;
        }
        let blobs: Vec<_> = (0..build % 3).map(|n| Sha256::of(&n.to_le_bytes())).collect();
        for blob in &blobs {
            store.write(&prefix.object(ObjectName::Reference(blob.clone())), Vec::new()).await?;
        }
        let (objects, bytes) = (objects as u64, objects as u64 * CONTENT.len() as u64);
        all.push(Held { prefix, objects: objects + blobs.len() as u64, bytes, blobs });
    }
    uploads.keep_nixpkgs(&key(1).rev).await;
    let by_home = |mut prefixes: Vec<Held>| {
        prefixes.iter_mut().for_each(|held| held.blobs.sort());
        prefixes.sort_by(|a, b| a.prefix.cmp(&b.prefix));
        prefixes
    };
    let all = by_home(all);
    for limit in [1, 2, 5, 99] {
        let mut told: Vec<Held> = Vec::new();
        loop {
            let page = store.prefixes(told.last().map(|held| &held.prefix), limit).await?;
            same("no more than was asked for", &(page.len() <= limit), &true)?;
            if page.is_empty() {
                break;
            }
            told.extend(page);
        }
        same("every home once", &by_home(told), &all)?;
    }
    // Where the last one that was told is gone meanwhile.
    let [first, rest @ ..] = &store.prefixes(None, 99).await?[..] else { return Err(Violation("no home".to_owned())) };
    store.remove_prefix(&first.prefix).await?;
    same("what is behind it", &store.prefixes(Some(&first.prefix), 99).await?, &rest.to_vec())
}

/// More than is removed at once, of every kind; a home of the same build stays, and one of another.
pub async fn a_home_is_removed_and_no_other(uploads: &impl Uploads) -> Kept {
    let (store, program) = (uploads.store(), program("tree"));
    let prefix = program.prefix();
    let others =
        [AttemptPrefix { lease: lease_id(2), ..prefix.clone() }, AttemptPrefix { key: key(11), ..prefix.clone() }];
    let names = [ObjectName::Manifest, ObjectName::WholeLog, ObjectName::Lookup, ObjectName::Details];
    let names: Vec<_> = names.into_iter().chain((1..=1001).map(ObjectName::Log)).chain([program.name]).collect();
    for name in &names {
        store.write(&prefix.object(name.clone()), b"x".to_vec()).await?;
    }
    for other in &others {
        store.write(&other.object(ObjectName::Manifest), CONTENT.to_vec()).await?;
    }
    // Twice: the first one's reply may have been lost.
    for _ in 0..2 {
        store.remove_prefix(&prefix).await?;
        for name in &names {
            same("an object", &store.size(&prefix.object(name.clone())).await?, &None)?;
        }
        for other in &others {
            expect(uploads, &other.object(ObjectName::Manifest), Some(CONTENT)).await?;
        }
    }
    let mut left: Vec<_> = store.prefixes(None, 9).await?.into_iter().map(|held| held.prefix).collect();
    left.sort();
    same("homes", &left, &others.to_vec())?;
    // What is not there can be there again.
    store.write(&prefix.object(ObjectName::Manifest), CONTENT.to_vec()).await?;
    expect(uploads, &prefix.object(ObjectName::Manifest), Some(CONTENT)).await
}

/// Since when, is told by a clock like everybody's.
pub async fn a_nixpkgs_is_told_and_removed(uploads: &impl Uploads) -> Kept {
    let (store, revs) = (uploads.store(), ["a", "b"].map(|digit| digit.repeat(40)));
    same("nothing", &store.kept_nixpkgs().await?, &Vec::new())?;
    let revs = revs.map(|rev| rev.parse::<Rev>().expect("hex"));
    for rev in &revs {
        uploads.keep_nixpkgs(rev).await;
    }
    let kept = store.kept_nixpkgs().await?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis();
    let now = Timestamp(u64::try_from(now).expect("a time"));
    for kept in &kept {
        let seconds = (now - kept.since).as_secs() + (kept.since - now).as_secs();
        same("within an hour", &(seconds < 3600), &true)?;
    }
    let told = |kept: Vec<KeptNixpkgs>| kept.into_iter().map(|kept| kept.rev).collect::<Vec<_>>();
    same("both", &told(kept), &revs.to_vec())?;
    for _ in 0..2 {
        store.remove_nixpkgs(&revs[0]).await?;
        same("the other one", &told(store.kept_nixpkgs().await?), &revs[1..].to_vec())?;
    }
    Ok(())
}

/// Every character that a program's name may have.
pub async fn a_program_may_have_an_odd_name(uploads: &impl Uploads) -> Kept {
    for name in ["[", "[[", "c++", "a'b", "x@1:2,3=4~5", "_.-]", &"n".repeat(128)] {
        let path = program(name);
        same(name, &uploads.put(&grant(uploads, &path).await?, CONTENT).await, &true)?;
        expect(uploads, &path, Some(CONTENT)).await?;
    }
    Ok(())
}

/// It is kept by its content, so the same one again is one, and two different ones are two.
pub async fn a_database_of_programs_is_listed_and_removed(uploads: &impl Uploads) -> Kept {
    let store = uploads.store();
    same("nothing", &store.kept_programs().await?, &Vec::new())?;
    // It lies beside the tarballs, and is not taken for one.
    let rev = "a".repeat(40).parse::<Rev>().expect("hex");
    uploads.keep_nixpkgs(&rev).await;
    let mut all = Vec::new();
    for bytes in [&b"one"[..], b"another", b"one"] {
        let content = uploads.keep_programs(bytes).await;
        same("its content", &content, &Content { sha256: Sha256::of(bytes), size: bytes.len() as u64 })?;
        let url = store.programs(&content.sha256).await?;
        same("its URL", &url.contains(&format!("{}.sqlite", content.sha256)), &true)?;
        all.push(content.sha256);
    }
    let told = async || {
        let mut told: Vec<_> = store.kept_programs().await?.into_iter().map(|kept| kept.sha256).collect();
        told.sort();
        Ok::<_, Violation>(told)
    };
    all.sort();
    all.dedup();
    same("both", &told().await?, &all)?;
    for _ in 0..2 {
        store.remove_programs(&all[0]).await?;
        same("the other one", &told().await?, &all[1..].to_vec())?;
    }
    same("the tarball", &store.kept_nixpkgs().await?.len(), &1)
}
