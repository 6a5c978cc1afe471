"""The files of envs/ agree with one another."""

import re
from pathlib import Path

import yaml

ENVS = Path(__file__).parents[2] / "envs"


def pins(name: str) -> dict[str, str]:
    lines = [line for line in (ENVS / name).read_text().splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines), "plain versions, no local tags"
    return {name.lower().replace("_", "-"): version for name, version in (line.split("==") for line in lines)}


def wanted(name: str) -> set[str]:
    lines = [line for line in (ENVS / name).read_text().splitlines() if line and not line.startswith("#")]
    return {re.match(r"[\w-]+", line)[0].lower().replace("_", "-") for line in lines}


def test_the_lock_pins_everything_that_is_required():
    assert wanted("requirements.txt") <= pins("requirements.lock").keys()
    assert wanted("requirements-dev.txt") <= pins("requirements-dev.lock").keys()
    assert not pins("requirements-dev.lock").keys() & pins("requirements.lock").keys()


def test_the_conda_environment_has_the_locks_versions():
    packages = yaml.safe_load((ENVS / "qa.yaml").read_text())["dependencies"][-1]["pip"]
    listed = {name.lower().replace("_", "-"): version for name, version in (line.split("==") for line in packages)}
    lock = pins("requirements.lock")
    assert listed == {name: lock[name] for name in wanted("requirements.txt") - {"snakemake"}}
