"""Reads that are not consistent, one version late: what DynamoDB may answer, and hardly ever does.

An item is answered as it was before its last write, until it is written again. An index is late too, and catches up: a query of a
partition sees an item's last version from the second query on. (In one that never caught up, what is written once could never be found.)
"""

import contextlib
import contextvars
import copy

from mends import mend

# The function that makes the request.
asker = contextvars.ContextVar("asker", default=None)


def mend_dynamodb(dynamodb, scenarios):
    # (table, partition key, sort key) → the item before its last write; None: there was none.
    before = {}
    # The same keys → who has queried since for which partition.
    caught_up = {}

    def is_late(name):
        scenario = scenarios.named_in(name)
        return scenario is not None and scenario.late_reads

    def remembered(write):
        def written(table, pk_val, sk_val, *item):
            place = (table["TableName"], pk_val, sk_val)
            old = write(table, pk_val, sk_val, *item)
            before[place] = copy.deepcopy(old)
            caught_up[place] = set()
            return old

        return written

    @contextlib.contextmanager
    def as_it_was(table, places):
        """The table, with what lay in these places before."""
        items, members = table["items"], table.pop(dynamodb._INDEX_MEMBERS, None)
        table["items"] = past = {pk: dict(bucket) for pk, bucket in items.items()}
        for place in places:
            _, pk_val, sk_val = place
            past.setdefault(pk_val, {}).pop(sk_val, None)
            if before[place] is not None:
                past[pk_val][sk_val] = before[place]
        try:
            yield
        finally:
            table["items"] = items
            table.pop(dynamodb._INDEX_MEMBERS, None)
            if members is not None:
                table[dynamodb._INDEX_MEMBERS] = members

    def places_of(name):
        return [place for place in before if place[0] == name]

    def late_get(get):
        def got(data):
            name = dynamodb._normalize_table_name(data["TableName"])
            if data.get("ConsistentRead") or not is_late(name):
                return get(data)
            with as_it_was(dynamodb._tables[name], places_of(name)):
                return get(data)

        return got

    def late_query(query):
        def queried(data):
            name = dynamodb._normalize_table_name(data["TableName"])
            if data.get("ConsistentRead") or not is_late(name):
                return query(data)
            [partition, _, _] = dynamodb._resolve_index_keys(dynamodb._tables[name], data.get("IndexName"))
            values, names = data["ExpressionAttributeValues"], data.get("ExpressionAttributeNames", {})
            asked = dynamodb._extract_pk_from_condition(data["KeyConditionExpression"], values, names, partition)
            query_of = (asker.get(), asked)
            late = [place for place in places_of(name) if query_of not in caught_up[place]]
            for place in late:
                caught_up[place].add(query_of)
            with as_it_was(dynamodb._tables[name], late):
                return query(data)

        return queried

    mend(dynamodb, "_set_item", ["table", "pk_val", "sk_val", "item"], remembered)
    mend(dynamodb, "_remove_item", ["table", "pk_val", "sk_val"], remembered)
    mend(dynamodb, "_get_item", ["data"], late_get)
    mend(dynamodb, "_query", ["data"], late_query)
