"""A cluster for each file of tests, and the workflow with tiny data to run on it."""

import os
import signal
from collections.abc import Iterator

import pytest

from chain import copy_of
from cluster import Cluster, missing, running
from on_slurm import ClusterProject, on_cluster


def pytest_configure() -> None:
    """End on SIGTERM as on Ctrl-C, with the cluster down."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@pytest.fixture(scope="module")
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A cluster for the tests of one file; with accounts where the file says `ACCOUNTING = True`."""
    accounting = getattr(request.module, "ACCOUNTING", False)
    if reason := missing(accounting):
        (pytest.fail if os.environ.get("QA_REQUIRE_SLURM") else pytest.skip)(reason)
    with running(accounting=accounting) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def project(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> ClusterProject:
    """The workflow with tiny data in a folder of its own, to run on the cluster."""
    folder = copy_of(tmp_path_factory.mktemp("project")).folder
    return on_cluster(folder, cluster)
