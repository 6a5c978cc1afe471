"""The preflight as users meet it: before the first job of a real run, alone by make, and never elsewhere.

SLURM's commands are stand-ins that write down what they are asked; the real ones answer in tests/slurm.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from chain import Project
from stand_in_hub import StandInHub

REVISION = "0123456789abcdef0123456789abcdef01234567"
SINFO = "cpu*|1-00:00:00|8|64000|(null)|idle\ngpu|3:00:00|48|498000|gpu:a100:4(S:0-1),gpu:a100_2g.10gb:2|idle"
TAKEN = "sbatch: Job 2 to start at 2026-11-22T22:10:25 using 4 processors on nodes gpu1 in partition gpu"
REFUSED = "allocation failure: Invalid account or account/partition combination specified"
OWN = "default-resources: {slurm_partition: gpu, slurm_extra: --mail-type=END --mail-user=me@example.org}\n"


class Slurm:
    """Stand-ins of SLURM's commands: sbatch refuses real jobs, and takes tested ones unless told otherwise."""

    def __init__(self, project: Project, folder: Path):
        self.project, self.folder = project, folder
        project.profile = "profiles/slurm"
        self.own(OWN)
        folder.mkdir()
        for name in ("squeue", "scancel", "sacct", "scontrol", "sshare"):
            self.answer(name, "true")
        self.answer("sacctmgr", "printf 'def-prof_cpu\\ndef-prof_gpu\\n'")
        self.answer("sinfo", f"case \"$*\" in *%G*) cat <<'END'\n{SINFO}\nEND\n;; *) echo 'cpu*';; esac")
        self.answer_to_tests(TAKEN, 0)

    def own(self, text: str) -> None:
        """Write the user's own profile."""
        self.project.path("profiles/default").mkdir(exist_ok=True)
        self.project.path("profiles/default/config.yaml").write_text(text)

    def answer(self, name: str, body: str) -> None:
        path = self.folder / name
        path.write_text(f"#!/bin/sh\nprintf '%s\\n' \"{name} $*\" >> {self.folder}/asked\n{body}\n")
        path.chmod(0o755)

    def answer_to_tests(self, words: str, code: int) -> None:
        self.answer("sbatch", f"echo '{words}' >&2\ncase \"$*\" in --test-only*) exit {code};; *) exit 1;; esac")

    def asked(self, *words: str) -> list[str]:
        """What the commands were asked, as far as it begins with these words; then it is forgotten."""
        path = self.folder / "asked"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line for line in lines if line.startswith(words)]

    def run(self, *arguments: str, **options) -> subprocess.CompletedProcess:
        """A run of Snakemake, whose jobs these stand-ins refuse at the latest."""
        (self.folder / "asked").unlink(missing_ok=True)
        environment = {"PATH": f"{self.folder}:{os.environ['PATH']}", "SBATCH_ACCOUNT": "def-prof", **options}
        quick = ("--retries", "0", "--slurm-init-seconds-before-status-checks", "1")
        code, printed = self.project.dry_run(*arguments, *quick, **environment)
        return subprocess.CompletedProcess(arguments, code, printed)


@pytest.fixture
def slurm(twin, tmp_path) -> Slurm:
    """A finished project that goes to stand-ins of SLURM's commands."""
    pytest.importorskip("snakemake_executor_plugin_slurm")
    return Slurm(twin, tmp_path / "bin")


def test_a_real_run_says_once_that_nothing_stands_in_the_way(finished):
    text = finished.path("first-run.txt").read_text()
    assert text.count("Preflight") == 1 and "Preflight: no problem found" in text
    assert text.index("Job stats") < text.index("Preflight") < text.index("Downloading")


def test_all_problems_are_shown_at_once_and_nothing_is_queued_or_run(slurm):
    slurm.answer_to_tests(REFUSED, 1)
    model = slurm.project.path("resources/models/one/model.safetensors")
    model.write_bytes(model.read_bytes()[:-1])
    before = {path: path.stat().st_mtime_ns for path in slurm.project.path("results").rglob("*")}
    done = slurm.run("-R", "train", SBATCH_ACCOUNT="def-nobody")
    assert done.returncode != 0
    assert "Preflight found 2 problems; nothing was queued:" in done.stdout
    assert re.search(r"resources/models/one: model.safetensors has [\d,]+ bytes where \d+ were written", done.stdout)
    assert "account def-nobody is refused" in done.stdout and "export SBATCH_ACCOUNT=def-prof" in done.stdout
    assert "Traceback" not in done.stdout and "rule train" not in done.stdout
    assert not slurm.asked("sbatch --parsable")
    assert {path: path.stat().st_mtime_ns for path in slurm.project.path("results").rglob("*")} == before
    assert not list(slurm.project.path(".snakemake/locks").glob("*"))


def test_slurm_is_asked_for_exactly_what_is_submitted_afterwards(slurm):
    done = slurm.run("-R", "predict", "tokenize_and_label")
    assert "Preflight: no problem found" in done.stdout, done.stdout
    tested = {tuple(shlex.split(line)[2:-1]) for line in slurm.asked("sbatch --test-only")}
    (first, *_) = submitted = [shlex.split(line.split(" --wrap")[0]) for line in slurm.asked("sbatch --parsable")]
    assert len(tested) == 3 and all("me@example.org" not in " ".join(options) for options in tested)
    left_out = re.compile(r"--(parsable|export=ALL|mail-\w+=\S+|requeue)")
    for words in submitted:
        kept = [word for word in words[1:] if not left_out.fullmatch(word)]
        for option in ("--job-name", "--output", "--comment", "-D"):
            at = kept.index(option)
            del kept[at : at + 2]
        assert tuple(kept) in tested, first


def test_an_unknown_gpu_type_of_the_profile_stops_the_run(slurm):
    slurm.answer_to_tests("allocation failure: Requested node configuration is not available", 1)
    slurm.own(f"{OWN}set-resources: {{train: {{gpu_model: h100}}}}\n")
    done = slurm.run("-R", "train", "--until", "train")
    assert done.returncode != 0
    assert "SLURM, jobs of train: no GPU type h100 here; there are a100, a100_2g.10gb" in done.stdout


@pytest.mark.parametrize(
    ("request_line", "words"),
    [
        ("slurm_extra: --constraint=gen3", "is not allowed in the 'slurm_extra' parameter"),
        ("gpu_model: a100-80gb", "Invalid GPU model format: a100-80gb"),
        ("gpu: 4", "`gpu: 4` is requested, but the training uses 1: set training.gpus"),
        ("slurm_account: def-prof", "remove slurm_account, and export SBATCH_ACCOUNT=def-prof"),
    ],
)
def test_what_the_executor_would_refuse_in_mid_run_stops_the_run(request_line, words, slurm):
    slurm.own(f"set-resources: {{train: {{{request_line}}}}}\n")
    done = slurm.run("-R", "train")
    assert done.returncode == 1
    assert "SLURM, jobs of train: " in done.stdout and words in done.stdout, done.stdout
    assert not [line for line in slurm.asked("sbatch") if "--test-only" not in line]


@pytest.mark.parametrize(
    "arguments", [("-n", "-R", "train"), ("--touch",), ("--lint",), ("--dag",), ("-R", "train", "--no-hooks")]
)
def test_dry_runs_pictures_and_runs_without_hooks_ask_nothing(arguments, slurm):
    slurm.answer_to_tests(REFUSED, 1)
    done = slurm.run(*arguments)
    assert "Preflight" not in done.stdout and not slurm.asked("sbatch --test-only"), done.stdout


def test_the_preflight_can_be_turned_off(slurm):
    slurm.answer_to_tests(REFUSED, 1)
    done = slurm.run("-R", "predict", QA_PREFLIGHT="off")
    assert "Preflight" not in done.stdout and slurm.asked("sbatch --parsable")


def test_a_hub_is_asked_before_the_run_for_what_it_would_have_to_send(twin, changed):
    changed["models"]["one"] = {"repo": "some/nothing", "revision": REVISION}
    with StandInHub() as hub:
        done = twin.snakemake(config=twin.configure(changed), HF_ENDPOINT=hub.url)
    assert done.returncode != 0 and "Preflight found 1 problem" in done.stdout and "some/nothing" in done.stdout
    assert "Downloading" not in done.stdout


def qa_preflight(project: Project, **environment: str):
    """`qa preflight` as a user runs it."""
    command = [*project.prefix, sys.executable, "-m", "qa", "preflight", "--profile", project.profile]
    environment = {**os.environ, "PYTHONPATH": "workflow/scripts", **environment}
    return subprocess.run(
        [*command, "--configfile", "tiny.yaml"], cwd=project.folder, env=environment, capture_output=True, text=True
    )


def test_qa_preflight_lists_what_is_right_and_runs_nothing(slurm):
    shutil.rmtree(slurm.project.path("results/small"))
    environment = {"PATH": f"{slurm.folder}:{os.environ['PATH']}", "SBATCH_ACCOUNT": "def-prof"}
    done = qa_preflight(slurm.project, **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    for words in ("ok: Python 3", "resources/models/one", "SLURM takes the jobs of train", "free, about"):
        assert words in done.stdout
    assert "No problem found; nothing was queued.\n" in done.stdout
    assert "Job stats" not in done.stdout + done.stderr
    assert not slurm.project.path("results/small").exists() and not slurm.asked("sbatch --parsable")


def test_qa_preflight_fails_where_something_is_wrong(slurm):
    shutil.rmtree(slurm.project.path("results/small"))
    slurm.answer_to_tests(REFUSED, 1)
    environment = {"PATH": f"{slurm.folder}:{os.environ['PATH']}", "SBATCH_ACCOUNT": "def-nobody"}
    done = qa_preflight(slurm.project, **environment)
    assert done.returncode != 0 and "account def-nobody is refused" in done.stdout + done.stderr


def test_qa_preflight_says_what_is_wrong_in_the_configuration(twin, changed):
    changed["defaults"]["holdout"] = 0
    twin.configure(changed)
    done = qa_preflight(twin)
    assert done.returncode != 0 and "unknown key `holdout`" in done.stdout + done.stderr
