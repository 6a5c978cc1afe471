"""Snakemake killed while a training runs; an unfinished training evaluated at its latest checkpoint."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from chain import Project
from killing import PRELOADED, Run, leftovers, results_of
from qa.common.files import sha256_of_folder

RECORDS = "results/questions/mills/extra.parquet"


def until(condition, seconds=3600):
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


@pytest.fixture
def outlived(twin, changed):
    """A project with a training that ended well after its Snakemake was killed; its configuration."""
    changed["runs"] = {"small": changed["runs"]["small"] | {"training": {"max_steps": 40, "learning_rate": 1e-3}}}
    config = twin.configure(changed, "longer.yaml")
    killed_while_training(twin, config)
    until(lambda: list(twin.path("checkpoints/small/seed-1").glob("*/result/manifest.json")))
    assert twin.snakemake("--unlock", config=config).returncode == 0
    return config


def another_target(project: Project, config: str) -> None:
    """A whole run that has nothing to do with the training."""
    project.path(RECORDS).unlink()
    done = project.snakemake(RECORDS, config=config)
    assert done.returncode == 0, done.stdout


def a_failing_job(project: Project, config: str) -> None:
    """The run that is to take the result, but before that it fails elsewhere."""
    project.path(RECORDS).unlink()
    data = next(project.path("resources/datasets/mills/extra").glob("*.json"))
    whole = data.read_bytes()
    data.write_bytes(whole[:-1])
    first = ("--cores", "1", "--prioritize", RECORDS)
    done = project.snakemake("models", RECORDS, *first, config=config, QA_PREFLIGHT="off")
    assert done.returncode == 1 and "ERROR resources/datasets/mills: extra/" in done.stdout, done.stdout
    assert "its result is taken" not in done.stdout
    data.write_bytes(whole)


def test_a_training_that_outlived_snakemake_is_not_trained_again(outlived, twin, changed):
    weights = sha256_of_folder(next(twin.path("checkpoints/small/seed-1").glob("*/result/model")))
    another_target(twin, outlived)
    a_failing_job(twin, outlived)
    done = twin.snakemake("models", config=outlived)
    assert done.returncode == 0, done.stdout
    assert "after Snakemake had gone: its result is taken" in done.stdout
    assert sha256_of_folder(twin.path("results/small/seed-1/model")) == weights
    assert len(attempts(twin)) == 1 and not twin.path("checkpoints").exists()
    assert twin.would_run(changed, "models") == set()
    changed["runs"]["small"]["training"]["learning_rate"] = 2e-3
    assert "train" in twin.would_run(changed)


def test_a_stage_that_outlived_snakemake_is_waited_for(twin, finished):
    stage, target = "prepare_questions", RECORDS
    twin.path(target).unlink()
    first = Run(twin, target, PYTHONPATH=str(PRELOADED), QA_AT_WRITING=f"{stage} stop")
    assert first.until(lambda: any(process.status() == "stopped" for process in first.stages(stage)))
    (script,) = first.stages(stage)
    first.process.kill()
    first.process.wait()
    assert twin.snakemake("--unlock").returncode == 0
    second = Run(twin, target)
    try:
        waits = f"waiting for their results: {stage} "
        assert second.until(lambda: waits in second.output.read_text()), second.output.read_text()
        assert f"(process {script.pid})" in second.output.read_text() and not second.stages()
        script.resume()
        assert second.process.wait() == 0, second.output.read_text()
    finally:
        script.kill() if script.is_running() else None
        second.kill_tree() if second.process.poll() is None else None
    assert results_of(twin) == results_of(finished) and not leftovers(twin)


def test_ctrl_c_saves_the_training_and_the_next_call_goes_on_there(twin, changed):
    training = {"max_steps": 600, "learning_rate": 1e-3}
    changed["runs"] = {"small": changed["runs"]["small"] | {"training": training, "checkpoints": {"every_steps": 100}}}
    config = twin.configure(changed, "longer.yaml")
    terminal = Project(twin.folder, ["env", "--default-signal=INT", *twin.prefix])
    run = Run(terminal, "models", config=config)
    assert run.until(lambda: list(twin.path("checkpoints/small/seed-1").glob("*/checkpoint-100/complete.json")))
    before = len(run.output.read_text())
    os.killpg(run.process.pid, signal.SIGINT)
    assert run.process.wait() == 1
    printed = run.output.read_text()[before:]
    step = re.search(r"stopped at step ([\d,]+) of 600", printed)[1]
    assert len(printed.splitlines()) < 12 and "Traceback" not in printed and "Error" not in printed, printed
    done = twin.snakemake("models", config=config)
    assert done.returncode == 0, done.stdout
    assert f"train small seed-1 continues at step {step}," in done.stdout
    assert [attempt["resumed_at_step"] for attempt in attempts(twin)] == [0, int(step.replace(",", ""))]


def test_a_result_whose_record_snakemake_lost_is_noted_if_it_is_of_these_settings(twin, changed):
    """As a SLURM job leaves it: the files whole, no longer marked as incomplete, and no record of their params."""
    files = [f"results/small/seed-1/{name}" for name in ("model", "training.csv", "manifest.json")]
    cleaned = twin.snakemake("--cleanup-metadata", *files, config=None)
    assert cleaned.returncode == 0, cleaned.stdout
    twin.path("results/summary.csv").unlink()
    changed["runs"]["small"]["training"] = {"max_steps": 3}
    done = twin.snakemake("results/summary.csv", config=twin.configure(changed, "other.yaml"))
    assert "train small seed-1: its settings are not recorded" in done.stdout
    twin.path("results/summary.csv").unlink()
    done = twin.snakemake("results/summary.csv")
    assert done.returncode == 0, done.stdout
    assert "train small seed-1: process" in done.stdout and "its result is used" in done.stdout
    assert "train" in twin.would_run(changed)


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
    code, printed = finished.dry_run("-n", "results/other/seed-1-latest/mills/validation/n_best/metrics.json")
    assert code == 1 and "no whole checkpoint there" in printed
