"""The demo by the profile as it is shipped, on compute nodes without network, beside the same demo on one machine."""

import json
import re
import shutil
import sys
from pathlib import Path

import pytest

from chain import ROOT, Project, copy_of
from on_slurm import ClusterProject, copied, model_of, on_cluster

DEMO = "config/demo.yaml"
SEED = "results/demo/seed-42"
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
LIGHT += ("package", "report")


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """The workflow with the demo's data, not yet run."""
    folder = copy_of(tmp_path_factory.mktemp("source")).folder
    shutil.copytree(ROOT / "resources/demo", folder / "resources/demo")
    return folder


@pytest.fixture(scope="module")
def demo(cluster, source, tmp_path_factory) -> ClusterProject:
    """The demo after a run on the cluster."""
    project = copied(on_cluster(source, cluster), tmp_path_factory.mktemp("demo") / "project")
    refused = cluster.refused_packets()
    done = project.snakemake(config=DEMO)
    assert done.returncode == 0, done.stdout
    project.path("refused.txt").write_text(f"{refused} {cluster.refused_packets()}")
    project.path("output.txt").write_text(done.stdout)
    return project


@pytest.fixture(scope="module")
def local(cluster, source) -> Project:
    """The demo by profiles/local: that of `make demo` where it is of the present code, else a run of its own."""
    made = Project(ROOT)
    if (ROOT / SEED).exists() and "Nothing to be done" in made.snakemake("-n", config=DEMO).stdout:
        return made
    project = ClusterProject(source, profile="profiles/local", cluster=cluster)
    done = project.snakemake(config=DEMO)
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


def test_compute_nodes_have_no_network(cluster):
    before = cluster.refused_packets()
    reach = "import socket; socket.create_connection(('192.0.2.1', 443), 3)"
    job = cluster.ask("sbatch", "--parsable", "--output=/dev/null", "--wrap", f'{sys.executable} -c "{reach}"').stdout
    assert cluster.ended(job.strip())["JobState"] == "FAILED"
    assert cluster.refused_packets() > before


def test_no_job_of_the_chain_even_tried_the_network(demo):
    before, after = demo.path("refused.txt").read_text().split()
    assert before == after


def test_the_model_is_the_same_as_on_one_machine_bit_for_bit(demo, local):
    assert model_of(demo, "demo", "seed-42") == model_of(local, "demo", "seed-42")


@pytest.mark.parametrize("decoding", ["n_best", "walkthrough"])
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
    assert "Nothing to be done" in demo.snakemake("-n", config=DEMO).stdout
    assert demo.snakemake(config=DEMO).returncode == 0
    assert len(demo.jobs()) == before


def test_the_manifest_names_job_and_node(demo):
    (train,) = demo.jobs("train")
    (attempt,) = json.loads(demo.path(SEED, "manifest.json").read_text())["attempts"]
    assert (attempt["slurm_job_id"], attempt["node"]) == (train["JobId"], train["NodeList"])
