"""A thousand trainings on a stand-in cluster of 100 GPUs: what the login node does, from the first job to the last.

    python benchmarks/scale_bench.py [--runs 200] [--seeds 5] [--gpus 100] [--seconds 20] [-- options of Snakemake]

The workflow and its profile for SLURM run as they are, up to the target `models`. SLURM's programs and the trainings
are stand-ins (`stand_in_slurm.py`). The figures are written to `results/scale.json`, by size and options.
"""

import argparse
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path
from typing import Any

import psutil
import stand_in_slurm
import yaml

import measure
from startup_bench import ROOT, copies

RESULTS = Path(__file__).parent / "results" / "scale.json"


def save_small_model(folder: Path) -> None:
    """The demo's model in small, with random weights: the models of a thousand trainings must fit on this disk."""
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    source = measure.model_folder()
    size = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    config = AutoConfig.from_pretrained(source, local_files_only=True, trust_remote_code=False, **size)
    AutoModel.from_config(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(source, local_files_only=True, trust_remote_code=False).save_pretrained(folder)


def configuration(runs: int, seeds: int) -> dict[str, Any]:
    """The demo's with a small model, swept over so many learning rates."""
    shipped = yaml.safe_load((ROOT / "config" / "demo.yaml").read_text())
    rates = [round(1e-6 * (number + 1), 6) for number in range(runs)]
    run = shipped["runs"]["demo"]
    swept = {**run, "seeds": list(range(1, seeds + 1)), "training": {**run["training"], "learning_rate": rates}}
    return {**shipped, "models": {"minilm": {"path": "small"}}, "runs": {"lr": swept}}


def watched(command: list[str], folder: Path, log: Path, environment: dict[str, str]) -> dict[str, float]:
    """Run Snakemake to its end: wall-clock seconds, CPU seconds and peak memory of its process alone."""
    began = time.time()
    peak = used = 0.0
    with open(log, "w") as stream:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=stream, stderr=subprocess.STDOUT)
    try:
        login = psutil.Process(process.pid)
        while process.poll() is None:
            times = login.cpu_times()
            used = times.user + times.system or used  # none of a process that has just ended
            peak = max(peak, login.memory_info().rss / 2**30)
            time.sleep(0.5)
    finally:
        process.kill()  # SIGTERM would let the jobs end first
    if process.returncode != 0:
        sys.exit("".join(log.read_text().splitlines(keepends=True)[-40:]))
    return {"began": began, "seconds": time.time() - began, "login_cpu_seconds": used, "login_peak_gib": peak}


def figures(database: sqlite3.Connection, measured: dict[str, float], trainings: int) -> dict[str, Any]:
    """What the stand-in cluster saw of a run that took so long; exits if a training was submitted twice or never."""
    submitted = database.execute("select comment, submitted, start, end from jobs where outputs != ''").fetchall()
    if not len(submitted) == len({comment for comment, *_ in submitted}) == trainings:
        sys.exit(f"{trainings} trainings, but {len(submitted)} submissions")
    times = sorted(time for _, time, _, _ in submitted)
    first, last = times[0], times[-1]
    minutes = (measured["began"] + measured["seconds"] - first) / 60
    asked = database.execute("select program, count(*) from calls where time > ? group by program", (first,)).fetchall()
    busy = sum(end - start for *_, start, end in submitted)
    gpus = database.execute("select count(*) from gpus").fetchone()[0]
    found = {
        "seconds": measured["seconds"],
        "until_first_submission": first - measured["began"],
        "until_last_submission": last - measured["began"],
        "most_submissions_in_a_minute": max(sum(first <= time < first + 60 for time in times) for first in times),
        "gpus_busy": busy / gpus / 60 / minutes,
        "login_cpu_seconds": measured["login_cpu_seconds"],
        "login_peak_gib": measured["login_peak_gib"],
        **{f"{program}_per_minute": count / minutes for program, count in asked if program != "sbatch"},
    }
    return {name: round(value, 3) for name, value in found.items()}


def main() -> None:
    """Run a sweep on a stand-in cluster, and print and write its figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("--runs", 200), ("--seeds", 5), ("--gpus", 100), ("--seconds", 20.0)):
        parser.add_argument(name, type=type(default), default=default)
    parser.add_argument("--log", type=Path, help="keep what Snakemake prints in this file")
    parser.add_argument("snakemake", nargs="*")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work, _ = copies(Path(name))
        cluster = Path(name, "cluster")
        stand_in_slurm.make_cluster(cluster, asked.gpus, asked.seconds)
        save_small_model(work / "small")
        (work / "many.yaml").write_text(yaml.safe_dump(configuration(asked.runs, asked.seeds)))
        command = [sys.executable, "-m", "snakemake", "models", "--profile", "profiles/slurm", *asked.snakemake]
        environment = {**os.environ, "PATH": f"{cluster}:{os.environ['PATH']}", "SBATCH_ACCOUNT": "def-stand-in"}
        log = asked.log or Path(name, "log")
        measured = watched([*command, "--configfile", "many.yaml"], work, log, environment)
        found = figures(stand_in_slurm.connect(cluster), measured, asked.runs * asked.seeds)
    key = " ".join([f"{asked.runs} x {asked.seeds} on {asked.gpus} GPUs, {asked.seconds:g} s", *asked.snakemake])
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    entry = {"measured": date.today().isoformat(), "machine": measure.machine(), **found}
    RESULTS.write_text(json.dumps({**known, key: entry}, indent=2) + "\n")
    print(key, json.dumps(found, indent=2), sep="\n")


if __name__ == "__main__":
    main()
