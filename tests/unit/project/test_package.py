"""The library as a package: a wheel is complete, a clone is installed in place, and neither needs the network."""

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

import qa
from qa.common import installation

ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.slow
QUIET = ("--quiet", "--disable-pip-version-check", "--no-deps", "--no-build-isolation", "--no-index")


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """What the package is built from."""
    folder = tmp_path_factory.mktemp("package") / "clone"
    for part in ("envs", "workflow"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for part in ("pyproject.toml", "LICENSE"):
        shutil.copy(ROOT / part, folder)
    return folder


@pytest.fixture(scope="module")
def wheel(clone, tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    source = shutil.copytree(clone, folder / "source")
    pip = [sys.executable, "-m", "pip", "wheel", *QUIET, "--wheel-dir", str(folder), str(source)]
    subprocess.run(pip, check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Runs the interpreter with the wheel's copy of the library, outside every clone."""
    folder = tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")

    def run(*arguments):
        environment = {**os.environ, "PYTHONPATH": str(folder / "site")}
        command = [sys.executable, *arguments]
        return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True).stdout

    return run


def library(folder):
    files = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(folder.parent).as_posix() for path in files}


def test_a_wheel_has_every_file_of_the_library_and_nothing_else(clone, wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name for name in names if ".dist-info/" not in name} == library(clone / "workflow/scripts/qa")


def test_a_wheel_needs_what_requirements_txt_says(wheel):
    archive = zipfile.ZipFile(wheel)
    (name,) = (name for name in archive.namelist() if name.endswith("METADATA"))
    metadata = Parser().parsestr(archive.read(name).decode())
    needed = {str(Requirement(text)) for text in metadata.get_all("Requires-Dist")}
    assert needed == {str(Requirement(text)) for text in installation.requirements()}


def test_an_installed_library_finds_its_own_files_and_says_where_it_is(installed):
    code = "from qa.common import installation; from qa.preflight.checks import check_software; "
    code += "from qa.report import page; print(page.digest(), len(installation.requirements()))\n"
    code += "print(*check_software(True, False), sep='\\n')"
    facts, *findings = installed("-c", code).splitlines()
    digest, requirements = facts.split()
    assert len(digest) == 12 and int(requirements) == len(installation.requirements())
    assert len(findings) == 1 and "kind='ok'" in findings[0]
    assert installed("-m", "qa", "--version").startswith(f"qa {qa.__version__}, installed in ")
    assert "--na-prob-file" in installed("-m", "qa.metrics", "--help")


def test_an_editable_install_needs_no_network_and_leaves_the_clone_as_it_was(clone, tmp_path):
    before = library(clone)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "env")], check=True)
    site = next((tmp_path / "env").glob("lib/python*/site-packages"))
    (site / "base.pth").write_text(sysconfig.get_path("purelib") + "\n")
    python = tmp_path / "env" / "bin" / "python"
    pip = [python, "-m", "pip", "install", *QUIET, "--editable", clone]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run(pip, check=True, capture_output=True, env=environment)
    command = [python.with_name("qa"), "--version"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stdout == f"qa {qa.__version__}, the library of the clone {clone}\n", done.stderr
    assert library(clone) == before


def test_the_version_is_that_of_the_citation():
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == qa.__version__
