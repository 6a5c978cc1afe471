"""The demo in few steps by the profile as shipped, on compute nodes without network, beside the same on one machine.

Accounts are as the Alliance has them: one asks for def-mine, and def-mine_gpu or def-mine_cpu is meant.
"""

import csv
import json
import re
import shutil
import sys
from pathlib import Path

import pytest
import yaml

from chain import ROOT, Project, copy_of
from cluster import wait_for
from on_slurm import ClusterProject, copied, model_of, on_cluster

ACCOUNTING = True
DEMO = "short.yaml"
SEED = "results/demo/seed-42"
DECODINGS = ("n_best", "walkthrough")
ANSWERS = f"{SEED}/demo/validation"
LIGHT = (
    "download",
    "prepare_questions",
    "hold_out_calibration",
    "calibrate",
    "postprocess",
    "score",
    "analyze_errors",
    "summarize",
    "compare",
)
LIGHT += ("package", "resource_usage", "report")


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """The workflow with the demo's data, not yet run."""
    project = copy_of(tmp_path_factory.mktemp("source"))
    shutil.copytree(ROOT / "resources/demo", project.path("resources/demo"))
    config = yaml.safe_load((ROOT / "config/demo.yaml").read_text())
    run = config["runs"]["demo"]
    run["decodings"] = list(DECODINGS)
    del run["training"]["epochs"]
    run["training"]["max_steps"] = 8
    project.configure(config, DEMO)
    return project.folder


@pytest.fixture(scope="module")
def demo(cluster, source, tmp_path_factory) -> ClusterProject:
    """The demo after a run on the cluster, its last stages once slurmdbd knew what all jobs had used."""
    for name in ("def-mine_gpu", "def-mine_cpu"):
        cluster.add_account(name)
    project = copied(on_cluster(source, cluster), tmp_path_factory.mktemp("demo") / "project")
    refused = cluster.refused_packets()
    scored = project.snakemake("scores", config=DEMO, SBATCH_ACCOUNT="def-mine")
    assert scored.returncode == 0, scored.stdout
    steps = {f"{job['JobId']}.0|COMPLETED" for job in project.jobs()}
    ask = ("sacct", "--noheader", "--parsable2", "--format=JobID,State")
    wait_for(lambda: steps <= set(cluster.ask(*ask).stdout.splitlines()), "all steps in the accounts")
    done = project.snakemake("-R", "resource_usage", config=DEMO, SBATCH_ACCOUNT="def-mine")
    assert done.returncode == 0, done.stdout
    project.path("refused.txt").write_text(f"{refused} {cluster.refused_packets()}")
    project.path("output.txt").write_text(scored.stdout + done.stdout)
    return project


@pytest.fixture(scope="module")
def local(cluster, source) -> Project:
    """The scores of the same by profiles/local."""
    project = ClusterProject(source, profile="profiles/local", cluster=cluster)
    done = project.snakemake(*(f"{ANSWERS}/{decoding}/metrics.json" for decoding in DECODINGS), config=DEMO)
    assert done.returncode == 0, done.stdout
    return project


def test_tokenizing_training_and_predicting_are_jobs_and_the_rest_stays_on_the_login_node(demo):
    rules = {re.match(r"rule_(\w+?)_wildcards", job["Comment"])[1] for job in demo.jobs()}
    assert rules == {"tokenize_and_label", "train", "predict"}
    assert all(job["JobState"] == "COMPLETED" for job in demo.jobs())
    finished = set(re.findall(r"Finished jobid: \d+ \(Rule: (\w+)\)", demo.path("output.txt").read_text()))
    assert finished > {*LIGHT, *rules}


def test_training_runs_on_an_a100_and_predicting_on_a_slice_of_one(demo, cluster):
    (train,), predictions = demo.jobs("train"), demo.jobs("predict")
    assert (train["TresPerJob"], train["NodeList"]) == ("gres:gpu:a100:1", "gpu1")
    assert len(predictions) == 2  # of what is evaluated, and of what is held out to calibrate
    for predict in predictions:
        assert (predict["TresPerJob"], predict["NodeList"]) == ("gres:gpu:a100_2g.10gb:1", "mig1")
    for job in (train, *predictions):
        tasks = [task for task in cluster.tasks() if task["job"] == job["JobId"]]
        assert tasks and {task["node"] for task in tasks} == {job["NodeList"]}
        assert all(task["gpus"].isdigit() for task in tasks)


def test_tokenizing_asks_for_no_gpu(demo, cluster):
    numbers = {job["JobId"] for job in demo.jobs("tokenize_and_label")}
    tasks = [task for task in cluster.tasks() if task["job"] in numbers]
    assert tasks and {task["gpus"] for task in tasks} == {""}


def test_compute_nodes_have_no_network(demo, cluster):
    before = cluster.refused_packets()
    reach = "import socket; socket.create_connection(('192.0.2.1', 443), 3)"
    options = ("--parsable", "--account=def-mine", "--output=/dev/null", "--wrap", f'{sys.executable} -c "{reach}"')
    job = cluster.ask("sbatch", *options).stdout
    assert cluster.ended(job.strip())["JobState"] == "FAILED"
    assert cluster.refused_packets() > before


def test_no_job_of_the_chain_even_tried_the_network(demo):
    before, after = demo.path("refused.txt").read_text().split()
    assert before == after


def test_the_model_is_the_same_as_on_one_machine_bit_for_bit(demo, local):
    assert model_of(demo, "demo", "seed-42") == model_of(local, "demo", "seed-42")


@pytest.mark.parametrize("decoding", DECODINGS)
def test_answers_and_scores_are_the_same_as_on_one_machine(decoding, demo, local):
    for name in ("answers.json", "metrics.json"):
        here, there = (json.loads(p.path(ANSWERS, decoding, name).read_text()) for p in (demo, local))
        assert here == there


def test_the_history_of_training_is_the_same_as_on_one_machine(demo, local):
    here, there = (
        [line.rsplit(",", 1)[0] for line in p.path(SEED, "training.csv").read_text().splitlines()]
        for p in (demo, local)
    )
    assert here == there


def test_a_second_call_submits_nothing(demo):
    before = len(demo.jobs())
    done = demo.snakemake(config=DEMO, SBATCH_ACCOUNT="def-mine")
    assert done.returncode == 0 and "Nothing to be done" in done.stdout
    assert len(demo.jobs()) == before


def test_the_manifest_names_job_and_node(demo):
    (train,) = demo.jobs("train")
    (attempt,) = json.loads(demo.path(SEED, "manifest.json").read_text())["attempts"]
    assert (attempt["slurm_job_id"], attempt["node"]) == (train["JobId"], train["NodeList"])


@pytest.mark.parametrize(
    ("rule", "account"),
    [("tokenize_and_label", "def-mine_cpu"), ("train", "def-mine_gpu"), ("predict", "def-mine_gpu")],
)
def test_the_account_of_the_environment_gets_the_ending_that_fits_the_job(rule, account, demo):
    assert {job["Account"] for job in demo.jobs(rule)} == {account}


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({"SBATCH_ACCOUNT": "def-theirs"}, ["def-theirs", "def-mine"]),
        ({"SBATCH_ACCOUNT": ""}, ["SBATCH_ACCOUNT", "def-mine"]),
    ],
)
def test_a_wrong_account_or_none_is_refused_before_anything_is_queued(environment, told, demo, cluster):
    before = len(cluster.jobs())
    done = demo.snakemake("-R", "tokenize_and_label", config=DEMO, **environment)
    assert done.returncode != 0
    assert all(word in done.stdout for word in told)
    assert len(cluster.jobs()) == before


def test_the_table_of_resources_has_each_job_with_what_it_asked_for(demo):
    with open(demo.path("results/resource_usage.csv"), newline="") as stream:
        table = {row["job_id"]: row for row in csv.DictReader(stream) if row["job_id"]}
    asked = {"tokenize_and_label": (3600, 8000), "train": (3 * 3600, 24000), "predict": (3600, 12000)}
    for rule, (seconds, megabytes) in asked.items():
        for job in demo.jobs(rule):
            row = table[job["JobId"]]
            assert (row["rule"], row["state"].lower(), float(row["asked_seconds"])) == (rule, "completed", seconds)
            assert float(row["asked_memory_mib"]) == pytest.approx(megabytes, rel=0.05)
            assert 0 < float(row["peak_memory_mib"]) < float(row["asked_memory_mib"])
