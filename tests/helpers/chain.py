"""The workflow copied to a folder of its own, with tiny data, and run there as a user runs it."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

import tiny
from dry_runs import dry_run

ROOT = Path(__file__).parents[2]
PARTS = ["Snakefile", "workflow", "profiles", "config", "envs"]
WITHOUT_NETWORK = ["unshare", "--user", "--map-root-user", "--net"]

CONFIG = {
    "models": {"one": {"path": "given/one"}, "two": {"path": "given/two"}},
    "datasets": {"mills": {"splits": {name: f"given/{name}.json" for name in ("train", "validation", "extra")}}},
    "decodings": {
        "n_best": {"method": "n_best", "null_threshold": 0.0},
        "walkthrough": {"method": "walkthrough"},
    },
    "defaults": {
        "hold_out": 0,
        "windows": {"max_length": 96, "overlap": 16, "max_question_length": 24},
        "training": {"max_steps": 2, "batch_size": 4},
    },
    "runs": {
        "small": {
            "model": "one",
            "train_on": "mills/train",
            "validate_on": "mills/validation",
            "evaluate_on": ["mills/validation"],
            "decodings": ["n_best", "walkthrough"],
            "seeds": [1],
        },
        "other": {
            "model": "two",
            "train_on": "mills/extra",
            "evaluate_on": ["mills/validation"],
            "decodings": ["n_best"],
            "seeds": [1],
        },
    },
}

# what no file may say again, where everybody who runs a job has it
SECRETS = {
    "HF_TOKEN": "hf_marker_of_a_secret",
    "EMAIL": "marker@of.an.address",
    "GIT_AUTHOR_EMAIL": "marker@of.an.address",
}
SECRETS |= {"GIT_COMMITTER_EMAIL": "marker@of.an.address", "SBATCH_MAIL_USER": "marker@of.an.address"}

CALIBRATED = {"method": "n_best", "null_threshold": "calibrated"}
TRAINED = {"train_on": "mills/train", "evaluate_on": ["mills/validation"], "decodings": ["n_best"], "seeds": [1]}

# seeds and tokenizers that answer together, thresholds from questions held out, a pupil, two splits at once in a run
# that goes on from another
QUALITY = CONFIG | {
    "models": {"one": {"path": "given/one"}, "bytes": {"path": "given/bytes"}},
    "decodings": {**CONFIG["decodings"], "calibrated": CALIBRATED},
    "defaults": {**CONFIG["defaults"], "hold_out": 0.45},
    "runs": {
        "seeded": {**TRAINED, "model": "one", "seeds": [1, 2], "decodings": ["calibrated", "n_best"]},
        "bytes": {**TRAINED, "model": "bytes", "evaluate_on": ["mills/validation", "mills/extra"]},
        "team": {
            "ensemble": ["seeded", "bytes/seed-1"],
            "evaluate_on": ["mills/validation"],
            "decodings": ["calibrated", "n_best"],
        },
        "seeds": {"ensemble": ["seeded"], "evaluate_on": ["mills/validation"], "decodings": ["n_best"]},
        "pupil": {**TRAINED, "model": "bytes", "teacher": "team"},
        "joint": {
            **TRAINED,
            "model": {"run": "seeded"},
            "train_on": ["mills/train", "mills/extra"],
            "hold_out": 0,
        },
    },
}


@dataclass
class Project:
    """A working directory with the workflow in it."""

    folder: Path
    prefix: list[str] = field(default_factory=list)
    profile: str = "profiles/local"

    def path(self, *parts: str) -> Path:
        return self.folder.joinpath(*parts)

    def configure(self, config: dict[str, Any], name: str = "tiny.yaml") -> str:
        self.path(name).write_text(yaml.safe_dump(config))
        return name

    def snakemake(self, *arguments: str, config: str | None = "tiny.yaml", umask: int = -1, **environment: str) -> Any:
        """Run Snakemake as a user does; the result has returncode, stdout and stderr in one text.

        `umask` is that of the user, -1 for the one here.
        """
        command = [*self.prefix, sys.executable, "-m", "snakemake", "--profile", self.profile, *arguments]
        if config:
            command += ["--configfile", config]
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "PYTEST_", "COV_"))}
        return subprocess.run(
            command,
            cwd=self.folder,
            env={**kept, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=3600,
            umask=umask,
        )

    def status(self, *arguments: str, **environment: str) -> str:
        """What `qa status` prints."""
        command = [sys.executable, "-m", "qa", "status", *arguments]
        paths = {"PYTHONPATH": str(self.path("workflow/scripts"))}
        variables = {**os.environ, **paths, **environment}
        return subprocess.run(
            command, cwd=self.folder, env=variables, capture_output=True, text=True, timeout=3600, check=True
        ).stdout

    def dry_run(self, *arguments: str, config: str | None = "tiny.yaml", **environment: str) -> tuple[int, str]:
        """Exit code and output of a call of Snakemake that runs no job, as arguments or a mistake have it."""
        files = ("--configfile", config) if config else ()
        return dry_run(self.folder, "--profile", self.profile, *arguments, *files, **environment)

    def would_run(self, config: dict[str, Any] | None = None, *arguments: str) -> set[str]:
        """Rules that a dry run would run; the target rule `all` left out."""
        name = self.configure(config, "changed.yaml") if config else "tiny.yaml"
        code, printed = self.dry_run("-n", *arguments, config=name)
        assert code == 0, printed
        if "Nothing to be done" in printed:
            return set()
        table = printed.split("Job stats:")[-1].split("total")[0]
        return set(re.findall(r"^(\w+) +\d+$", table, re.M)) - {"all"}


def copy_of(folder: Path) -> Project:
    """The workflow's files and the tiny data in a new folder."""
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, folder / part, ignore=shutil.ignore_patterns("__pycache__", "default"))
        else:
            shutil.copy(source, folder)
    texts = [p["context"] + p["qas"][0]["question"] for p in tiny.squad(30)["data"][0]["paragraphs"]]
    for name, family in {"one": tiny.word_piece, "two": tiny.word_piece, "bytes": tiny.byte_level_bpe}.items():
        tiny.save_model(folder / "given" / name, texts, family=family)
    for name, questions in {"train": 14, "validation": 10, "extra": 8}.items():
        tiny.write_squad(folder / "given" / f"{name}.json", questions=questions, prefix=name)
    asked = tiny.squad(10, prefix="validation")["data"][0]["paragraphs"]
    given = {paragraph["qas"][0]["id"]: "about 1412" for paragraph in asked}
    (folder / "given" / "answers.json").write_text(json.dumps(given))
    project = Project(folder)
    project.configure(CONFIG)
    return project
