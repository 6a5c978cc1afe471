"""The files of envs/ agree with one another."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

ENVS = Path(__file__).parents[3] / "envs"
SNAKEMAKES_OWN = {"snakemake", "snakemake-executor-plugin-slurm"}


def pins(name: str) -> dict[str, str]:
    lines = [line for line in (ENVS / name).read_text().splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines), "plain versions, no local tags"
    return {name.lower().replace("_", "-"): version for name, version in (line.split("==") for line in lines)}


def ranges(name: str) -> dict[str, Requirement]:
    lines = [line.partition("#")[0] for line in (ENVS / name).read_text().splitlines()]
    found = [Requirement(line) for line in lines if line.strip()]
    return {wanted.name.lower().replace("_", "-"): wanted for wanted in found}


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-alliance.lock"])
def test_a_lock_pins_everything_that_is_required_within_its_range(lock):
    locked = pins(lock)
    for name, wanted in ranges("requirements.txt").items():
        assert wanted.specifier.contains(locked[name]), name


def test_the_lock_of_the_tools_adds_to_both_others():
    tools = pins("requirements-dev.lock")
    assert ranges("requirements-dev.txt").keys() <= tools.keys()
    assert not tools.keys() & (pins("requirements.lock").keys() | pins("requirements-alliance.lock").keys())


def test_alliances_requirements_are_the_same_packages_but_the_one_that_is_a_module():
    assert ranges("requirements-alliance.txt").keys() - {"pygments"} == ranges("requirements.txt").keys() - {"pyarrow"}


def test_alliances_lock_has_the_versions_of_its_requirements_but_for_the_local_torch():
    locked = pins("requirements-alliance.lock")
    outside = [
        name
        for name, wanted in ranges("requirements-alliance.txt").items()
        if not wanted.specifier.contains(locked[name])
    ]
    assert outside == ["torch"]
    assert locked["torch"] == pins("requirements.lock")["torch"]


def test_alliances_exact_versions_are_within_the_ranges():
    allowed = ranges("requirements.txt")
    for name, wanted in ranges("requirements-alliance.txt").items():
        for limit in wanted.specifier:
            assert limit.operator != "==" or allowed[name].specifier.contains(limit.version), name


def test_the_oldest_pyarrow_that_the_setup_accepts_is_the_one_that_is_tested():
    (oldest,) = ranges("requirements.txt")["pyarrow"].specifier
    assert pins("requirements-alliance.lock")["pyarrow"].split(".")[0] == oldest.version


def test_the_conda_environment_has_the_locks_versions():
    packages = yaml.safe_load((ENVS / "qa.yaml").read_text())["dependencies"][-1]["pip"]
    listed = {name.lower().replace("_", "-"): version for name, version in (line.split("==") for line in packages)}
    lock = pins("requirements.lock")
    assert listed == {name: lock[name] for name in ranges("requirements.txt").keys() - SNAKEMAKES_OWN}


def test_the_container_has_the_locks_versions_and_known_sections_only():
    text = (ENVS / "apptainer.def").read_text()
    header, *parts = re.split(r"^%", text, flags=re.M)
    keys = dict(line.split(": ", 1) for line in header.splitlines() if line and not line.startswith("#"))
    assert keys.keys() == {"Bootstrap", "From"} and keys["From"].startswith("python:3.11-")
    sections = {name: body for name, body in (part.split("\n", 1) for part in parts)}
    assert sections.keys() == {"files", "post", "environment", "runscript", "test", "help"}
    source, target = sections["files"].split()
    assert (ENVS.parent / source).samefile(ENVS / "requirements.lock")
    assert re.findall("pip install .*", sections["post"]) == [f"pip install --no-cache-dir -r {target}"]
    for name in ("post", "environment", "runscript", "test"):
        assert subprocess.run(["sh", "-n"], input=sections[name], text=True).returncode == 0, name
    imported = re.search('import (.*)"', sections["test"])[1].split(", ")
    assert {*imported} <= pins("requirements.lock").keys()
