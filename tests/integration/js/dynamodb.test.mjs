// The AWS SDK for JavaScript v3 against a running server: ONGGI_ENDPOINT says where it is.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, describe, test } from "node:test";

import {
  BatchGetItemCommand,
  BatchWriteItemCommand,
  ConditionalCheckFailedException,
  CreateTableCommand,
  DeleteItemCommand,
  DeleteTableCommand,
  DescribeContinuousBackupsCommand,
  DescribeEndpointsCommand,
  DescribeLimitsCommand,
  DescribeTableCommand,
  DescribeTimeToLiveCommand,
  DynamoDBClient,
  GetItemCommand,
  ListTagsOfResourceCommand,
  paginateListTables,
  paginateQuery,
  paginateScan,
  PutItemCommand,
  QueryCommand,
  ResourceInUseException,
  ResourceNotFoundException,
  ScanCommand,
  TagResourceCommand,
  UntagResourceCommand,
  UpdateItemCommand,
  UpdateTableCommand,
  waitUntilTableExists,
  waitUntilTableNotExists,
} from "@aws-sdk/client-dynamodb";
import {
  BatchGetCommand,
  BatchWriteCommand,
  DeleteCommand,
  DynamoDBDocumentClient,
  GetCommand,
  NumberValue,
  paginateQuery as paginateDocumentQuery,
  PutCommand,
  QueryCommand as DocumentQueryCommand,
  ScanCommand as DocumentScanCommand,
  UpdateCommand,
} from "@aws-sdk/lib-dynamodb";

const endpoint = process.env.ONGGI_ENDPOINT;
assert.ok(endpoint, "ONGGI_ENDPOINT must name a running server");

const settings = {
  endpoint,
  region: "us-east-1",
  credentials: { accessKeyId: "dev", secretAccessKey: "dev" },
  maxAttempts: 1,
};
const client = new DynamoDBClient(settings);
const documents = DynamoDBDocumentClient.from(client, { marshallOptions: { removeUndefinedValues: true } });
const made = [];

const unique = (prefix) => `${prefix}_${randomUUID().replaceAll("-", "").slice(0, 12)}`;
const keySchema = (range) => [
  { AttributeName: "pk", KeyType: "HASH" },
  ...(range ? [{ AttributeName: "sk", KeyType: "RANGE" }] : []),
];

async function createTable(extra = {}, range = "N") {
  const TableName = unique("js");
  const definitions = [{ AttributeName: "pk", AttributeType: "S" }];
  if (range) definitions.push({ AttributeName: "sk", AttributeType: range });
  await client.send(new CreateTableCommand({
    TableName,
    KeySchema: keySchema(range),
    AttributeDefinitions: definitions,
    BillingMode: "PAY_PER_REQUEST",
    ...extra,
  }));
  made.push(TableName);
  await waitUntilTableExists({ client, maxWaitTime: 10, minDelay: 1 }, { TableName });
  return TableName;
}

const described = async (TableName) => (await client.send(new DescribeTableCommand({ TableName }))).Table;

after(async () => {
  for (const TableName of made) {
    await client.send(new DeleteTableCommand({ TableName })).catch(() => {});
  }
  client.destroy();
});

describe("tables", () => {
  test("are created, described, waited for and deleted", async () => {
    const TableName = await createTable();
    const table = await described(TableName);
    assert.equal(table.TableStatus, "ACTIVE");
    assert.equal(table.BillingModeSummary.BillingMode, "PAY_PER_REQUEST");
    assert.ok(table.CreationDateTime instanceof Date);
    assert.deepEqual(table.KeySchema, keySchema("N"));
    await assert.rejects(client.send(new CreateTableCommand({
      TableName, KeySchema: keySchema(), BillingMode: "PAY_PER_REQUEST",
      AttributeDefinitions: [{ AttributeName: "pk", AttributeType: "S" }],
    })), (error) => error instanceof ResourceInUseException && error.message === `Table already exists: ${TableName}`);
    await client.send(new DeleteTableCommand({ TableName }));
    await waitUntilTableNotExists({ client, maxWaitTime: 10, minDelay: 1 }, { TableName });
    await assert.rejects(described(TableName), (error) => error instanceof ResourceNotFoundException
      && error.message === `Requested resource not found: Table: ${TableName} not found`
      && error.$metadata.httpStatusCode === 400 && error.$metadata.requestId.length > 10);
  });

  test("describe back what newer models allow", async () => {
    const TableName = await createTable({
      DeletionProtectionEnabled: true,
      TableClass: "STANDARD_INFREQUENT_ACCESS",
      OnDemandThroughput: { MaxReadRequestUnits: 10, MaxWriteRequestUnits: 20 },
      WarmThroughput: { ReadUnitsPerSecond: 12500, WriteUnitsPerSecond: 4500 },
      Tags: [{ Key: "team", Value: "storage" }],
    });
    const table = await described(TableName);
    assert.equal(table.DeletionProtectionEnabled, true);
    assert.equal(table.TableClassSummary.TableClass, "STANDARD_INFREQUENT_ACCESS");
    assert.deepEqual(table.OnDemandThroughput, { MaxReadRequestUnits: 10, MaxWriteRequestUnits: 20 });
    assert.equal(table.WarmThroughput.ReadUnitsPerSecond, 12500);
    assert.equal(table.WarmThroughput.WriteUnitsPerSecond, 4500);
    const tags = await client.send(new ListTagsOfResourceCommand({ ResourceArn: table.TableArn }));
    assert.deepEqual(tags.Tags, [{ Key: "team", Value: "storage" }]);
    await assert.rejects(client.send(new DeleteTableCommand({ TableName })), { name: "ValidationException" });
    const updated = await client.send(new UpdateTableCommand({ TableName, DeletionProtectionEnabled: false }));
    assert.equal(updated.TableDescription.DeletionProtectionEnabled, false);
  });

  test("are listed in pages", async () => {
    const names = [await createTable({}, null), await createTable({}, null), await createTable({}, null)];
    const found = [];
    for await (const page of paginateListTables({ client, pageSize: 2 }, {})) found.push(...page.TableNames);
    for (const name of names) assert.ok(found.includes(name));
    assert.deepEqual(found, [...found].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b))));
  });

  test("take tags", async () => {
    const { TableArn: ResourceArn } = await described(await createTable({}, null));
    await client.send(new TagResourceCommand({ ResourceArn, Tags: [{ Key: "a", Value: "1" }, { Key: "b", Value: "" }] }));
    await client.send(new UntagResourceCommand({ ResourceArn, TagKeys: ["a"] }));
    const { Tags } = await client.send(new ListTagsOfResourceCommand({ ResourceArn }));
    assert.deepEqual(Tags, [{ Key: "b", Value: "" }]);
  });

  test("and the account are described", async () => {
    const TableName = await createTable({}, null);
    const limits = await client.send(new DescribeLimitsCommand({}));
    assert.ok(limits.TableMaxReadCapacityUnits > 0);
    const endpoints = await client.send(new DescribeEndpointsCommand({}));
    assert.equal(endpoints.Endpoints.length, 1);
    const ttl = await client.send(new DescribeTimeToLiveCommand({ TableName }));
    assert.equal(ttl.TimeToLiveDescription.TimeToLiveStatus, "DISABLED");
    const backups = await client.send(new DescribeContinuousBackupsCommand({ TableName }));
    assert.equal(backups.ContinuousBackupsDescription.ContinuousBackupsStatus, "ENABLED");
  });
});

describe("items", () => {
  let TableName;
  before(async () => {
    TableName = await createTable();
  });

  test("keep every type through the low-level client", async () => {
    const Item = {
      pk: { S: unique("k") }, sk: { N: "1" }, s: { S: "\ud83c\udffa \uc639\uae30" }, empty: { S: "" }, n: { N: "-1.5" },
      b: { B: new Uint8Array([0, 1, 255]) }, yes: { BOOL: true }, nothing: { NULL: true },
      l: { L: [{ S: "a" }, { M: { deep: { N: "1" } } }] }, m: { M: {} },
    };
    await client.send(new PutItemCommand({ TableName, Item }));
    const got = await client.send(new GetItemCommand({ TableName, Key: { pk: Item.pk, sk: Item.sk }, ConsistentRead: true }));
    assert.deepEqual(got.Item, Item);
  });

  test("keep every type through the document client", async () => {
    const Item = {
      pk: unique("k"), sk: 1, text: "caf\u00e9", nothing: null, yes: true, list: [1, "two", [3]],
      map: { nested: { deep: [{}] } }, words: new Set(["a", "b"]), numbers: new Set([1, 2.5]),
      bytes: new Uint8Array([1, 2, 3]), big: 12345678901234567890n, absent: undefined,
    };
    await documents.send(new PutCommand({ TableName, Item }));
    // A client of its own: a document client leaves its options on the client it is made from.
    const plain = new DynamoDBClient(settings);
    const wide = DynamoDBDocumentClient.from(plain, { unmarshallOptions: { wrapNumbers: true } });
    const exact = await wide.send(new GetCommand({ TableName, Key: { pk: Item.pk, sk: 1 } }));
    assert.equal(exact.Item.big.toString(), "12345678901234567890");
    plain.destroy();
    await documents.send(new UpdateCommand({
      TableName, Key: { pk: Item.pk, sk: 1 }, UpdateExpression: "REMOVE big",
    }));
    const got = await documents.send(new GetCommand({ TableName, Key: { pk: Item.pk, sk: 1 } }));
    delete Item.big;
    delete Item.absent;
    assert.deepEqual(got.Item, Item);
  });

  test("keep 38 digits", async () => {
    const pk = unique("k");
    const digits = "1234567890123456789012345678901234567.8";
    await documents.send(new PutCommand({ TableName, Item: { pk, sk: 0, n: NumberValue.from(digits) } }));
    const got = await client.send(new GetItemCommand({ TableName, Key: { pk: { S: pk }, sk: { N: "0" } } }));
    assert.equal(got.Item.n.N, digits);
  });

  test("are updated and deleted on conditions", async () => {
    const Key = { pk: unique("k"), sk: 5 };
    const first = await documents.send(new UpdateCommand({
      TableName, Key, UpdateExpression: "SET #c = if_not_exists(#c, :zero) + :one, tags = list_append(:none, :t)",
      ExpressionAttributeNames: { "#c": "count" }, ReturnValues: "ALL_NEW",
      ExpressionAttributeValues: { ":zero": 0, ":one": 1, ":none": [], ":t": ["x"] },
    }));
    assert.deepEqual(first.Attributes, { ...Key, count: 1, tags: ["x"] });
    await assert.rejects(documents.send(new DeleteCommand({
      TableName, Key, ConditionExpression: "#c > :ten", ExpressionAttributeNames: { "#c": "count" },
      ExpressionAttributeValues: { ":ten": 10 }, ReturnValuesOnConditionCheckFailure: "ALL_OLD",
    })), (error) => error instanceof ConditionalCheckFailedException
      && error.message === "The conditional request failed" && error.Item.count.N === "1");
    const gone = await documents.send(new DeleteCommand({ TableName, Key, ReturnValues: "ALL_OLD" }));
    assert.equal(gone.Attributes.count, 1);
    const empty = await documents.send(new GetCommand({ TableName, Key }));
    assert.equal(empty.Item, undefined);
  });

  test("report errors with the service's names and messages", async () => {
    await assert.rejects(client.send(new GetItemCommand({ TableName, Key: { pk: { S: "a" } } })), {
      name: "ValidationException", message: "The provided key element does not match the schema",
    });
    await assert.rejects(client.send(new UpdateItemCommand({
      TableName, Key: { pk: { S: "a" }, sk: { N: "1" } }, UpdateExpression: "SET name = :v",
      ExpressionAttributeValues: { ":v": { S: "x" } },
    })), { message: "Invalid UpdateExpression: Attribute name is a reserved keyword; reserved keyword: name" });
  });

  test("report consumed capacity", async () => {
    const Item = { pk: { S: unique("k") }, sk: { N: "1" }, v: { S: "x".repeat(3000) } };
    const put = await client.send(new PutItemCommand({ TableName, Item, ReturnConsumedCapacity: "TOTAL" }));
    assert.deepEqual(put.ConsumedCapacity, { TableName, CapacityUnits: 3 });
    const gone = await client.send(new DeleteItemCommand({
      TableName, Key: { pk: Item.pk, sk: Item.sk }, ReturnConsumedCapacity: "INDEXES" }));
    assert.deepEqual(gone.ConsumedCapacity, { TableName, CapacityUnits: 3, Table: { CapacityUnits: 3 } });
  });

  test("go in batches", async () => {
    const pk = unique("k");
    const written = await documents.send(new BatchWriteCommand({ RequestItems: {
      [TableName]: Array.from({ length: 25 }, (_, sk) => ({ PutRequest: { Item: { pk, sk, v: sk * 2 } } })) } }));
    assert.deepEqual(written.UnprocessedItems, {});
    const read = await documents.send(new BatchGetCommand({ RequestItems: {
      [TableName]: { Keys: Array.from({ length: 30 }, (_, sk) => ({ pk, sk })) } } }));
    assert.deepEqual(read.Responses[TableName].map((i) => i.v).sort((a, b) => a - b),
      Array.from({ length: 25 }, (_, i) => i * 2));
    const removed = await client.send(new BatchWriteItemCommand({ RequestItems: {
      [TableName]: [{ DeleteRequest: { Key: { pk: { S: pk }, sk: { N: "0" } } } }] } }));
    assert.deepEqual(removed.UnprocessedItems, {});
    const left = await client.send(new BatchGetItemCommand({ RequestItems: {
      [TableName]: { Keys: [{ pk: { S: pk }, sk: { N: "0" } }, { pk: { S: pk }, sk: { N: "1" } }] } } }));
    assert.equal(left.Responses[TableName].length, 1);
  });

  test("are written by a hundred requests at once", async () => {
    const pk = unique("k");
    await Promise.all(Array.from({ length: 100 }, () => documents.send(new UpdateCommand({
      TableName, Key: { pk, sk: 0 }, UpdateExpression: "ADD hits :one", ExpressionAttributeValues: { ":one": 1 } }))));
    const { Item } = await documents.send(new GetCommand({ TableName, Key: { pk, sk: 0 }, ConsistentRead: true }));
    assert.equal(Item.hits, 100);
  });
});

describe("queries and scans", () => {
  let TableName;
  before(async () => {
    TableName = await createTable({
      AttributeDefinitions: [
        { AttributeName: "pk", AttributeType: "S" }, { AttributeName: "sk", AttributeType: "N" },
        { AttributeName: "score", AttributeType: "N" }],
      LocalSecondaryIndexes: [{
        IndexName: "by_score", Projection: { ProjectionType: "INCLUDE", NonKeyAttributes: ["label"] },
        KeySchema: [{ AttributeName: "pk", KeyType: "HASH" }, { AttributeName: "score", KeyType: "RANGE" }] }],
    });
    for (const pk of ["a", "b", "c"]) {
      await documents.send(new BatchWriteCommand({ RequestItems: {
        [TableName]: Array.from({ length: 20 }, (_, sk) => ({ PutRequest: { Item: {
          pk, sk, score: 100 - sk, label: `${pk}${sk}`, hidden: true } } })) } }));
    }
  });

  test("page through a query", async () => {
    const seen = [];
    let pages = 0;
    for await (const page of paginateQuery({ client, pageSize: 7 }, {
      TableName, KeyConditionExpression: "pk = :p", ExpressionAttributeValues: { ":p": { S: "b" } } })) {
      seen.push(...page.Items.map((i) => Number(i.sk.N)));
      pages += 1;
    }
    assert.deepEqual(seen, Array.from({ length: 20 }, (_, i) => i));
    assert.equal(pages, 3);
  });

  test("page through a document query on an index, backwards", async () => {
    const seen = [];
    for await (const page of paginateDocumentQuery({ client: documents, pageSize: 6 }, {
      TableName, IndexName: "by_score", KeyConditionExpression: "pk = :p AND score >= :s", ScanIndexForward: false,
      ExpressionAttributeValues: { ":p": "a", ":s": 90 } })) {
      seen.push(...page.Items);
    }
    assert.deepEqual(seen.map((i) => i.score), Array.from({ length: 11 }, (_, i) => 100 - i));
    assert.deepEqual(Object.keys(seen[0]).sort(), ["label", "pk", "score", "sk"]);
  });

  test("page through a scan, alone and in segments", async () => {
    const seen = [];
    for await (const page of paginateScan({ client, pageSize: 9 }, { TableName })) seen.push(...page.Items);
    assert.equal(seen.length, 60);
    const parts = await Promise.all([0, 1, 2].map((Segment) => documents.send(new DocumentScanCommand({
      TableName, Segment, TotalSegments: 3 }))));
    assert.equal(parts.reduce((sum, p) => sum + p.Count, 0), 60);
  });

  test("filter, project and count", async () => {
    const page = await documents.send(new DocumentQueryCommand({
      TableName, KeyConditionExpression: "pk = :p AND sk BETWEEN :a AND :b", ProjectionExpression: "#l",
      FilterExpression: "contains(#l, :one)", ExpressionAttributeNames: { "#l": "label" },
      ExpressionAttributeValues: { ":p": "c", ":a": 5, ":b": 15, ":one": "c1" } }));
    assert.deepEqual(page.Items.map((i) => i.label), ["c10", "c11", "c12", "c13", "c14", "c15"]);
    assert.equal(page.ScannedCount, 11);
    const count = await client.send(new ScanCommand({ TableName, Select: "COUNT" }));
    assert.equal(count.Count, 60);
    assert.equal(count.Items, undefined);
    const empty = await client.send(new QueryCommand({
      TableName, KeyConditionExpression: "pk = :p", ExpressionAttributeValues: { ":p": { S: "nobody" } } }));
    assert.deepEqual(empty.Items, []);
  });
});
