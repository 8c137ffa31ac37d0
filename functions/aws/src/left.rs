//! What an attempt has left in the bucket, for the reaper: by signed requests, as it reads objects, since the whole S3
//! client would be the largest part of that function.

use binplz_core::{
    objects::artifact::{ADDITIONS, AttemptPrefix, BLOBS},
    ports::Unavailable,
};

use crate::objects::{ROLE, S3Objects, URL_LIFE};

/// One page of S3's list.
#[derive(Debug, Default, PartialEq, Eq)]
struct Page {
    bytes: u64,
    /// The blobs that the attempt was the first to upload.
    added: Vec<String>,
    next: Option<String>,
}

impl S3Objects {
    /// Bytes of an attempt's objects, of its offers, and of the blobs that it was the first to upload.
    pub(crate) async fn left(&self, prefix: &AttemptPrefix) -> Result<u64, Unavailable> {
        let (mut bytes, added) = self.below(&prefix.objects()).await?;
        bytes += self.below(&prefix.quarantine()).await?.0;
        for sha256 in added {
            bytes += self.below(&format!("{BLOBS}{sha256}")).await?.0;
        }
        Ok(bytes)
    }

    /// The bytes of all objects whose keys begin so.
    async fn below(&self, prefix: &str) -> Result<(u64, Vec<String>), Unavailable> {
        let (mut bytes, mut added, mut token) = (0, Vec::new(), None);
        loop {
            let mut query = vec![("list-type", "2"), ("prefix", prefix)];
            query.extend(token.as_deref().map(|token| ("continuation-token", token)));
            let url = self.signed("GET", "", &query, &[], URL_LIFE)?;
            let xml = self.at(url).await?.ok_or_else(|| Unavailable::new(ROLE, "the bucket does not exist"))?;
            let page = Page::read(&String::from_utf8_lossy(&xml));
            bytes += page.bytes;
            added.extend(page.added);
            token = page.next;
            if token.is_none() {
                return Ok((bytes, added));
            }
        }
    }
}

impl Page {
    /// Reads what is needed of `ListObjectsV2`'s XML: no key that is looked at has a character which XML escapes.
    fn read(xml: &str) -> Page {
        let texts = |name: &'static str| {
            let parts = xml.split(&format!("<{name}>") as &str).skip(1).collect::<Vec<_>>();
            parts.into_iter().filter_map(|part| part.split_once('<')).map(|(text, _)| text)
        };
        let added = texts("Key").filter_map(|key| Some(key.rsplit_once(ADDITIONS)?.1.to_owned()));
        Page {
            bytes: texts("Size").filter_map(|size| size.parse::<u64>().ok()).sum(),
            added: added.collect(),
            next: texts("NextContinuationToken").next().map(str::to_owned),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_a_list_is_read() {
        let object = |key: &str, size: u64| {
            format!("<Contents><Key>{key}</Key><LastModified>x</LastModified><Size>{size}</Size></Contents>")
        };
        let sha256 = "a".repeat(64);
        let objects = [object("builds/x/log.gz", 7), object(&format!("builds/x/new/{sha256}"), 0), object("y", 5)];
        let xml = format!(
            "<?xml version=\"1.0\"?><ListBucketResult><Name>b</Name><IsTruncated>true</IsTruncated>{}\
             <NextContinuationToken>1ueGcxLPRx1Tr/XYExHnhbYLgveDs2J/wm36Hy4vbOwM=</NextContinuationToken></ListBucketResult>",
            objects.concat()
        );
        let next = Some("1ueGcxLPRx1Tr/XYExHnhbYLgveDs2J/wm36Hy4vbOwM=".to_owned());
        assert_eq!(Page::read(&xml), Page { bytes: 12, added: vec![sha256], next });
        assert_eq!(Page::read("<ListBucketResult></ListBucketResult>"), Page::default());
    }
}
