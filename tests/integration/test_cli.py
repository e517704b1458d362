"""The AWS command line against the server: the first thing that anyone types."""

import json
import os
import shutil
import subprocess

import pytest

from conftest import unique
from support.needs import missing

AWS = os.environ.get("ONGGI_AWS_CLI") or shutil.which("aws", path="/usr/bin") or shutil.which("aws")


@pytest.fixture
def aws(endpoint, tmp_path):
    if not AWS:
        missing("the AWS CLI")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
    environment.update(AWS_ACCESS_KEY_ID="dev", AWS_SECRET_ACCESS_KEY="dev", AWS_DEFAULT_REGION="us-east-1",
                       AWS_CONFIG_FILE=str(tmp_path / "none"), AWS_PAGER="",
                       AWS_SHARED_CREDENTIALS_FILE=str(tmp_path / "none"))

    def run(*arguments, fails=False):
        done = subprocess.run([AWS, "dynamodb", *arguments, "--endpoint-url", endpoint, "--output", "json"],
                              env=environment, capture_output=True, text=True, timeout=60)
        if fails:
            assert done.returncode != 0
            return done.stderr.strip()
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if done.stdout.strip() else None

    return run


def test_a_session_at_the_prompt(aws):
    name = unique("cli")
    made = aws("create-table", "--table-name", name, "--billing-mode", "PAY_PER_REQUEST",
               "--attribute-definitions", "AttributeName=pk,AttributeType=S", "AttributeName=sk,AttributeType=N",
               "--key-schema", "AttributeName=pk,KeyType=HASH", "AttributeName=sk,KeyType=RANGE")
    assert made["TableDescription"]["TableName"] == name
    aws("wait", "table-exists", "--table-name", name)
    for i in range(3):
        aws("put-item", "--table-name", name, "--item", json.dumps(
            {"pk": {"S": "p"}, "sk": {"N": str(i)}, "text": {"S": "caf\u00e9"}}))
    got = aws("get-item", "--table-name", name, "--key", '{"pk":{"S":"p"},"sk":{"N":"1"}}',
              "--consistent-read")
    assert got["Item"] == {"pk": {"S": "p"}, "sk": {"N": "1"}, "text": {"S": "caf\u00e9"}}
    updated = aws("update-item", "--table-name", name, "--key", '{"pk":{"S":"p"},"sk":{"N":"1"}}',
                  "--update-expression", "ADD hits :one", "--expression-attribute-values",
                  '{":one":{"N":"1"}}', "--return-values", "UPDATED_NEW")
    assert updated["Attributes"] == {"hits": {"N": "1"}}
    page = aws("query", "--table-name", name, "--key-condition-expression", "pk = :p AND sk >= :s",
               "--expression-attribute-values", '{":p":{"S":"p"},":s":{"N":"1"}}', "--page-size", "1")
    assert page["Count"] == 2 and page["ScannedCount"] == 2
    assert aws("scan", "--table-name", name, "--page-size", "2")["Count"] == 3
    problem = aws("put-item", "--table-name", name, "--item", '{"pk":{"S":"p"},"sk":{"N":"1"}}',
                  "--condition-expression", "attribute_not_exists(pk)", fails=True)
    assert ("An error occurred (ConditionalCheckFailedException) when calling the PutItem operation: "
            "The conditional request failed") in problem
    aws("delete-item", "--table-name", name, "--key", '{"pk":{"S":"p"},"sk":{"N":"0"}}')
    assert name in aws("list-tables")["TableNames"]
    aws("delete-table", "--table-name", name)
    aws("wait", "table-not-exists", "--table-name", name)
    problem = aws("describe-table", "--table-name", name, fails=True)
    assert "ResourceNotFoundException" in problem
    assert f"Requested resource not found: Table: {name} not found" in problem
