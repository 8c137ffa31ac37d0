"""IAM's rules for the policies of a role, a second time and without ministack's code: its evaluator decides on the bed, and this one
must agree on every call that a role makes, or the call fails and the bed says why. The rules: https://docs.aws.amazon.com/IAM, "Policy
evaluation logic" and "IAM JSON policy elements". What no policy of the template uses is an error, not a guess.

With BINPLZ_BED_CALLS, a file, what was granted and what was used is added to it when the bed ends, a line of JSON for each role and action:

    $BINPLZ_BED_PYTHON tests/bed/second_opinion.py FILE    fails if a role was granted an action that no call used, but those in UNSEEN
"""

import json
import os
import sys
from pathlib import Path

# Actions that AWS's own services take with a role and the bed's do not, or not by a request.
UNSEEN = {
    "logs:CreateLogStream": "Lambda and Fargate write logs",
    "logs:PutLogEvents": "Lambda and Fargate write logs",
    "sqs:ReceiveMessage": "Lambda reads a queue",
    "sqs:DeleteMessage": "Lambda reads a queue",
    "sqs:GetQueueAttributes": "Lambda reads a queue",
    "dynamodb:DescribeStream": "Lambda reads a stream",
    "dynamodb:GetRecords": "Lambda reads a stream",
    "dynamodb:GetShardIterator": "Lambda reads a stream",
    "dynamodb:ListStreams": "Lambda reads a stream",
    "s3:ListBucket": "with it, S3 answers 404 for a missing object",
    "cloudwatch:GetMetricStatistics": "the bed authorises no request in CBOR",
    "ecr:GetAuthorizationToken": "Fargate pulls the image",
    "ecr:BatchCheckLayerAvailability": "Fargate pulls the image",
    "ecr:BatchGetImage": "Fargate pulls the image",
    "ecr:GetDownloadUrlForLayer": "Fargate pulls the image",
}


def listed(value):
    return value if isinstance(value, list) else [value]


def like(pattern, text):
    """Whether the text is of a pattern: `*` stands for any characters, `?` for one."""
    # The positions of the pattern that may come next.
    positions = {0}
    for char in [*text, None]:
        # A star may also stand for nothing.
        for position in sorted(positions):
            while position < len(pattern) and pattern[position] == "*":
                position += 1
                positions.add(position)
        if char is None:
            return len(pattern) in positions
        stay = {position for position in positions if position < len(pattern) and pattern[position] == "*"}
        step = {position + 1 for position in positions if position < len(pattern) and pattern[position] in ("?", char) and pattern[position] != "*"}
        positions = stay | step
    return False


def arn_like(pattern, text):
    """The same for each part between colons; the last of six may have some itself."""
    patterns, parts = pattern.split(":", 5), text.split(":", 5)
    return len(patterns) == len(parts) and all(map(like, patterns, parts))


OPERATORS = {
    "StringEquals": lambda expected, actual: expected == actual,
    "StringLike": like,
    "ArnEquals": arn_like,
    "ArnLike": arn_like,
}


def holds(condition, context):
    """Whether all of a statement's conditions hold for a request with these keys."""
    for operator, keys in condition.items():
        quantifier, _, name = operator.rpartition(":")
        compare = OPERATORS[name]
        for key, expected in keys.items():
            actual = context.get(key.lower())
            values = [] if actual is None else listed(actual)

            def one_of(value):
                return any(compare(pattern, value) for pattern in listed(expected))

            if quantifier == "ForAllValues":
                # Also where the request has no such key.
                if not all(map(one_of, values)):
                    return False
            elif quantifier:
                raise NotImplementedError(operator)
            elif len(values) != 1 or not one_of(values[0]):
                return False
    return True


def applies(statement, action, resource, context):
    unknown = set(statement) - {"Sid", "Effect", "Action", "Resource", "Condition"}
    if unknown:
        raise NotImplementedError(f"a statement with {unknown}")
    actions = any(like(pattern.lower(), action.lower()) for pattern in listed(statement["Action"]))
    return actions and any(like(pattern, resource) for pattern in listed(statement["Resource"])) and holds(statement.get("Condition", {}), context)


def allowed(policies, action, resource, context):
    """A statement that denies prevails; without one that allows, nothing is allowed."""
    context = {key.lower(): value for key, value in context.items()}
    effects = {
        statement["Effect"]
        for policy in policies
        for statement in listed(policy["Statement"])
        if applies(statement, action, resource, context)
    }
    return effects == {"Allow"}


def parsed(document):
    return json.loads(document) if isinstance(document, str) else document


class Record:
    """What each role may do, by the names of actions, and what it did."""

    def __init__(self):
        self.granted, self.used = set(), set()

    def note(self, role, policies, action):
        for policy in policies:
            for statement in listed(policy["Statement"]):
                for name in listed(statement["Action"]):
                    # So all other actions of a service are denied.
                    assert "*" not in name and "?" not in name, f"{role} is granted {name}"
                    if statement["Effect"] == "Allow":
                        self.granted.add((role, name))
        self.used.add((role, action))

    def write(self, path):
        with open(path, "a") as file:
            for kind in ("granted", "used"):
                file.writelines(json.dumps([kind, *pair]) + "\n" for pair in sorted(getattr(self, kind)))


def install(evaluator, mend, record):
    from ministack.services import iam

    def policies_of(arn, account):
        """Those of a role of a stack, and the name that the template has for it. Of others, nothing is known here."""
        name = arn.split("/")[1] if ":assumed-role/" in arn else ""
        role = iam._roles.get_scoped(account, None, name) or {}
        logical = next((part for part in name.split("-") if part.endswith("Role")), None)
        return logical, [parsed(document) for document in (role.get("InlinePolicies") or {}).values()]

    def with_second(enforce):
        def enforced(access_key_id, iam_action, service, region, resource_arn="*", service_context=None):
            denied = enforce(access_key_id, iam_action, service, region, resource_arn, service_context)
            from ministack.core.responses import get_account_id

            principal = evaluator.resolve_principal(access_key_id or "", get_account_id())
            role, policies = policies_of(getattr(principal, "arn", None) or "", get_account_id())
            if role and policies and iam_action not in evaluator._ALWAYS_ALLOWED_ACTIONS:
                second = allowed(policies, iam_action, resource_arn, service_context or {})
                told = f"{role} {iam_action} {resource_arn} {service_context}"
                if second != (denied is None):
                    print(f"bed: two readings of a policy differ: {told}: {second}, and not {denied}", file=sys.stderr, flush=True)
                    raise AssertionError(told)
                # A test that tries out what a role may do has a session `bed`: it does not need what it does.
                if second and not principal.arn.endswith("/bed"):
                    record.note(role, policies, iam_action)
            return denied

        return enforced

    names = ["access_key_id", "iam_action", "service", "region", "resource_arn", "service_context"]
    mend(evaluator, "enforce", names, with_second)


def main(path):
    lines = [json.loads(line) for line in Path(path).read_text().splitlines()]
    granted, used = ({(role, action) for kind, role, action in lines if kind == wanted} for wanted in ("granted", "used"))
    for role, action in sorted(granted):
        print(f"{role:20} {action:35} {'used' if (role, action) in used else UNSEEN.get(action, 'NOT USED')}")
    sys.exit(any((role, action) not in used and action not in UNSEEN for role, action in granted))


if __name__ == "__main__":
    main(sys.argv[1])
