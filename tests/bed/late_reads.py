"""Reads that are not consistent, one version late: what DynamoDB may answer, and hardly ever does.

An item is answered as it was before its last write, until it is written again. An index is late too, and catches up when it has been
asked: an entry shows its item's last version only from the second query of its partition on. (One that never caught up would be no
index: what is written once could never be found.)
"""

import contextlib
import copy

from mends import mend


def mend_dynamodb(dynamodb, scenarios):
    # (table, partition key, sort key) → the item before its last write; None: there was none.
    before = {}
    # Those of its keys and partitions that a query has asked for since.
    caught_up = set()

    def is_late(name):
        scenario = scenarios.named_in(name)
        return scenario is not None and scenario.late_reads

    def remembered(write):
        def written(table, pk_val, sk_val, *item):
            place = (table["TableName"], pk_val, sk_val)
            old = write(table, pk_val, sk_val, *item)
            before[place] = copy.deepcopy(old)
            caught_up.difference_update({known for known in caught_up if known[0] == place})
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
            late = [place for place in places_of(name) if (place, asked) not in caught_up]
            caught_up.update((place, asked) for place in late)
            with as_it_was(dynamodb._tables[name], late):
                return query(data)

        return queried

    mend(dynamodb, "_set_item", ["table", "pk_val", "sk_val", "item"], remembered)
    mend(dynamodb, "_remove_item", ["table", "pk_val", "sk_val"], remembered)
    mend(dynamodb, "_get_item", ["data"], late_get)
    mend(dynamodb, "_query", ["data"], late_query)
