//! The rows in one DynamoDB table. A swap is a put with the condition that the version is unchanged; several swaps are
//! one transaction of such puts. This optimistic concurrency is all that the table knows of the rules.

use std::{collections::BTreeSet, time::Duration};

use aws_sdk_dynamodb::{
    Client,
    config::{Builder, retry::RetryConfig, timeout::TimeoutConfig},
    error::SdkError,
    operation::{delete_item::DeleteItemError, put_item::PutItemError, transact_write_items::TransactWriteItemsError},
    types::{AttributeValue, Put, TransactWriteItem},
};
use binplz_core::{
    build::protocol::Progress,
    id::key::{LeaseId, hex},
    nixpkgs::{pins::Pinned, served::ServedKey},
    ports::{Cursor, Ledger, NotCommitted, Read, Scanned, Unavailable},
    row::{Listed, Row, RowKey, SWAPS_MAX, StatusIndex, Swap, Version},
};

use crate::{
    account::Account,
    config::{ConfigError, Settings},
    item::{self, AT, Item, PK, SHELF, SHELVES, Unreadable, VERSION},
    unavailable,
};

const ROLE: &str = "ledger";
/// A function has 10 s to start; warming up takes at most this.
const WARM_UP: Duration = Duration::from_secs(2);

/// The table.
#[derive(Clone, Debug)]
pub struct DynamoLedger {
    pub(crate) dynamo: Client,
    pub(crate) table: String,
}

impl DynamoLedger {
    /// The table that the settings name.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn open(account: &Account, settings: &Settings) -> Result<DynamoLedger, ConfigError> {
        Ok(DynamoLedger { dynamo: Client::new(&account.sdk), table: settings.need("BINPLZ_TABLE")? })
    }

    /// Reads a row as a hit does, present or not, once.
    pub(crate) async fn warm(&self) -> Result<(), Unavailable> {
        let get = self.dynamo.get_item().table_name(&self.table).key(PK, item::pk(&RowKey::Limits));
        let soon = TimeoutConfig::builder().operation_timeout(WARM_UP).build();
        let once = Builder::new().retry_config(RetryConfig::disabled()).timeout_config(soon);
        get.customize().config_override(once).send().await.map(drop).map_err(|error| unavailable(ROLE, &error))
    }

    async fn put(&self, swap: &Swap) -> Result<(), NotCommitted> {
        let Some(item) = item::write(swap).map_err(broken)? else { return Err(NotCommitted::Conflict) };
        let Condition { says, of, values } = Condition::of(swap);
        let put = self.dynamo.put_item().table_name(&self.table).set_item(Some(item)).condition_expression(says);
        let put = put.expression_attribute_names(Condition::NAME, of).set_expression_attribute_values(values);
        put.send().await.map(drop).map_err(|error| match error.as_service_error() {
            Some(
                PutItemError::ConditionalCheckFailedException(_)
                // A transaction on the row was under way: this put wrote nothing.
                | PutItemError::TransactionConflictException(_),
            ) => NotCommitted::Conflict,
            _ => unavailable(ROLE, &error).into(),
        })
    }

    async fn transact(&self, swaps: &[Swap]) -> Result<(), NotCommitted> {
        // One token per commit, however often the client sends it: after a lost reply, a commit does not conflict with
        // itself. Another call with the same swaps has another token, and does conflict.
        let mut call = self.dynamo.transact_write_items().client_request_token(hex(&binplz_clock::random::<16>()));
        for swap in swaps {
            let Some(item) = item::write(swap).map_err(broken)? else { return Err(NotCommitted::Conflict) };
            let Condition { says, of, values } = Condition::of(swap);
            let put = Put::builder().table_name(&self.table).set_item(Some(item)).condition_expression(says);
            let put = put.expression_attribute_names(Condition::NAME, of).set_expression_attribute_values(values);
            call = call.transact_items(TransactWriteItem::builder().put(put.build().map_err(broken)?).build());
        }
        call.send().await.map(drop).map_err(not_transacted)
    }

    /// Up to `limit` entries of an index partition, in order from behind `after`, or backwards from the end.
    async fn query<T>(
        &self,
        status_index: AttributeValue,
        from: Begin,
        limit: usize,
        read: impl Fn(&Item) -> Result<T, Unreadable>,
    ) -> Result<Vec<T>, Unavailable> {
        let query = self.dynamo.query().table_name(&self.table).index_name(SHELVES);
        let query =
            query.expression_attribute_names("#shelf", SHELF).expression_attribute_values(":shelf", status_index);
        let query = match from {
            Begin::Start => query.key_condition_expression("#shelf = :shelf"),
            Begin::End => query.key_condition_expression("#shelf = :shelf").scan_index_forward(false),
            Begin::Behind(after) => query
                .key_condition_expression("#shelf = :shelf AND #at > :after")
                .expression_attribute_names("#at", AT)
                .expression_attribute_values(":after", after),
        };
        let mut listed = Vec::new();
        let mut next: Option<Item> = None;
        // A page may be shorter than the limit without being the last.
        while listed.len() < limit {
            let page = i32::try_from(limit - listed.len()).unwrap_or(i32::MAX);
            let answer = query.clone().limit(page).set_exclusive_start_key(next).send().await;
            let answer = answer.map_err(|error| unavailable(ROLE, &error))?;
            for item in answer.items() {
                listed.push(read(item).map_err(broken)?);
            }
            next = answer.last_evaluated_key;
            if next.is_none() {
                break;
            }
        }
        Ok(listed)
    }
}

/// The start of a list.
enum Begin {
    /// The first entry.
    Start,
    /// The entry behind this sort key.
    Behind(AttributeValue),
    /// The last entry, going backwards.
    End,
}

impl Begin {
    fn after(place: Option<AttributeValue>) -> Begin {
        place.map_or(Begin::Start, Begin::Behind)
    }
}

/// The condition of a put: the version that was seen is still there.
struct Condition {
    says: &'static str,
    of: &'static str,
    values: Option<Item>,
}

impl Condition {
    const NAME: &str = "#of";

    fn of(swap: &Swap) -> Condition {
        match swap.seen {
            Version(0) => Condition { says: "attribute_not_exists(#of)", of: PK, values: None },
            Version(seen) => {
                let seen = (":seen".to_owned(), AttributeValue::N(seen.to_string()));
                Condition { says: "#of = :seen", of: VERSION, values: Some(Item::from([seen])) }
            }
        }
    }
}

/// A cancelled transaction gives a reason for each of its items. If another writer wrote one, or was writing it, this
/// commit conflicts; any other reason is a failure of the table.
fn not_transacted(error: SdkError<TransactWriteItemsError>) -> NotCommitted {
    if let Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) = error.as_service_error() {
        let mut reasons = cancelled.cancellation_reasons().iter().filter_map(|reason| reason.code());
        if reasons.any(|code| matches!(code, "ConditionalCheckFailed" | "TransactionConflict")) {
            return NotCommitted::Conflict;
        }
    }
    unavailable(ROLE, &error).into()
}

fn broken(cause: impl ToString) -> Unavailable {
    Unavailable::new(ROLE, cause)
}

impl Ledger for DynamoLedger {
    async fn load(&self, key: &RowKey, read: Read) -> Result<Option<(Row, Version)>, Unavailable> {
        let get = self.dynamo.get_item().table_name(&self.table).key(PK, item::pk(key));
        let found = get.consistent_read(read == Read::Consistent).send().await;
        let found = found.map_err(|error| unavailable(ROLE, &error))?;
        found.item().map(|item| item::read(key, item)).transpose().map_err(broken)
    }

    async fn commit(&self, swaps: Vec<Swap>) -> Result<(), NotCommitted> {
        let rows: BTreeSet<_> = swaps.iter().map(|swap| swap.row.key()).collect();
        match swaps.as_slice() {
            [swap] => self.put(swap).await,
            several if (1..=SWAPS_MAX).contains(&several.len()) && rows.len() == several.len() => {
                self.transact(several).await
            }
            _ => Err(broken("a commit is one to four swaps of different rows").into()),
        }
    }

    async fn list(
        &self,
        status_index: StatusIndex,
        after: Option<&Listed>,
        limit: usize,
    ) -> Result<Vec<Listed>, Unavailable> {
        self.query(item::status_index(status_index), Begin::after(after.map(item::at)), limit, item::read_listed).await
    }

    async fn latest(&self, status_index: StatusIndex, limit: usize) -> Result<Vec<Listed>, Unavailable> {
        self.query(item::status_index(status_index), Begin::End, limit, item::read_listed).await
    }

    async fn list_served(
        &self,
        pinned: &Pinned,
        after: Option<&ServedKey>,
        limit: usize,
    ) -> Result<Vec<ServedKey>, Unavailable> {
        let from = Begin::after(after.map(item::served_at));
        self.query(item::served_shelf(pinned), from, limit, item::read_served).await
    }

    async fn scan(&self, after: Option<&Cursor>, limit: usize) -> Result<Scanned, Unavailable> {
        let start = after.map(|Cursor(pk)| Item::from([(PK.to_owned(), AttributeValue::S(pk.clone()))]));
        let scan = self.dynamo.scan().table_name(&self.table).consistent_read(true).set_exclusive_start_key(start);
        // An item without a version is not a row.
        let rows = scan.filter_expression("attribute_exists(#v)").expression_attribute_names("#v", VERSION);
        let page = rows.limit(i32::try_from(limit).unwrap_or(i32::MAX)).send().await;
        let page = page.map_err(|error| unavailable(ROLE, &error))?;
        let read = |found: &Item| item::read(&item::row_key(found)?, found);
        let rows = page.items().iter().map(read).collect::<Result<_, _>>().map_err(broken)?;
        let next = page.last_evaluated_key().and_then(|last| last.get(PK)?.as_s().ok());
        Ok(Scanned { rows, next: next.cloned().map(Cursor) })
    }

    async fn remove(&self, key: &RowKey, seen: Version) -> Result<(), NotCommitted> {
        let delete = self.dynamo.delete_item().table_name(&self.table).key(PK, item::pk(key));
        let delete = delete.condition_expression("attribute_not_exists(#pk) OR #v = :seen");
        let delete = delete.expression_attribute_names("#pk", PK).expression_attribute_names("#v", VERSION);
        let delete = delete.expression_attribute_values(":seen", AttributeValue::N(seen.0.to_string()));
        delete.send().await.map(drop).map_err(|error| match error.as_service_error() {
            Some(
                DeleteItemError::ConditionalCheckFailedException(_) | DeleteItemError::TransactionConflictException(_),
            ) => NotCommitted::Conflict,
            _ => unavailable(ROLE, &error).into(),
        })
    }

    async fn put_progress(&self, lease: &LeaseId, progress: &Progress) -> Result<(), Unavailable> {
        let item = item::write_progress(lease, progress, binplz_clock::now()).map_err(broken)?;
        let put = self.dynamo.put_item().table_name(&self.table).set_item(Some(item)).send().await;
        put.map(drop).map_err(|error| unavailable(ROLE, &error))
    }

    async fn progress(&self, lease: &LeaseId) -> Result<Option<Progress>, Unavailable> {
        let get = self.dynamo.get_item().table_name(&self.table).key(PK, item::progress_pk(lease)).send().await;
        let found = get.map_err(|error| unavailable(ROLE, &error))?;
        found.item().map(item::read_progress).transpose().map_err(broken)
    }

    async fn remove_progress(&self, lease: &LeaseId) -> Result<(), Unavailable> {
        let delete = self.dynamo.delete_item().table_name(&self.table).key(PK, item::progress_pk(lease)).send().await;
        delete.map(drop).map_err(|error| unavailable(ROLE, &error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_dynamodb::types::{CancellationReason, error::TransactionCanceledException};
    use aws_smithy_runtime_api::http::{Response, StatusCode};
    use aws_smithy_types::body::SdkBody;

    fn cancelled(codes: &[&str]) -> NotCommitted {
        let reasons = codes.iter().map(|code| CancellationReason::builder().code(*code).build()).collect();
        let error = TransactionCanceledException::builder().set_cancellation_reasons(Some(reasons)).build();
        let response = Response::new(StatusCode::try_from(400).expect("a status"), SdkBody::empty());
        not_transacted(SdkError::service_error(TransactWriteItemsError::TransactionCanceledException(error), response))
    }

    #[test]
    fn a_cancelled_transaction_is_a_conflict_only_where_somebody_else_wrote() {
        for codes in [
            &["None", "ConditionalCheckFailed"][..],
            &["TransactionConflict"],
            &["ThrottlingError", "TransactionConflict"],
        ] {
            assert_eq!(cancelled(codes), NotCommitted::Conflict, "{codes:?}");
        }
        for codes in [&["ThrottlingError", "None"][..], &["ProvisionedThroughputExceeded"], &["ValidationError"], &[]] {
            assert!(matches!(cancelled(codes), NotCommitted::Unavailable(_)), "{codes:?}");
        }
        let lost = not_transacted(SdkError::timeout_error("no answer"));
        assert!(matches!(lost, NotCommitted::Unavailable(_)));
    }
}
