"""What the tests of executors share."""

import pytest
from helpers.ray_cluster import Nodes


@pytest.fixture(scope="module")
def head(tmp_path_factory, data_home):
    """A cluster without nodes, which leaves no process behind whatever becomes of the tests."""
    pytest.importorskip("ray", reason="ray is not installed")
    nodes = Nodes(tmp_path_factory.mktemp("nodes"), data_home)
    try:
        yield nodes
    finally:
        nodes.end()
    assert not list(nodes.left())


@pytest.fixture
def nodes(head, tiny_data):
    """The cluster; the nodes that a test adds are its own."""
    yield head
    head.tell("clear")
