"""Which jobs of an earlier call count as still at work: by SLURM, or by their very process on this node."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from hooks import leftover_jobs
from qa.jobs import slurm
from qa.jobs.job_records import JobRecord, _process


@pytest.fixture
def script(tmp_path):
    """A process with the command line of a stage's script."""
    path = tmp_path / "tmpx.predict.py"
    path.write_text("input()")
    process = subprocess.Popen([sys.executable, path], stdin=subprocess.PIPE)
    yield process
    process.communicate()


def record(process: str, **changes) -> JobRecord:
    stated = {"node": os.uname().nodename, "rule": "predict", "log": "logs/predict/a.log"} | changes
    return JobRecord(wildcards={}, started="2026-05-01T00:00:00+00:00", process=process, **stated)


def test_the_process_of_a_stage_on_this_node_is_at_work_until_it_ends(script):
    made = record(_process(script.pid))
    assert leftover_jobs._at_work(made)
    script.communicate()
    assert not leftover_jobs._at_work(made)


def test_another_process_that_has_its_number_now_is_not_waited_for(script):
    number, start = _process(script.pid).split(":")
    assert not leftover_jobs._at_work(record(f"{number}:{int(start) - 1}"))
    assert not leftover_jobs._at_work(record(_process(script.pid), rule="train"))
    assert not leftover_jobs._at_work(record(_process(os.getpid())))


def test_a_process_of_another_node_is_not_looked_for_here(script):
    assert not leftover_jobs._at_work(record(_process(script.pid), node="elsewhere"))


def test_a_process_in_an_allocation_counts_by_itself_and_a_job_of_its_own_by_slurm(script, monkeypatch):
    monkeypatch.setattr(slurm, "state_of", lambda job: "RUNNING")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert leftover_jobs._at_work(record(_process(script.pid), slurm={"job": "7"}))
    assert not leftover_jobs._at_work(record("1:1", slurm={"job": "7"}))
    assert leftover_jobs._at_work(record("1:1", slurm={"job": "9"}))


def test_a_job_that_went_back_into_the_queue_is_waited_for(monkeypatch, capsys):
    made = record("1:1", state="interrupted", rule="train", slurm={"job": "9"})
    states = ["PENDING", "RUNNING", "COMPLETED"]
    monkeypatch.setattr(leftover_jobs.job_records, "read", lambda: [made])
    monkeypatch.setattr(slurm, "state_of", lambda job: states.pop(0))
    monkeypatch.setattr(leftover_jobs, "PAUSE", 0.0)
    leftover_jobs._wait({made.log})
    assert not states and "waiting for their results: train (SLURM job 9)" in capsys.readouterr().err


def test_rules_whose_records_snakemake_lost_are_named():
    """As where somebody removed .snakemake, or copied results without it."""

    def job(rule, output=("f",)):
        return SimpleNamespace(rule=SimpleNamespace(name=rule), output=output)

    jobs = [job("train"), job("score"), job("score"), job("predict"), job("report"), job("all", ())]
    dag = SimpleNamespace(jobs=jobs, needrun=lambda job: job.rule.name == "predict")
    has = SimpleNamespace(has_metadata=lambda job: job.rule.name == "report")
    workflow = SimpleNamespace(dag=dag, persistence=has)
    assert "no record of the settings of score, train, since .snakemake was" in leftover_jobs.unrecorded(workflow)
    assert leftover_jobs.unrecorded(workflow, ["score", "train"]) == ""
