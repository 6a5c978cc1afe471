"""Time and memory that jobs used and requested, and what to request next time: results/resource_usage.csv.

`qa usage` writes the table from all records at any time, also after a failed run.
"""

import argparse
import csv
import logging
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Any

from qa.common.files import read_json, write_csv
from qa.common.text import counted, readable_bytes, readable_seconds, text_table
from qa.jobs import job_records, slurm_accounting
from qa.jobs.job_records import JobRecord
from qa.jobs.slurm_accounting import Start

RESULTS = Path("results")
TABLE = RESULTS / "resource_usage.csv"
NAMES = ("run", "variant", "dataset", "split", "decoding")
COLUMNS = (
    *("rule", *NAMES, "item", "attempt", "attempts", "state", "job_id", "node", "submitted", "started"),
    *("wait_seconds", "elapsed_seconds", "asked_seconds", "time_used", "total_elapsed_seconds"),
    *("peak_memory_mib", "asked_memory_mib", "memory_used", "peak_gpu_memory_mib"),
    *("cpus", "cpus_used", "gpus", "next_mem_mb", "next_runtime_minutes"),
)
MEMORY_MARGIN, MEMORY_STEP = 1.25, 1024  # times the peak; MiB
TIME_MARGIN, TIME_STEP = 1.5, 15  # times the longest; minutes
LEAST_TIME = 60  # minutes: schedulers start an hour as soon as less


def _series(records: list[JobRecord], expected: Iterable[dict[str, str]] | None) -> list[list[JobRecord]]:
    """For each job the attempts at its present result, or at the next one if there is none.

    These are the attempts after the previous success that had the settings of the last attempt. `expected`: sets of
    wildcards; with it only jobs whose wildcards are a part of one of these sets.
    """
    sets = None if expected is None else [names.items() for names in expected]
    histories: dict[str, list[JobRecord]] = {}
    for record in records:
        if sets is None or any(record.wildcards.items() <= names for names in sets):
            histories.setdefault(record.log, []).append(record)
    found = []
    for history in histories.values():
        successes = [number for number, record in enumerate(history[:-1]) if record.state == "completed"]
        recent = history[successes[-1] + 1 :] if successes else history
        found.append([record for record in recent if record.fingerprint_inputs == history[-1].fingerprint_inputs])
    return found


def _rows_of(history: list[JobRecord], starts: dict[str, list[Start]] | None) -> Iterator[dict[str, Any]]:
    """The rows of one job, one an attempt, without the requests for next time."""
    settled = [job_records.settled(record, starts) for record in history]
    times = [
        (ended - record.began).total_seconds() if ended else None
        for record, (_, ended) in zip(history, settled, strict=True)
    ]
    attempts = zip(history, settled, times, strict=True)
    for number, (record, (state, _), elapsed) in enumerate(attempts, 1):
        asked, peak = record.asked, _peak_memory(record, starts)
        yield {
            "rule": record.rule,
            **{name: record.wildcards.get(name) for name in NAMES},
            "item": "/".join(value for key, value in record.wildcards.items() if key not in NAMES),
            "attempt": number,
            "attempts": len(history),
            "state": state,
            "job_id": record.job,
            "node": record.node,
            "submitted": record.slurm.get("submitted"),
            "started": record.started,
            "wait_seconds": _rounded(_wait(record)),
            "elapsed_seconds": _rounded(elapsed),
            "asked_seconds": asked.get("seconds"),
            "time_used": _share(elapsed, asked.get("seconds")),
            "total_elapsed_seconds": _rounded(sum(seconds or 0.0 for seconds in times)),
            "peak_memory_mib": _rounded(peak),
            "asked_memory_mib": _rounded(asked.get("memory_mib")),
            "memory_used": _share(peak, asked.get("memory_mib")),
            "peak_gpu_memory_mib": _rounded(record.peak_gpu_memory_mib or _workers_gpu_peak(record)),
            "cpus": asked.get("cpus"),
            "cpus_used": _share(record.cpu_seconds, elapsed),
            "gpus": asked.get("gpus"),
        }


def _wait(record: JobRecord) -> float | None:
    """Seconds in SLURM's queue."""
    times = [record.slurm.get(key) for key in ("submitted", "started")]
    if None in times:
        return None
    submitted, started = map(datetime.fromisoformat, times)
    return (started - submitted).total_seconds()


def _peak_memory(record: JobRecord, starts: dict[str, list[Start]] | None) -> float | None:
    """The greatest peak (MiB) of those known. Each can be too low: of one process alone, a sample, or not measured."""
    start = job_records.start_of(record, starts)
    peaks = [record.peak_memory_mib, start.peak_memory_mib if start else None, _benchmark_peak(record)]
    return max((peak for peak in peaks if peak), default=None)


def _benchmark_peak(record: JobRecord) -> float | None:
    """Peak memory of all processes (MiB) by Snakemake's benchmark file, if this attempt wrote it."""
    path = RESULTS / "usage" / job_records.within_logs(record.log).with_suffix(".tsv")
    try:
        if record.state != "completed" or path.stat().st_mtime < record.began.timestamp():
            return None
        with open(path, newline="", encoding="utf-8") as stream:
            return max(float(row["max_rss"]) for row in csv.DictReader(stream, delimiter="\t"))
    except (OSError, KeyError, ValueError):  # a job too short to be measured has `NA`
        return None


def _workers_gpu_peak(record: JobRecord) -> float | None:
    """Peak GPU memory (MiB) of a training in several processes, by its manifest."""
    if record.rule != "train" or record.state != "completed":
        return None
    try:
        manifest = read_json(RESULTS / record.wildcards["run"] / record.wildcards["variant"] / "manifest.json")
        return 1024 * manifest["peak_gpu_memory_gib"] or None
    except (KeyError, TypeError, ValueError):
        return None


def _rounded(value: float | None) -> float | None:
    return None if value is None else int(value) if float(value).is_integer() else round(value, 1)


def _share(part: float | None, whole: float | None) -> float | None:
    return round(part / whole, 3) if part is not None and whole else None


def next_requests(rows: list[dict[str, Any]]) -> dict[str, dict[str, int]]:
    """What to request next time, by rule: `next_mem_mb` and `next_runtime_minutes`, each if it was measured.

    Memory: 1.25 times the highest peak of the rule's attempts, or twice the request that ran out; rounded up to 1024
    MiB. Time: 1.5 times the longest job with all its attempts, rounded up to 15 minutes, at least an hour. A rule
    without a completed job has no time, and memory only if memory ran out.
    """
    requests: dict[str, dict[str, int]] = {}
    for rule in dict.fromkeys(row["rule"] for row in rows):
        own = [row for row in rows if row["rule"] == rule]
        memory = [2 * (row["asked_memory_mib"] or 0) for row in own if row["state"] == "OUT_OF_MEMORY"]
        longest = 0.0
        if any(row["state"] == "completed" for row in own):
            memory += [MEMORY_MARGIN * row["peak_memory_mib"] for row in own if row["peak_memory_mib"]]
            longest = max(row["total_elapsed_seconds"] for row in own)
        requests[rule] = {}
        if any(memory):
            requests[rule]["next_mem_mb"] = math.ceil(max(memory) / MEMORY_STEP) * MEMORY_STEP
        if longest:
            minutes = math.ceil(TIME_MARGIN * longest / 60 / TIME_STEP) * TIME_STEP
            requests[rule]["next_runtime_minutes"] = max(minutes, LEAST_TIME)
    return requests


def write(target: str | Path = TABLE, expected: Iterable[dict[str, str]] | None = None) -> list[dict[str, Any]]:
    """Write the table of all attempts, or of the attempts at `expected` jobs (see _series), and return its rows.

    Rules are in the order in which they first ran. Times of day are ISO, in UTC.
    """
    series = _series(job_records.read(), expected)
    starts = slurm_accounting.starts_of(record.job for history in series for record in history if record.job)
    rows = [row for history in series for row in _rows_of(history, starts)]
    order = list(dict.fromkeys(row["rule"] for row in sorted(rows, key=lambda row: row["started"])))
    rows.sort(
        key=lambda row: (order.index(row["rule"]), *(row[name] or "" for name in NAMES), row["item"], row["started"])
    )
    requests = next_requests(rows)
    rows = [row | requests[row["rule"]] for row in rows]
    write_csv(target, COLUMNS, rows)
    return rows


def closing_message(table_file: str | Path = TABLE) -> str:
    """Time and memory used and requested, a line a rule that requested any; empty where none did."""
    if not Path(table_file).exists():
        return ""
    with open(table_file, newline="", encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if row["asked_seconds"] or row["asked_memory_mib"]]
    if not rows:
        return ""
    heading = ("rule", "jobs", "attempts", "waited", "longest", "of requested", "memory", "of requested", "next time")
    rules = dict.fromkeys(row["rule"] for row in rows)
    table = text_table([heading, *(_cells_of_rule([row for row in rows if row["rule"] == rule]) for rule in rules)])
    return f"\nTime and memory that the jobs used, of what they had requested ({table_file}):\n\n{table}\n"


def _cells_of_rule(rows: list[dict[str, str]]) -> tuple[str, ...]:
    """One rule's row: the longest wait and attempt, the highest peak, the largest requests."""
    first = rows[0]
    requests = {
        "mem_mb": first["next_mem_mb"],
        "runtime": first["next_runtime_minutes"] and f"{first['next_runtime_minutes']}m",
    }
    return (
        first["rule"],
        str(sum(row["attempt"] == "1" for row in rows)),
        str(len(rows)),
        *(_largest(rows, f"{name}_seconds", readable_seconds) for name in ("wait", "elapsed", "asked")),
        *(_largest(rows, f"{name}_memory_mib", lambda mib: readable_bytes(mib * 2**20)) for name in ("peak", "asked")),
        ", ".join(f"{name}: {value}" for name, value in requests.items() if value),
    )


def _largest(rows: list[dict[str, str]], column: str, readable: Callable[[float], str]) -> str:
    values = [float(row[column]) for row in rows if row[column]]
    return readable(max(values)) if values else "-"


def main(arguments: Sequence[str] = ()) -> int:
    """Write the table from the records of the working directory; return the exit code."""
    description = "Write results/resource_usage.csv from the records of all jobs, and print it rule by rule."
    argparse.ArgumentParser(prog="qa usage", description=description).parse_args(arguments)
    logging.basicConfig(format="%(levelname)s %(message)s")
    if not job_records.FOLDER.is_dir():
        print(
            f"{job_records.FOLDER}: no records of jobs; run this in the folder where the workflow ran", file=sys.stderr
        )
        return 1
    rows = write()
    # by name: the digest of the stage's code leaves it out, as `stage` seals what the stage writes
    import_module("qa.common.checksums").seal([TABLE])
    print(closing_message() or f"{counted(len(rows), 'attempt')}: {TABLE}")
    return 0
