"""A chain with every stage, run once from nothing: what a test does to it, it does to a copy."""

import pytest

from chain import Project, copy_of
from shortages import CHAIN


@pytest.fixture(scope="session")
def every_stage(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The finished chain."""
    project = copy_of(tmp_path_factory.mktemp("every-stage"))
    project.configure(CHAIN)
    done = project.snakemake()
    assert done.returncode == 0, done.stdout
    return project
