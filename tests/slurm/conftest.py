"""One cluster for all tests of this folder, with small shards and a golden run; its nodes have networks of their own."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.slurm.local_cluster import LocalCluster, why_no_namespaces, why_there_is_none
from tests.slurm.submitted import Bench

NODES = 17


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    if reason := why_there_is_none():
        pytest.skip(reason)
    name = f"z{os.getpid():x}z"  # nobody else's, should tests run twice at the same time
    with LocalCluster(name, NODES, namespaces=not why_no_namespaces()) as cluster:
        yield Bench(cluster, tmp_path_factory.mktemp("slurm"))
