"""What each job asks of SLURM, read back from it, by the profile and by each set-up of profiles/slurm/README.md."""

import copy
import re
import subprocess
from collections.abc import Iterator

import pytest
import yaml

from chain import CONFIG, ROOT, Project, copy_of
from cluster import wait_for
from on_slurm import ClusterProject, copied, on_cluster
from qa.config import settings, stages

PARTITIONS = ("any", "cpu", "gpu")
KEYS = ("Partition", "TresPerJob", "NumCPUs", "MinMemoryNode", "TimeLimit", "NumNodes", "NumTasks")
TOKENIZE = ("any", None, "4", "8000M", "01:00:00", "1-1", "1")
TRAIN = ("any", "gres:gpu:a100:1", "4", "24000M", "03:00:00", "1-1", "1")
PREDICT = ("any", "gres:gpu:a100_2g.10gb:1", "2", "12000M", "01:00:00", "1-1", "1")
EXPECTED = {
    "the profile alone": (TOKENIZE, TRAIN, PREDICT),
    "Narval": (TOKENIZE, TRAIN, PREDICT),
    "Rorqual, Nibi": (
        TOKENIZE,
        ("any", "gres:gpu:h100:1", *TRAIN[2:]),
        ("any", "gres:gpu:h100_1g.10gb:1", *PREDICT[2:]),
    ),
    "Fir": (
        TOKENIZE,
        ("any", "gres:gpu:h100:1", *TRAIN[2:]),
        ("any", "gres:gpu:nvidia_h100_80gb_hbm3_1g.10gb:1", "1", *PREDICT[3:]),
    ),
    "Any SLURM with partitions": (
        ("cpu", *TOKENIZE[1:]),
        ("gpu", "gres:gpu:1", *TRAIN[2:]),
        ("gpu", "gres:gpu:1", *PREDICT[2:]),
    ),
    "Slices of GPUs (MIG) only": (
        TOKENIZE,
        ("any", "gres:gpu:a100_3g.20gb:1", *TRAIN[2:]),
        ("any", "gres:gpu:a100_1g.5gb:1", "1", *PREDICT[3:]),
    ),
}


def set_ups() -> dict[str, str]:
    """The shell text of each set-up of the README, by its heading."""
    text = (ROOT / "profiles/slurm/README.md").read_text()
    section = text[text.index("## Set-ups") : text.index("### Mail")]
    return dict(re.findall(r"^### (.+?)$.*?```bash\n(.*?)```", section, re.M | re.S))


@pytest.fixture(scope="module")
def made(cluster, tmp_path_factory) -> ClusterProject:
    """Tiny data and all that one tokenization, one training and one prediction read, made on this machine."""
    folder = copy_of(tmp_path_factory.mktemp("made")).folder
    config = copy.deepcopy(CONFIG)
    config["runs"]["small"]["seeds"] = [1, 2]
    local = Project(folder)
    local.configure(config)
    done = local.snakemake(
        "results/small/seed-1/model", "results/questions/mills/extra.parquet", "resources/models/two"
    )
    assert done.returncode == 0, done.stdout
    return on_cluster(folder, cluster)


@pytest.fixture(scope="module")
def closed(cluster) -> Iterator[None]:
    """Partitions that take jobs and start none."""
    for name in PARTITIONS:
        cluster.ask("scontrol", "update", f"partitionname={name}", "state=down")
    yield
    for name in PARTITIONS:
        cluster.ask("scontrol", "update", f"partitionname={name}", "state=up")


def submitted(project: ClusterProject, *targets: str, jobs: int) -> dict[str, dict[str, str]]:
    """The waiting jobs of a call of Snakemake, by rule; the call is ended once SLURM has them all."""
    with project.running(*targets) as snakemake:
        wait_for(lambda: len(project.jobs()) == jobs or snakemake.poll() is not None, f"{jobs} jobs queued")
    found = project.jobs()
    project.cluster.ask("scancel", *(job["JobId"] for job in found), check=False)
    assert len(found) == jobs, project.printed()
    assert {job["JobState"] for job in found} == {"PENDING"}
    return {re.match(r"rule_(\w+?)_wildcards", job["Comment"])[1]: job for job in found}


@pytest.mark.parametrize("name", EXPECTED)
def test_each_set_up_asks_slurm_for_what_the_guide_says(name, made, closed, tmp_path):
    project = copied(made, tmp_path / "project")
    if name in set_ups():
        subprocess.run(["bash", "-euc", set_ups()[name]], cwd=project.folder, check=True)
    config = yaml.safe_load(project.path("tiny.yaml").read_text())
    key = stages.windows_id(settings.resolve(config).runs["other"])
    targets = (
        f"results/windows/mills/extra/{key}",
        "results/small/seed-2/model",
        "results/small/seed-1/mills/validation/spans.parquet",
    )
    jobs = submitted(project, *targets, jobs=3)
    asked = [tuple(jobs[rule].get(key) for key in KEYS) for rule in ("tokenize_and_label", "train", "predict")]
    assert asked == list(EXPECTED[name])
    if name == "Any SLURM with partitions":
        assert jobs["train"]["Features"] == "gen3"
    for job in jobs.values():
        assert (job["Requeue"], job["Account"]) == ("1", "(null)")
        assert job["StdOut"].startswith(str(project.path("logs/slurm")))


def test_every_set_up_of_the_guide_is_tried():
    assert {"the profile alone", *set_ups()} == set(EXPECTED)


def test_light_rules_become_jobs_where_the_site_gives_them_a_walltime(made, closed, tmp_path):
    project = copied(made, tmp_path / "project")
    project.path("results/questions/mills/extra.parquet").unlink()
    project.site(prepare_questions={"runtime": "30m", "mem_mb": "8G"})
    job = submitted(project, "results/questions/mills/extra.parquet", jobs=1)["prepare_questions"]
    assert (job["TimeLimit"], job["MinMemoryNode"], job.get("TresPerJob")) == ("00:30:00", "8000M", None)
