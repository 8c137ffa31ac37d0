"""Asks AWS what it is told to, as whom it is told to, by boto3's names.

Standard input: a JSON list of [CREDENTIALS, SERVICE, OPERATION, PARAMETERS], the first as their environment variables are called ({}: those
of this process). Standard output: a JSON list of what became of each: [null, ANSWER], or [ERROR CODE, MESSAGE].
"""

import json
import sys

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

CONFIG = Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1})


def ask(credentials, service, operation, parameters):
    client = boto3.client(service, config=CONFIG, **{name.lower(): value for name, value in credentials.items()})
    try:
        return [None, getattr(client, operation)(**parameters)]
    except ClientError as error:
        return [error.response["Error"]["Code"], error.response["Error"]["Message"]]


if __name__ == "__main__":
    print(json.dumps([ask(*asked) for asked in json.load(sys.stdin)], default=str))
