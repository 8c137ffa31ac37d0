"""The job of `scripts/bench lambda`, with boto3. Clients are made once, at the start."""

import json
import os
from urllib.parse import quote

import boto3
from botocore.config import Config

TABLE = os.environ["BINPLZ_TABLE"]
BUCKET = os.environ["BINPLZ_BUCKET"]
SYSTEM = os.environ["BINPLZ_SYSTEM"]
DYNAMO = boto3.client("dynamodb")
S3 = boto3.client("s3", config=Config(signature_version="s3v4"))


def handler(event, _context):
    pk = f"served{quote(event['rawPath'])}?sys={SYSTEM}"
    item = DYNAMO.get_item(TableName=TABLE, Key={"pk": {"S": pk}}).get("Item")
    if item is None:
        return {"statusCode": 404}
    served = json.loads(item["body"]["S"])
    there = {"Bucket": BUCKET, "Key": served["object"]}
    location = S3.generate_presigned_url("get_object", Params=there, ExpiresIn=900)
    headers = {"location": location, "cache-control": "no-store", "x-binplz-sha256": served["sha256"]}
    return {"statusCode": 302, "headers": headers}
