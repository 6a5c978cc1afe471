"""The summary of failed jobs after a real run of Snakemake, whose failures have messages of several lines."""

import os
import subprocess
import sys

import pytest

from chain import ROOT

SNAKEFILE = """
import sys
sys.path.insert(0, "{scripts}")
from qa.jobs import failures
if workflow.is_main_process:
    failure_handler = failures.FailureHandler()
    logger.addHandler(failure_handler)
localrules: all, prints, raises, forgets
rule all:
    input: "prints", "raises", "forgets", "refused"
rule prints:
    output: "prints"
    log: "logs/prints/x.log"
    shell: "printf 'first line\\nsecond line, not indented\\n' >&2; exit 1"
rule raises:
    output: "raises"
    log: "logs/raises/x.log"
    run: raise WorkflowError("first line\\nsecond line, not indented")
rule forgets:
    output: "forgets"
    log: "logs/forgets/x.log"
    shell: "true"
rule refused:
    output: "refused"
    log: "logs/refused/x.log"
    shell: "true"
onerror:
    print(failure_handler.summary(workflow.scheduler.failed))
"""
REFUSAL = "sbatch: error: the limit of this account\nBatch job submission failed"


@pytest.fixture
def commands(tmp_path):
    """A folder with SLURM's commands: sbatch refuses in two lines, all others print nothing."""
    folder = tmp_path / "commands"
    folder.mkdir()
    for name in ("sbatch", "squeue", "sacct", "sacctmgr", "scontrol", "scancel", "sinfo"):
        text = f"echo '{REFUSAL}' >&2; exit 1" if name == "sbatch" else "exit 0"
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    return folder


def test_every_failure_is_told_whatever_the_shape_of_its_message(tmp_path, commands):
    (tmp_path / "Snakefile").write_text(SNAKEFILE.replace("{scripts}", str(ROOT / "workflow/scripts")))
    command = [sys.executable, "-m", "snakemake", "--executor", "slurm", "--jobs", "2", "--keep-going"]
    command += ["--slurm-init-seconds-before-status-checks", "1", "--latency-wait", "1"]
    environment = {**os.environ, "PATH": f"{commands}:{os.environ['PATH']}"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    text = done.stdout
    assert "4 jobs failed:" in text, text + done.stderr
    assert all(f"\n{rule} x: failed\n" in text for rule in ("prints", "raises", "forgets", "refused"))
    first, second = REFUSAL.splitlines()
    assert f"'{first}\n      | {second}'" in text
    assert "some output files are missing" in text
