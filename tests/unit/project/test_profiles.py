"""The SLURM profile: what each job asks for, the user's own file, and the set-ups of its README, each dry-run."""

import copy
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from chain import CONFIG, ROOT, Project, copy_of

pytest.importorskip("snakemake_executor_plugin_slurm", reason="the SLURM executor of Snakemake is not installed")

README = (ROOT / "profiles/slurm/README.md").read_text(encoding="utf-8")
SETUPS = {
    heading: command
    for heading, text in re.findall(r"^##+ (.+)\n([^#](?:.*\n)*?)(?=^##|\Z)", README, re.M)
    for command in re.findall(r"^```bash\n(.*?)^```", text, re.M | re.S)
}
JOBS = {"train", "predict", "tokenize_and_label"}


@dataclass
class Job:
    """A job as a dry run prints it."""

    rule: str
    threads: int
    resources: dict[str, str]


@dataclass
class Site:
    """A project whose dry runs print resources, and the user's own file."""

    project: Project

    def write(self, text: str) -> None:
        self.project.path("profiles/default").mkdir(exist_ok=True)
        self.project.path("profiles/default/config.yaml").write_text(text)

    def dry_run(self, *arguments: str) -> str:
        return self.project.snakemake("-n", "--cores", "64", *arguments).stdout

    def python(self, code: str, *arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-c", code, *arguments], cwd=self.project.folder, capture_output=True, text=True
        )

    def jobs(self, *arguments: str) -> dict[str, Job]:
        """One job of each rule in a dry run of everything."""
        printed = self.dry_run(*arguments)
        assert "This was a dry-run" in printed, printed
        found = {}
        for _, rule, block in re.findall(r"^( *)(?:local)?rule (\w+):\n((?:\1    .*\n)+)", printed, re.M):
            resources = re.search(r"resources: (.*)", block)[1]
            threads = re.search(r"threads: (\d+)", block)
            found[rule] = Job(
                rule,
                int(threads[1]) if threads else 1,
                dict(part.split("=", 1) for part in re.split(r", (?=\w+=)", resources)),
            )
        return found


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The workflow without the rules' messages, in place of which a dry run then prints their resources."""
    project = copy_of(tmp_path_factory.mktemp("profile"))
    project.profile = "profiles/slurm"
    for file in project.path("workflow/rules").glob("*.smk"):
        file.write_text(re.sub(r"^    message:\n.*\n", "", file.read_text(), flags=re.M))
    return project


@pytest.fixture
def site(shared: Project) -> Iterator[Site]:
    shutil.rmtree(shared.path("profiles/default"), ignore_errors=True)
    yield Site(shared)
    shutil.rmtree(shared.path("profiles/default"), ignore_errors=True)


@pytest.fixture(scope="module")
def shipped(shared: Project) -> dict[str, Job]:
    """The jobs of the profile as it is shipped."""
    shutil.rmtree(shared.path("profiles/default"), ignore_errors=True)
    return Site(shared).jobs()


def test_without_an_own_file_jobs_ask_for_what_the_walkthrough_did_but_for_less_memory(
    shipped: dict[str, Job],
) -> None:
    train, predict = shipped["train"], shipped["predict"]
    assert train.threads == 4
    assert {key: train.resources[key] for key in ("gpu", "gpu_model", "nodes", "runtime", "mem_mb")} == {
        "gpu": "1",
        "gpu_model": "a100",
        "nodes": "1",
        "runtime": "180",
        "mem_mb": "24000",
    }
    assert predict.resources["gpu_model"] == "a100_2g.10gb"
    assert "gpu_model" not in shipped["tokenize_and_label"].resources
    assert all("slurm_account" not in job.resources for job in shipped.values())


def test_exactly_the_jobs_ask_for_walltime_memory_and_one_node(shipped: dict[str, Job]) -> None:
    assert {rule for rule, job in shipped.items() if "runtime" in job.resources} == JOBS
    for rule in JOBS:
        assert int(shipped[rule].resources["runtime"]) >= 60  # minutes
        assert int(shipped[rule].resources["mem_mb"]) >= 4000
        assert shipped[rule].resources["nodes"] == "1"


def test_every_time_of_the_profile_has_a_unit() -> None:
    times = re.findall(r"^ +runtime: (\S+)", (ROOT / "profiles/slurm/config.yaml").read_text(), re.M)
    assert len(times) == len(JOBS)
    assert all(re.fullmatch(r"\d+[mhd]", time) for time in times)


OWN = """
default-resources: {slurm_partition: all, slurm_extra: "--mail-type=BEGIN,END --mail-user=you@example.org"}
set-threads: {train: 6}
set-resources:
  train: {slurm_partition: gpu, runtime: 12:00:00, gpu_model: h100}
  postprocess: {runtime: 1h}
"""


def test_the_own_file_and_the_command_line_win_value_by_value_and_the_others_stay(site: Site) -> None:
    site.write(OWN)
    jobs = site.jobs("--set-resources", "train:runtime=2h", "--set-threads", "tokenize_and_label=3")
    train, predict, tokenize = jobs["train"], jobs["predict"], jobs["tokenize_and_label"]
    names = ("gpu_model", "runtime", "mem_mb", "slurm_partition")
    assert [train.resources[name] for name in names] == ["h100", "120", "36000", "gpu"]  # 6 GB for each of 6 CPUs
    assert [predict.resources[name] for name in names] == ["a100_2g.10gb", "60", "12000", "all"]
    assert (train.threads, predict.threads, tokenize.threads) == (6, 2, 3)
    assert predict.resources["slurm_extra"] == "--mail-type=BEGIN,END --mail-user=you@example.org"
    assert site.jobs()["train"].resources["runtime"] == "720"
    assert (jobs["postprocess"].resources["runtime"], "runtime" in jobs["score"].resources) == ("60", False)


def test_a_mistake_in_the_own_file_is_one_message_with_its_line(site: Site) -> None:
    site.write("set-resources:\n  trian: {gpu_model: h100}\n")
    assert "profiles/default/config.yaml, line 2: there is no rule `trian`; did you mean `train`?" in site.dry_run()


def test_local_runs_take_threads_of_the_own_file_and_ignore_what_is_for_slurm(site: Site, monkeypatch) -> None:
    site.write(f"jobs: 20\nretries: 3\nslurm-qos: long\n{OWN}")
    monkeypatch.setattr(site.project, "profile", "profiles/local")
    jobs = site.jobs()
    assert (jobs["train"].threads, jobs["predict"].threads) == (6, 4)
    assert "gpu_model" not in jobs["predict"].resources


# Prints what all running jobs share in a dry run.
SHOW_SHARED = """
import json, sys
from snakemake import cli
from snakemake.scheduling import job_scheduler

class Shown(job_scheduler.JobScheduler):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        print("SHARED", json.dumps({name: n for name, n in self.global_resources.items() if name[0] != "_"}))

job_scheduler.JobScheduler = sys.modules["snakemake.workflow"].JobScheduler = Shown
cli.main(sys.argv[1:])
"""


@pytest.mark.parametrize(
    ("own", "arguments", "expected"),
    [
        ("resources: {light: 2}", (), {"gpu": 1, "light": 2}),
        ("resources: [gpu=4, light=2]", ("--resources", "light=3"), {"gpu": 4, "light": 3}),
    ],
)
def test_local_runs_share_one_gpu_where_something_else_is_shared_too(own, arguments, expected, site: Site) -> None:
    site.write(own)
    done = site.python(SHOW_SHARED, "-n", "--profile", "profiles/local", "--configfile", "tiny.yaml", *arguments)
    assert json.loads(re.search("^SHARED (.*)", done.stdout, re.M)[1]) == expected, done.stderr


GPUS = {  # of train and predict, by the README's heading
    "Narval": ("a100", "a100_2g.10gb"),
    "Rorqual, Nibi": ("h100", "h100_1g.10gb"),
    "Fir": ("h100", "nvidia_h100_80gb_hbm3_1g.10gb"),
    "Any SLURM with partitions": ("", ""),
    "Slices of GPUs (MIG) only": ("a100_3g.20gb", "a100_1g.5gb"),
    "Mail when a job begins and ends": ("a100", "a100_2g.10gb"),
    "Light rules as jobs": ("a100", "a100_2g.10gb"),
    "Many runs: light rules in groups": ("a100", "a100_2g.10gb"),
    "Fewer waits: predicting in the training's job": ("a100", "a100"),
}


@pytest.mark.parametrize("heading", GPUS)
def test_a_set_up_copied_from_the_readme_into_a_shell_asks_for_its_gpus(site: Site, heading: str) -> None:
    subprocess.run(["bash", "-euc", SETUPS[heading]], cwd=site.project.folder, check=True)
    jobs = site.jobs()
    assert (jobs["train"].resources["gpu_model"], jobs["predict"].resources["gpu_model"]) == GPUS[heading]
    if heading == "Light rules as jobs":
        light = (
            "prepare_questions",
            "postprocess",
            "score",
            "analyze_errors",
            "summarize",
            "compare",
        )  # and, if asked for, others
        assert all("runtime" in jobs[rule].resources for rule in light)


# Prints the groups of a dry run, with what the executor would request for them.
SHOW_GROUPS = """
import json, sys
from snakemake import cli, dag
from snakemake.resources import GroupResources

def shown(self, update=dag.DAG.update_groups):
    update(self)
    for group in set(self._group.values()):
        rules = [job.rule.name for job in group.jobs]
        asked = GroupResources.basic_layered(group.toposorted, group.global_resources, run_local=False)
        print("GROUP", json.dumps([{rule: rules.count(rule) for rule in rules}, asked]))

dag.DAG.update_groups = shown
cli.main(sys.argv[1:])
"""


def test_the_set_up_for_many_runs_groups_a_hundred_decodings_whose_requests_are_not_added_up(site: Site) -> None:
    heading = "Many runs: light rules in groups"
    subprocess.run(["bash", "-euc", SETUPS[heading]], cwd=site.project.folder, check=True)
    config = copy.deepcopy(CONFIG)
    config["decodings"] = {f"t{i}": {"method": "n_best", "null_threshold": float(i)} for i in range(104)}
    config["runs"] = {"small": config["runs"]["small"] | {"decodings": list(config["decodings"])}}
    arguments = ("--profile", "profiles/slurm", "--configfile", site.project.configure(config, "many.yaml"))
    done = site.python(SHOW_GROUPS, "scores", "-n", "--cores", "64", *arguments)
    groups = [json.loads(line[6:]) for line in done.stdout.splitlines() if line.startswith("GROUP ")]
    found = {rules["score"]: (rules, asked) for rules, asked in groups}
    assert sorted(found) == [4, 100], done.stdout + done.stderr
    for number, (rules, asked) in found.items():
        assert rules == dict.fromkeys(("postprocess", "score", "analyze_errors"), number)
        assert (asked["_cores"], asked["mem_mb"], asked["runtime"]) == (2, 4000, 3 * number / 2)


def test_every_set_up_of_the_readme_is_tried() -> None:
    assert set(SETUPS) == set(GPUS)


def test_git_ignores_the_own_file() -> None:
    assert "/profiles/default/" in (ROOT / ".gitignore").read_text().splitlines()


def test_the_executor_accepts_every_setting_of_the_profile() -> None:
    settings = re.findall(r"^slurm-([a-z-]+):", (ROOT / "profiles/slurm/config.yaml").read_text(), re.M)
    known = subprocess.run([sys.executable, "-m", "snakemake", "--help"], capture_output=True, text=True).stdout
    assert settings
    assert [name for name in settings if f"--slurm-{name}" not in known] == []


def test_links_of_the_readme_are_all_defined_and_used() -> None:
    defined = set(re.findall(r"^\[([^\]]+)\]: http", README, re.M))
    used = set(re.findall(r"\]\[([^\]]+)\]", README))
    assert defined == used


def test_the_readme_names_files_that_exist() -> None:
    named = re.findall(r"`((?:envs|profiles)/[\w./]+)`", README)
    assert [name for name in named if not (Path(ROOT) / name).exists() and name != "profiles/default/config.yaml"] == []
