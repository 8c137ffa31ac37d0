// The job of `scripts/bench lambda`, with the AWS SDK for JavaScript v3. Clients are made once, at the start.
import { DynamoDBClient, GetItemCommand } from "@aws-sdk/client-dynamodb";
import { GetObjectCommand, S3Client } from "@aws-sdk/client-s3";
import { getSignedUrl } from "@aws-sdk/s3-request-presigner";

const { BINPLZ_TABLE: TableName, BINPLZ_BUCKET: Bucket, BINPLZ_SYSTEM } = process.env;
const dynamo = new DynamoDBClient({});
const s3 = new S3Client({});

export async function handler(event) {
  const wanted = event.rawPath.split("/").map(encodeURIComponent).join("/");
  const pk = { S: `served${wanted}?sys=${BINPLZ_SYSTEM}` };
  const { Item } = await dynamo.send(new GetItemCommand({ TableName, Key: { pk } }));
  if (!Item) return { statusCode: 404 };
  const served = JSON.parse(Item.body.S);
  const get = new GetObjectCommand({ Bucket, Key: served.object });
  const location = await getSignedUrl(s3, get, { expiresIn: 900 });
  const headers = { location, "cache-control": "no-store", "x-binplz-sha256": served.sha256 };
  return { statusCode: 302, headers };
}
