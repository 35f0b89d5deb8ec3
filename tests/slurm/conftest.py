"""A cluster for the tests of this folder, with small shards and a golden run; where it is allowed, its nodes have networks of
their own. Workers of pytest-xdist have a cluster each, and share shards and golden runs.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.slurm.local_cluster import LocalCluster, why_no_namespaces, why_there_is_none
from tests.slurm.submitted import Bench

NODES = 4
LONGEST = "test_twenty_requeues_in_a_row"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest one first: others run beside it."""
    items.sort(key=lambda item: item.name != LONGEST)


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    if reason := why_there_is_none():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("slurm")
    is_worker = "PYTEST_XDIST_WORKER" in os.environ
    shared = tmp_path_factory.getbasetemp().parent / "slurm-shared" if is_worker else folder
    name = f"z{os.getpid():x}z"  # nobody else's, should tests run twice at the same time
    with LocalCluster(name, NODES, namespaces=not why_no_namespaces()) as cluster:
        yield Bench(cluster, folder, shared)


@pytest.fixture
def bench(site: Bench) -> Iterator[Bench]:
    """Each test finds all nodes whole, and none of another's jobs."""
    yield site
    site.cluster.clear()
