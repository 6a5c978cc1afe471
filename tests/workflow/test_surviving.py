"""Snakemake killed while a training runs; an unfinished training evaluated at its latest checkpoint."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from chain import Project
from qa.files import sha256_of_folder

pytestmark = pytest.mark.xdist_group("workflow")


def until(condition, seconds=240):
    """Wait for a condition; the limit only ends a test that hangs."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def killed_while_training(project: Project, config: str) -> None:
    """Start a training with Snakemake, and kill Snakemake, but not its job, once the job is at work."""
    command = [sys.executable, "-m", "snakemake", "--profile", project.profile, "models", "--configfile", config]
    with open(project.path("killed.txt"), "w") as output:
        snakemake = subprocess.Popen(command, cwd=project.folder, stdout=output, stderr=output)
        until(lambda: list(project.path("checkpoints").glob("small/seed-1/*/attempts.json")))
        os.kill(snakemake.pid, signal.SIGKILL)
        snakemake.wait()


def attempts(project: Project) -> list[dict]:
    return json.loads(project.path("results/small/seed-1/manifest.json").read_text())["attempts"]


def test_a_training_that_outlived_snakemake_is_not_trained_again(twin, changed):
    changed["runs"] = {"small": changed["runs"]["small"] | {"training": {"max_steps": 40, "learning_rate": 1e-3}}}
    config = twin.configure(changed, "longer.yaml")
    killed_while_training(twin, config)
    result = twin.path("checkpoints/small/seed-1")
    until(lambda: list(result.glob("*/result/manifest.json")))
    weights = sha256_of_folder(next(result.glob("*/result/model")))
    assert twin.snakemake("--unlock", config=config).returncode == 0
    done = twin.snakemake(config=config)
    assert done.returncode == 0, done.stdout
    assert "after Snakemake had gone: its result is taken" in done.stdout
    assert sha256_of_folder(twin.path("results/small/seed-1/model")) == weights
    assert len(attempts(twin)) == 1 and not twin.path("checkpoints").exists()
    assert twin.would_run(changed) == set()
    changed["runs"]["small"]["training"]["learning_rate"] = 2e-3
    assert "train" in twin.would_run(changed)


def test_a_result_whose_record_snakemake_lost_is_noted_with_its_settings(twin, changed):
    """As a SLURM job leaves it: the files whole, no longer marked as incomplete, and no record of their params."""
    for name in ("model", "training.csv", "manifest.json"):
        cleaned = twin.snakemake("--cleanup-metadata", f"results/small/seed-1/{name}", config=None)
        assert cleaned.returncode == 0, cleaned.stdout
    twin.path("results/summary.csv").unlink()
    done = twin.snakemake()
    assert done.returncode == 0, done.stdout
    assert "train small seed-1: the result of process" in done.stdout
    changed["runs"]["small"]["training"] = {"max_steps": 3}
    assert "train" in twin.would_run(changed)


def test_a_result_of_other_settings_is_not_noted_as_of_these(twin, changed):
    for name in ("model", "training.csv", "manifest.json"):
        assert twin.snakemake("--cleanup-metadata", f"results/small/seed-1/{name}", config=None).returncode == 0
    twin.path("results/summary.csv").unlink()
    changed["runs"]["small"]["training"] = {"max_steps": 3}
    done = twin.snakemake(config=twin.configure(changed, "other.yaml"))
    assert "train small seed-1: nobody recorded its settings" in done.stdout


def test_the_latest_checkpoint_of_a_training_can_be_evaluated(twin, changed):
    small = changed["runs"]["small"]
    small |= {"training": {"max_steps": 4}, "checkpoints": {"every_steps": 1, "keep_after_success": True}}
    config = twin.configure(changed, "kept.yaml")
    done = twin.snakemake("results/small/seed-1/model", config=config)
    assert done.returncode == 0, done.stdout
    last = max(twin.path("checkpoints/small/seed-1").glob("*/checkpoint-*"), key=lambda path: path.name)
    assert last.name == "checkpoint-4"
    (last / "complete.json").unlink()  # a save that was cut short
    target = Path("results/small/seed-1-latest/mills/validation/n_best/metrics.json")
    done = twin.snakemake(str(target), config=config)
    assert done.returncode == 0, done.stdout
    assert "Taking the model out of" in done.stdout and "checkpoint-3" in done.stdout
    assert json.loads(twin.path(str(target)).read_text())["total"] == 10
    weights = sha256_of_folder(twin.path("results/small/seed-1-latest/model"))["model.safetensors"]
    assert weights != sha256_of_folder(twin.path("results/small/seed-1/model"))["model.safetensors"]


def test_without_a_checkpoint_the_latest_is_refused_with_the_reason(finished):
    done = finished.snakemake("-n", "results/other/seed-1-latest/mills/validation/n_best/metrics.json")
    assert done.returncode == 1 and "no whole checkpoint there" in done.stdout
