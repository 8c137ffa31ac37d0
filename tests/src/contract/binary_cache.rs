//! The quarantine, and the builders' cache behind it: what is offered is told as it is, and what was let in stays.

use std::io::Write;

use binplz_core::{
    id::key::{Sha256, StoreHash},
    objects::{
        artifact::{AttemptPrefix, CacheName, ObjectName},
        content::Content,
        stored::Measured,
    },
    ports::{BinaryCache, Collect, Inspect, Intake},
};
use binplz_nar::Packer;

use super::{
    Kept,
    rows::{key, lease_id},
    same,
};

/// The store of builders' uploads, and what promotes them.
pub trait Promotes {
    /// Where builders' uploads come to.
    fn store(&self) -> &(impl Intake + Collect);

    /// The cache, and the quarantine.
    fn binary_cache(&self) -> &impl BinaryCache;

    /// A file of the cache.
    fn cached(&self, name: &CacheName) -> impl Future<Output = Option<Vec<u8>>>;
}

fn prefix(n: u32) -> AttemptPrefix {
    AttemptPrefix { key: key(n), lease: lease_id(n) }
}

fn hash(letter: char) -> StoreHash {
    String::from_iter([letter; 32]).parse().expect("base 32")
}

/// A file, with what it is and what it unpacks to.
fn packed(content: &[u8]) -> (Vec<u8>, Content, Content) {
    let mut file = Vec::new();
    let mut packer = Packer::new(&mut file, u64::MAX);
    packer.write_all(content).expect("memory");
    let (packed, nar) = packer.finish().expect("memory");
    (file, packed, nar)
}

async fn offer(store: &impl Intake, prefix: &AttemptPrefix, name: ObjectName, content: &[u8]) -> Kept {
    Ok(store.write(&prefix.object(name), content.to_vec()).await?)
}

/// Offers are found by their narinfos, and the bytes of all offered objects are counted.
pub async fn what_an_attempt_offers_is_told_and_nothing_of_another(it: &impl Promotes) -> Kept {
    let (binary_cache, store, prefix, other) = (it.binary_cache(), it.store(), prefix(1), prefix(2));
    same("nothing", &binary_cache.offers(&prefix).await?, &Vec::new())?;
    same("no bytes", &(store.offered_bytes(&prefix).await?, store.in_quarantine().await?), &(0, 0))?;
    let (file, packed, _) = packed(b"content");
    offer(store, &prefix, ObjectName::Plan, b"[]").await?;
    offer(store, &prefix, ObjectName::Nar(packed.sha256), &file).await?;
    offer(store, &prefix, ObjectName::Narinfo(hash('1')), b"one").await?;
    offer(store, &prefix, ObjectName::Narinfo(hash('2')), b"two").await?;
    offer(store, &other, ObjectName::Narinfo(hash('3')), b"three").await?;
    // What people are served is no offer.
    offer(store, &prefix, ObjectName::Manifest, b"{}").await?;
    for mut offers in [binary_cache.offers(&prefix).await?, store.offered_paths(&prefix).await?] {
        offers.sort();
        same("offers", &offers, &vec![hash('1'), hash('2')])?;
    }
    let bytes = 2 + packed.size + 3 + 3;
    same("bytes", &store.offered_bytes(&prefix).await?, &bytes)?;
    same("all bytes", &store.in_quarantine().await?, &(bytes + 5))?;
    same("its text", &binary_cache.read(&prefix, ObjectName::Narinfo(hash('2'))).await?, &Some(b"two".to_vec()))?;
    same("another's", &binary_cache.read(&prefix, ObjectName::Narinfo(hash('3'))).await?, &None)
}

/// More of them than one page of a list has.
pub async fn all_of_many_offers_are_told(it: &impl Promotes) -> Kept {
    let prefix = prefix(1);
    let name = |n: usize| format!("{n:032}").parse::<StoreHash>().expect("digits");
    for n in 0..1001 {
        offer(it.store(), &prefix, ObjectName::Narinfo(name(n)), b"x").await?;
    }
    let mut offers = it.binary_cache().offers(&prefix).await?;
    offers.sort();
    same("offers", &offers, &(0..1001).map(name).collect())?;
    same("bytes", &it.store().offered_bytes(&prefix).await?, &1001)?;
    it.binary_cache().clear(&prefix).await?;
    same("none", &it.binary_cache().offers(&prefix).await?, &Vec::new())
}

/// A file's measure does not depend on its name.
pub async fn a_file_is_measured_to_its_end_and_no_further_than_it_may(it: &impl Promotes) -> Kept {
    // Larger than what is read at a time.
    let content: Vec<u8> = (0..3_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let (binary_cache, prefix, (file, packed, nar)) = (it.binary_cache(), prefix(1), packed(&content));
    same("no file", &binary_cache.measure(&prefix, &packed.sha256, 1).await?, &None)?;
    let called: Sha256 = "a".repeat(64).parse().expect("hex");
    offer(it.store(), &prefix, ObjectName::Nar(called.clone()), &file).await?;
    let all = Measured { packed: packed.clone(), unpacked: Some(nar.clone()) };
    same("all", &binary_cache.measure(&prefix, &called, nar.size).await?, &Some(all))?;
    let too_large = Measured { packed, unpacked: None };
    same("too large", &binary_cache.measure(&prefix, &called, nar.size - 1).await?, &Some(too_large))
}

/// A second write changes nothing.
pub async fn what_was_let_in_is_there_and_stays(it: &impl Promotes) -> Kept {
    let (binary_cache, prefix, other) = (it.binary_cache(), prefix(1), prefix(2));
    let (file, packed, _) = packed(b"content");
    let (nar, narinfo) = (CacheName::Nar(packed.sha256.clone()), CacheName::Narinfo(hash('1')));
    for prefix in [&prefix, &other] {
        offer(it.store(), prefix, ObjectName::Nar(packed.sha256.clone()), &file).await?;
        binary_cache.keep(prefix, &packed.sha256).await?;
    }
    same("it has it", &binary_cache.has(&hash('1')).await?, &false)?;
    binary_cache.publish(&hash('1'), "one".to_owned()).await?;
    binary_cache.publish(&hash('1'), "another".to_owned()).await?;
    same("it has it", &binary_cache.has(&hash('1')).await?, &true)?;
    binary_cache.clear(&prefix).await?;
    same("the file", &it.cached(&nar).await, &Some(file.clone()))?;
    same("the text", &it.cached(&narinfo).await, &Some(b"one".to_vec()))?;
    let mut files = it.store().cached().await?;
    files.retain(|file| file.name != CacheName::Info);
    files.sort_by_key(|file| file.name.to_string());
    let told: Vec<_> = files.into_iter().map(|file| (file.name, file.bytes)).collect();
    same("files", &told, &vec![(narinfo.clone(), 3), (nar.clone(), packed.size)])?;
    // Twice: the first one's reply may have been lost.
    for _ in 0..2 {
        it.store().remove_cached(&narinfo).await?;
        same("it has it", &binary_cache.has(&hash('1')).await?, &false)?;
        same("the file stays", &it.cached(&nar).await, &Some(file.clone()))?;
    }
    it.store().remove_cached(&nar).await?;
    same("the file", &it.cached(&nar).await, &None)
}

/// Clearing an attempt that offered nothing succeeds.
pub async fn what_is_cleared_is_one_attempts_and_no_others(it: &impl Promotes) -> Kept {
    let (binary_cache, prefix, other) = (it.binary_cache(), prefix(1), prefix(2));
    let (file, packed, _) = packed(b"content");
    for prefix in [&prefix, &other] {
        offer(it.store(), prefix, ObjectName::Plan, b"[]").await?;
        offer(it.store(), prefix, ObjectName::Nar(packed.sha256.clone()), &file).await?;
        offer(it.store(), prefix, ObjectName::Narinfo(hash('1')), b"one").await?;
        offer(it.store(), prefix, ObjectName::Manifest, b"{}").await?;
    }
    for _ in 0..2 {
        binary_cache.clear(&prefix).await?;
        same("bytes", &it.store().offered_bytes(&prefix).await?, &0)?;
        same("the plan", &binary_cache.read(&prefix, ObjectName::Plan).await?, &None)?;
        same("the other's", &binary_cache.offers(&other).await?, &vec![hash('1')])?;
        same("what is served", &it.store().size(&prefix.object(ObjectName::Manifest)).await?, &Some(2))?;
    }
    Ok(())
}
