"""SLURM's programs for `scale_bench.py`: a cluster that is a database, with a queue for its GPUs.

    python stand_in_slurm.py PROGRAM FOLDER SECONDS [arguments of the program]

A training is no process: it waits for a free GPU, takes so many seconds of wall-clock time, and leaves a model without
content. All other jobs run on this machine, at once. There is no accounting.
"""

import argparse
import os
import re
import shlex
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

PROGRAMS = ("sbatch", "squeue", "srun", "scancel", "sinfo", "scontrol", "sacct", "sacctmgr")
ANSWER = 0.2  # seconds until sbatch answers, as a busy controller
MIN_JOB_AGE = 300  # seconds until squeue forgets an ended job
TABLES = """
    create table calls (time real, program text);
    create table gpus (number integer primary key, free_at real);
    create table jobs (id integer primary key, comment text, outputs text, submitted real, start real, end real);
"""


def connect(folder: Path) -> sqlite3.Connection:
    """The stand-in cluster's state; a transaction waits for those of other processes."""
    database = sqlite3.connect(folder / "cluster.db", timeout=60, isolation_level=None)
    database.execute("pragma synchronous = off")
    return database


def make_cluster(folder: Path, gpus: int, seconds: float) -> None:
    """A folder with SLURM's programs, and the state of an empty cluster."""
    folder.mkdir()
    with connect(folder) as database:
        database.executescript(TABLES)
        database.executemany("insert into gpus values (?, 0)", [(number,) for number in range(gpus)])
    for program in PROGRAMS:
        words = (sys.executable, "-IS", __file__, program, str(folder), str(seconds))
        (folder / program).write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
        (folder / program).chmod(0o755)


def act(program: str, folder: Path, seconds: float, arguments: list[str]) -> int:
    """Answer as one of SLURM's programs; the exit code. There is no accounting, so sacct and sacctmgr fail."""
    if program == "srun":  # in a job, not on the login node
        first = next(number for number, word in enumerate(arguments) if not word.startswith("-"))
        os.execvp(arguments[first], arguments[first:])
    database, now = connect(folder), time.time()
    database.execute("insert into calls values (?, ?)", (now, program))
    if program == "sbatch" and "--test-only" not in arguments:
        print(submit(database, folder, seconds, arguments))
    elif program == "squeue":
        print("\n".join(f"{job}|{state}" for job, state in states(database, folder, now)))
    elif program == "sinfo":
        print("gpu*" if "%P" in arguments else "gpu*|7-00:00:00|64|512000|gpu:a100:4,gpu:a100_2g.10gb:4|idle")
    elif program == "scontrol":
        print(f"MinJobAge = {MIN_JOB_AGE} sec\nMaxArraySize = 1001")
    return int(program.startswith("sacct"))


def submit(database: sqlite3.Connection, folder: Path, seconds: float, arguments: list[str]) -> int:
    """Take a job; its number. A training gets the GPU that is free first, any other job starts at once."""
    time.sleep(ANSWER)
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for option in ("--comment", "--output", "--wrap", "-D"):
        parser.add_argument(option)
    options = parser.parse_known_args(arguments)[0]
    training = re.search(r"train:run=([^,\s]+),variant=([^,'\s]+)", options.wrap)
    database.execute("begin immediate")
    now, end, outputs = time.time(), None, ""
    start = now
    if training:
        gpu, free_at = database.execute("select number, free_at from gpus order by free_at limit 1").fetchone()
        start = max(now, free_at)
        end = start + seconds
        database.execute("update gpus set free_at = ? where number = ?", (end, gpu))
        run, variant = training.groups()
        made = (f"{run}/{variant}/{name}" for name in ("model", "training.csv", "manifest.json"))
        outputs = "|".join(f"{options.D}/results/{file}" for file in (*made, f"usage/train/{run}/{variant}.tsv"))
    row = (options.comment, outputs, now, start, end)
    job = database.execute("insert into jobs values (null, ?, ?, ?, ?, ?)", row).lastrowid
    database.execute("commit")
    if not training:
        script = f"{options.wrap}\necho $? > {folder / str(job)}.code"
        with open(options.output.replace("%j", str(job)), "w") as log:
            environment = {
                **os.environ,
                "SLURM_JOB_ID": str(job),
                "OMP_WAIT_POLICY": "passive",
            }  # jobs share these cores
            command = ["sh", "-c", script]
            subprocess.Popen(command, cwd=options.D, env=environment, stdout=log, stderr=log, start_new_session=True)
    return job


def states(database: sqlite3.Connection, folder: Path, now: float) -> list[tuple[int, str]]:
    """Number and state of each job that squeue still knows. Trainings that have ended get their outputs first."""
    found = []
    database.execute("begin immediate")
    jobs = "select id, outputs, start, end from jobs where end is null or end > ?"
    for job, outputs, start, end in database.execute(jobs, (now - MIN_JOB_AGE,)).fetchall():
        code = folder / f"{job}.code"
        if not outputs and code.exists() and code.read_text().strip():
            state = "COMPLETED" if code.read_text().strip() == "0" else "FAILED"
        elif end is not None and end <= now:
            state = "COMPLETED"
            for file in map(Path, outputs.split("|")):
                file.parent.mkdir(parents=True, exist_ok=True)
                file.touch() if file.suffix else file.mkdir(exist_ok=True)
        else:
            state = "RUNNING" if start <= now else "PENDING"
        found.append((job, state))
    database.execute("commit")
    return found


if __name__ == "__main__":
    sys.exit(act(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]), sys.argv[4:]))
