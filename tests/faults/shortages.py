"""A small chain with every stage, and ways to take something from one of its stages: room, rights, handles, memory."""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from chain import CONFIG, Project
from killing import PRELOADED
from qa.common.files import sha256_of_file, sha256_of_folder

OWN_MOUNTS = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
DECODED_FILES = ("answers.json", "null_scores.json", "no_answer_probabilities.json", "nbest.parquet")
GROUPS = Path("/sys/fs/cgroup")
DECODED = {"decodings": ["calibrated"], "seeds": [1], "train_on": "mills/train", "evaluate_on": ["mills/validation"]}
CHAIN = CONFIG | {
    "models": {"one": {"path": "given/one"}, "bytes": {"path": "given/bytes"}},
    "decodings": {"calibrated": {"method": "n_best", "null_threshold": "calibrated"}},
    "defaults": {**CONFIG["defaults"], "hold_out": 0.45},
    "runs": {"teacher": {**DECODED, "model": "one"}, "pupil": {**DECODED, "model": "bytes", "teacher": "teacher"}},
}

VARYING = {
    "manifest.json",
    "training.csv",
    "resource_usage.csv",
    "report.html",
    "source.json",
    "state.json",
}  # tell times


@dataclass(frozen=True)
class Stage:
    """A stage of the chain: its rule, and files it makes, with wildcards of the shell's kind for what is a digest."""

    rule: str
    made: tuple[str, ...]

    def targets(self, project: Project) -> list[str]:
        """Its files in a finished chain."""
        found = [path for pattern in self.made for path in sorted(project.folder.glob(pattern))]
        assert len(found) == len(self.made), self
        return [path.relative_to(project.folder).as_posix() for path in found]


ANSWERED = "results/pupil/seed-1/mills/validation/calibrated"
STAGES = [
    Stage("download", ("resources/models/bytes",)),
    Stage("prepare_questions", ("results/questions/mills/train.parquet",)),
    Stage(
        "hold_out_calibration",
        ("results/questions/mills/train@kept-*.parquet", "results/questions/mills/train@held-out-*.parquet"),
    ),
    Stage("tokenize_and_label", ("results/windows/mills/train@kept-0.45/bytes-*",)),
    Stage("soft_targets", ("results/targets/mills/*/*/*.parquet",)),
    Stage("train", tuple(f"results/pupil/seed-1/{name}" for name in ("model", "training.csv", "manifest.json"))),
    Stage("predict", ("results/pupil/seed-1/mills/validation/spans.parquet",)),
    Stage("calibrate", tuple(f"results/pupil/seed-1/calibration/calibrated.{kind}" for kind in ("json", "parquet"))),
    Stage("postprocess", tuple(f"{ANSWERED}/{name}" for name in DECODED_FILES)),
    Stage("score", tuple(f"{ANSWERED}/{name}" for name in ("metrics.json", "question_scores.parquet"))),
    Stage(
        "analyze_errors", tuple(f"{ANSWERED}/{name}" for name in ("slices.csv", "risk_coverage.csv", "errors.parquet"))
    ),
    Stage("summarize", ("results/summary.csv",)),
    Stage("compare", ("results/comparison.csv",)),
    Stage("package", ("results/pupil/seed-1/package",)),
    Stage("resource_usage", ("results/resource_usage.csv",)),
    Stage("report", ("results/report.html", "results/figures")),
]


def copied(project: Project, folder: Path) -> Project:
    """A finished project in another place, time stamps and Snakemake's memory included."""
    shutil.copytree(project.folder, folder, symlinks=True, copy_function=shutil.copy2)
    return Project(folder, project.prefix)


def hashes(folder: Path, targets: list[str]) -> dict[str, str]:
    """SHA-256 of every file that does not tell times or machines."""
    found: dict[str, str] = {}
    for target in targets:
        path = folder / target
        of_folder = sha256_of_folder(path) if path.is_dir() else {path.name: sha256_of_file(path)}
        found |= {f"{target}/{name}": digest for name, digest in of_folder.items() if Path(name).name not in VARYING}
    return {name: digest for name, digest in found.items() if not name.endswith("README.md")}


def at_writing(stage: str, deed: str) -> dict[str, str]:
    """The environment in which something befalls one stage when it begins to write: `handles`, or a group's file."""
    return {"PYTHONPATH": str(PRELOADED), "QA_AT_WRITING": f"{stage} {deed}"}


def within_mounts(
    project: Project, prepare: str, targets: list[str], after: str = "true"
) -> subprocess.CompletedProcess:
    """Prepare mounts of its own, make targets with Snakemake, and do something after, such as to make them again."""
    again = ["--profile", project.profile, *targets, "--configfile", "tiny.yaml"]
    snakemake = shlex.join([sys.executable, "-m", "snakemake", *again])
    found = f"ls -d {shlex.join(targets)} > ls.txt 2> /dev/null"
    script = f"{prepare}\n{snakemake}\ncode=$?\n{found}\n{after.format(snakemake)}\nexit $code"
    return subprocess.run(
        [*OWN_MOUNTS, script], cwd=project.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


@contextmanager
def no_more_memory() -> Iterator[str | None]:
    """The file by which a process enters a group that the kernel kills at one page more; None without rights.

    What it holds already counts as that of the group it was in.
    """
    version_2 = (GROUPS / "cgroup.controllers").exists()
    group = (GROUPS if version_2 else GROUPS / "memory") / f"qa-faults-{os.getpid()}"
    try:
        group.mkdir()
        (group / ("memory.max" if version_2 else "memory.limit_in_bytes")).write_text("0")
    except OSError:
        yield None
        return
    try:
        yield str(group / "cgroup.procs")
    finally:
        group.rmdir()
