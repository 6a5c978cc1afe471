"""The workflow with tiny data, run once from nothing; the tests look at it and dry-run changes of it."""

import copy
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from chain import CONFIG, QUALITY, SECRETS, WITHOUT_NETWORK, Project, copy_of


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests of a finished project on one worker, so that the project is run once."""
    for item in items:
        projects = {"finished", "improved"} & set(getattr(item, "fixturenames", ()))
        if len(projects) == 1 and Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.xdist_group(*projects))


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The chain after a run from nothing; where the system allows, in a namespace without network.

    Run by somebody with a token and an address, who lets nobody else read files: for test_secrets.
    """
    return _run(copy_of(tmp_path_factory.mktemp("project")), umask=0o077, **SECRETS)


@pytest.fixture(scope="session")
def improved(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Another one, with calibration, ensembles, a pupil and a training on two splits: what QUALITY says."""
    project = copy_of(tmp_path_factory.mktemp("improved"))
    project.configure(QUALITY)
    return _run(project)


def _run(project: Project, **options: Any) -> Project:
    if subprocess.run([*WITHOUT_NETWORK, "true"], capture_output=True).returncode == 0:
        project.prefix = WITHOUT_NETWORK
    done = project.snakemake(**options)
    assert done.returncode == 0, done.stdout
    project.path("first-run.txt").write_text(done.stdout)
    return project


@pytest.fixture
def changed() -> dict[str, Any]:
    """The tiny configuration, free to change."""
    return copy.deepcopy(CONFIG)


@pytest.fixture
def twin(finished: Project, tmp_path: Path) -> Project:
    """A copy of the finished project, time stamps and Snakemake's memory included, free to change."""
    shutil.copytree(finished.folder, tmp_path / "twin", symlinks=True, copy_function=shutil.copy2)
    return Project(tmp_path / "twin", finished.prefix)
