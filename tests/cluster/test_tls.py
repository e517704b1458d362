"""A cluster as it is meant to run: TLS between its members and in front, signed requests, no --insecure."""

import botocore.exceptions
import pytest

from conftest import make_client
from support.certificates import Authority, aws_tls, cluster_tls
from support.cluster import Cluster

CREDENTIALS = "AKIAIOSFODNN7EXAMPLE:example"  # make_client's


@pytest.mark.core
def test_a_cluster_without_insecure(tmp_path):
    authority = Authority(tmp_path / "tls")
    member = authority.issue("member")
    with Cluster(nodes=3, coordinators=1, etcds=1, insecure=False, coordinator_arguments=cluster_tls(member),
                 node_arguments=[*cluster_tls(member), *aws_tls(member), "--credentials", CREDENTIALS]) as cluster:
        clients = [make_client(node.endpoint, verify=authority.ca) for node in cluster.nodes]
        assert all(node.endpoint.startswith("https://") for node in cluster.nodes)
        clients[0].create_table(TableName="items", BillingMode="PAY_PER_REQUEST",
                                AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
                                KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}])
        for client in clients:
            client.get_waiter("table_exists").wait(TableName="items", WaiterConfig={"Delay": 1, "MaxAttempts": 30})
        for number, client in enumerate(clients):
            client.put_item(TableName="items", Item={"pk": {"S": str(number)}})
        for client in clients:
            for number in range(3):
                assert "Item" in client.get_item(TableName="items", Key={"pk": {"S": str(number)}},
                                                 ConsistentRead=True)
        stranger = Authority(tmp_path / "stranger")
        with pytest.raises(botocore.exceptions.SSLError):
            make_client(cluster.nodes[0].endpoint, verify=stranger.ca).list_tables()
        for node in cluster.nodes:
            assert node.stop() == 0, node.log_tail()
