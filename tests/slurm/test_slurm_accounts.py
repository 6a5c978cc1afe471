"""Accounts as the Alliance has them: one asks for def-x, and def-x_gpu or def-x_cpu is meant."""

import csv

import pytest

from cluster import wait_for
from on_slurm import ClusterProject, copied

ACCOUNTING = True


@pytest.fixture(scope="module")
def accounts(cluster) -> None:
    for name in ("def-mine_gpu", "def-mine_cpu"):
        cluster.add_account(name)


@pytest.fixture(scope="module")
def finished(project, cluster, accounts) -> ClusterProject:
    """Trainings and predictions under the right account, and what all jobs used, once slurmdbd knows it."""
    done = project.snakemake("scores", SBATCH_ACCOUNT="def-mine")
    assert done.returncode == 0, done.stdout
    steps = {f"{job['JobId']}.0|COMPLETED" for job in project.jobs()}
    ask = ("sacct", "--noheader", "--parsable2", "--format=JobID,State")
    wait_for(lambda: steps <= set(cluster.ask(*ask).stdout.splitlines()), "all steps in the accounts")
    done = project.snakemake("results/resource_usage.csv", SBATCH_ACCOUNT="def-mine")
    assert done.returncode == 0, done.stdout
    return project


@pytest.mark.parametrize(
    ("rule", "account"),
    [("tokenize_and_label", "def-mine_cpu"), ("train", "def-mine_gpu"), ("predict", "def-mine_gpu")],
)
def test_the_account_of_the_environment_gets_the_ending_that_fits_the_job(rule, account, finished):
    assert {job["Account"] for job in finished.jobs(rule)} == {account}


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({"SBATCH_ACCOUNT": "def-theirs"}, ["def-theirs", "def-mine"]),
        ({"SBATCH_ACCOUNT": ""}, ["SBATCH_ACCOUNT", "def-mine"]),
    ],
)
def test_a_wrong_account_or_none_is_refused_before_anything_is_queued(environment, told, finished, cluster, tmp_path):
    project = copied(finished, tmp_path / "project")
    before = len(cluster.jobs())
    done = project.snakemake("-R", "tokenize_and_label", **environment)
    assert done.returncode != 0
    assert all(word in done.stdout for word in told)
    assert len(cluster.jobs()) == before


def test_the_table_of_resources_has_each_job_with_what_it_asked_for(finished):
    with open(finished.path("results/resource_usage.csv"), newline="") as stream:
        table = {row["job_id"]: row for row in csv.DictReader(stream) if row["job_id"]}
    asked = {"tokenize_and_label": (3600, 8000), "train": (3 * 3600, 24000), "predict": (3600, 12000)}
    for rule, (seconds, megabytes) in asked.items():
        for job in finished.jobs(rule):
            row = table[job["JobId"]]
            assert (row["rule"], row["state"].lower(), float(row["asked_seconds"])) == (rule, "completed", seconds)
            assert float(row["asked_memory_mib"]) == pytest.approx(megabytes, rel=0.05)
            assert 0 < float(row["peak_memory_mib"]) < float(row["asked_memory_mib"])
