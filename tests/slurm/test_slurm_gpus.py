"""A training on two GPUs of one node, and on one GPU each of two nodes, beside the same on a single one."""

import copy
import csv
import json

import pytest

from chain import CONFIG
from on_slurm import ClusterProject

TRAINING = {"max_steps": 6, "batch_size": 4}
RUNS = {"single": {}, "wide": {"gpus": 2}, "far": {"nodes": 2}}


@pytest.fixture(scope="module")
def trained(project) -> ClusterProject:
    config = copy.deepcopy(CONFIG)
    config["models"]["one"]["overrides"] = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    run = config["runs"]["small"] | {"checkpoints": {"log_every_steps": 1}}
    config["runs"] = {name: {**run, "training": {**TRAINING, **more}} for name, more in RUNS.items()}
    project.site(jobs={"slurm_partition": "gpu"})
    for runs, site in ((["single", "wide"], {}), (["far"], {"mpi": "srun", "tasks": 2})):
        if site:
            project.site(jobs={"slurm_partition": "gpu"}, train=site)
        targets = [f"results/{name}/seed-1/model" for name in runs]
        # the profile's retries count: on a slow machine the processes of two nodes may not find each other in time
        done = project.snakemake(*targets, config=project.configure(config))
        assert done.returncode == 0, done.stdout
    return project


def losses(project: ClusterProject, run: str) -> list[float]:
    with open(project.path("results", run, "seed-1/training.csv"), newline="") as stream:
        rows = list(csv.DictReader(stream))
    return [float(row[key]) for row in rows for key in ("loss", "validation_loss") if row[key]]


@pytest.mark.parametrize("run", ["wide", "far"])
def test_the_losses_are_those_of_a_single_gpu_within_rounding(run, trained):
    assert losses(trained, run) == pytest.approx(losses(trained, "single"), rel=1e-4)
    manifest = json.loads(trained.path("results", run, "seed-1/manifest.json").read_text())
    assert manifest["gpus"] == 2 and manifest["attempts"][-1]["outcome"] == "completed"


@pytest.mark.parametrize(
    ("run", "request_"),
    [
        ("single", ("gres:gpu:a100:1", "1", "1", "4")),
        ("wide", ("gres:gpu:a100:2", "1", "1", "8")),
        ("far", ("gres:gpu:a100:2", "2", "2", "8")),
    ],
)
def test_the_job_asks_for_its_gpus_nodes_tasks_and_cpus(run, request_, trained):
    job = trained.jobs("train", f"_{run}_")[-1]
    assert (job["TresPerJob"], job["NumNodes"], job["NumTasks"], job["NumCPUs"]) == request_
