"""`qa status` beside a real run: while a training is at work, after it was killed, and once all is done."""

import copy
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from chain import CONFIG

# loaded by every Python with this folder on its path: a progress line after each step, so that nobody waits for one
OFTEN = "import qa.common.progress\n\nqa.common.progress.EVERY = 0\n"


@pytest.fixture
def training(twin):
    """Snakemake at a training that takes long, beside the test; killed with what it started, at the latest."""
    config = copy.deepcopy(CONFIG)
    config["runs"]["other"]["training"] = {"max_steps": 100_000}
    twin.configure(config)
    often = twin.path("often")
    often.mkdir()
    (often / "sitecustomize.py").write_text(OFTEN)
    path = os.pathsep.join([str(often), str(twin.path("workflow/scripts"))])
    command = [sys.executable, "-m", "snakemake", "--profile", twin.profile, "results/other/seed-1/model"]
    with open(twin.path("printed.txt"), "w") as stream:
        snakemake = subprocess.Popen(
            [*command, "--configfile", "tiny.yaml"],
            cwd=twin.folder,
            env={**os.environ, "PYTHONPATH": path},
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield snakemake
    finally:
        if snakemake.poll() is None:
            os.killpg(snakemake.pid, signal.SIGKILL)
        snakemake.wait()


def trainings(project):
    """The trainings that the status names, by run."""
    return {job["run"]: job for job in json.loads(project.status("--json"))["jobs"] if job["stage"] == "train"}


def test_a_training_at_work_shows_its_progress_and_once_it_is_killed_that(training, twin):
    end = time.monotonic() + 240
    while not (job := trainings(twin)["other"])["progress"]:
        assert training.poll() is None and time.monotonic() < end, twin.path("printed.txt").read_text()
        time.sleep(0.5)
    assert job["state"] == "running" and job["progress"]["total"] == 100_000 and job["progress"]["done"] > 0
    assert job["progress"]["label"] == "train" and job["progress"]["unit"] == "steps" and job["progress"]["rate"] > 0
    text = twin.status()
    assert f"running  process {job['process']}" in text and "/100,000 steps, " in text
    assert "    log: logs/train/other/seed-1.log" in text

    os.kill(int(job["process"]), signal.SIGKILL)
    assert training.wait(900) != 0
    text = twin.status()
    assert "0 running, 0 queued, 1 failed" in text and f"killed  process {job['process']}" in text
    assert "      | " in text and "/100,000 steps" in text
    printed = twin.path("printed.txt").read_text()
    assert "train other, seed-1: killed" in printed and "most likely for memory" in printed
    assert printed.count("/100,000 steps, ") > 1 and "it/s" not in printed


def test_a_finished_chain_is_told_in_a_line_a_stage(finished):
    lines = finished.status().splitlines()
    jobs = {line.split()[0]: line.split()[1] for line in lines[3:]}
    assert lines[0].startswith("0 running, 0 queued, 0 failed, ")
    assert jobs["train"] == "2" and jobs["tokenize_and_label"] == "4" and jobs["score"] == "3"
    assert trainings(finished).keys() == {"small", "other"}


def test_before_anything_ran_the_status_says_so(finished, tmp_path):
    shutil.copytree(finished.path("workflow"), tmp_path / "workflow")
    command = [sys.executable, "-m", "qa", "status"]
    environment = {**os.environ, "PYTHONPATH": "workflow/scripts"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "no job has begun or is queued here\n" and done.stderr == ""


def test_no_librarys_progress_bar_is_in_the_terminal_or_a_log(finished):
    texts = [finished.path("first-run.txt").read_text()]
    texts += [log.read_text() for log in finished.path("logs").rglob("*.log")]
    assert len(texts) > 20
    assert not [line for text in texts for line in text.splitlines() if "it/s" in line or "%|" in line]
