"""What the tests of executors share."""

import pytest
from helpers.faulted import run
from helpers.ray_cluster import Nodes

from benchbench.results.store import Store


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


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory, data_home):
    """The small grid of ``helpers.faulted``, run once without faults."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENCHBENCH_DATA", str(data_home))
        store = Store(tmp_path_factory.mktemp("undisturbed"), "tiny")
        assert run(store) == []
    return store


@pytest.fixture
def store(tmp_path, tiny_data):
    """An empty results folder for the same grid."""
    return Store(tmp_path / "results", "tiny")
