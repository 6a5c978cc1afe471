"""Start-up: what this workflow adds to Snakemake's own start, and what the light stages import."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from measure import Stage, seconds

ROOT = Path(__file__).parents[1]
PARTS = ("Snakefile", "workflow", "profiles", "config", "envs", "resources/demo")
EMPTY = "rule all:\n    input: []\n"
MODULES = {
    "postprocess": "qa.jobs.stage, qa.jobs.job_records, qa.decoding.postprocess, pyarrow.parquet",
    "score": "qa.jobs.stage, qa.jobs.job_records, qa.evaluation.score, qa.metrics.statistics, pyarrow.parquet",
}


def copies(folder: Path) -> tuple[Path, Path]:
    """A folder with this workflow, nothing made yet, and one with the same profiles and a Snakefile without jobs."""
    full, empty = folder / "full", folder / "empty"
    for part in PARTS:
        (full / part).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, full / part, ignore=shutil.ignore_patterns("__pycache__", "default"))
        else:
            shutil.copy(ROOT / part, full / part)
    empty.mkdir()
    (empty / "Snakefile").write_text(EMPTY)
    shutil.copytree(full / "profiles", empty / "profiles")
    return full, empty


def dry_run(folder: Path, *options: str) -> str:
    """What a dry run prints, as a user starts it."""
    command = [sys.executable, "-m", "snakemake", "--profile", "profiles/local", "-n", *options]
    return subprocess.run(
        command, cwd=folder, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ).stdout


def python(code: str) -> str:
    """What a Python process prints."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "workflow" / "scripts")}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True
    ).stdout


def stages(rounds: int = 5) -> list[Stage]:
    """A line for the demo's dry run, and one for the imports of each light stage."""
    with tempfile.TemporaryDirectory() as name:
        full, empty = copies(Path(name))
        demo = ("--configfile", "config/demo.yaml")
        dry_run(full, *demo)  # compiles the modules
        taken = seconds(
            {
                "full": lambda: dry_run(full, *demo),
                "empty": lambda: dry_run(empty),
                **{name: lambda modules=modules: python(f"import {modules}") for name, modules in MODULES.items()},
                "python": lambda: python("pass"),
                "torch": lambda: python("import torch, transformers"),
            },
            rounds,
        )
    found = [
        Stage(
            "start: dry run",
            "the demo's, nothing made yet",
            "s",
            None,
            None,
            taken["full"],
            taken["empty"],
            "the dry run of a Snakefile that asks for nothing, with the same profile",
        )
    ]
    for name, modules in MODULES.items():
        work = f"import of {modules} in a new process (of torch and transformers: {taken['torch']:.2f} s)"
        how = "a Python process that does nothing"
        found.append(Stage(f"start: {name}", work, "s", None, None, taken[name], taken["python"], how))
    return found
