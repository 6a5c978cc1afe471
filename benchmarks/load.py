"""Records, tokenize, postprocess and score at growing numbers of questions: seconds, peak memory, and the exponent.

    python benchmarks/load.py [10000 100000 1000000]
    python benchmarks/load.py --long
    python benchmarks/load.py --runs

Each stage runs in a process of its own over questions like SQuAD's (data.squad_like), with made-up spans instead of a
model's. The exponent is that of the power law through the last two numbers of questions: 1 is linear. `--long` is
one context of 200,000 words, with a question at its end; `--runs` a dry run of 20, 100 and 200 runs of five seeds.
"""

import json
import math
import os
import re
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml

import data
import measure

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "workflow" / "scripts"))

NUMBERS = (10_000, 100_000, 1_000_000)
LONG = 200_000  # words, and a few tokens more
RUNS = (20, 100, 200)
SEEDS = [1, 2, 3, 4, 5]
STAGES = ("records", "tokenize", "postprocess", "score")
WINDOWS = {"max_length": 384, "overlap": 128, "max_question_length": 64, "long_contexts": "windows", "labels": "exact"}
DECODING = {"method": "n_best", "n_best_size": 20, "max_answer_length": 30, "null_threshold": 0.0}
CANDIDATES = 20


def work(stage: str, folder: Path) -> None:
    """One stage over what the ones before it left in a folder."""
    from qa.data import prepare_questions
    from qa.decoding import postprocess
    from qa.evaluation import score
    from qa.windows import tokenize_and_label, tokenizer

    outputs = {name: str(folder / name) for name in ("answers", "null_scores", "nbest", "no_answer_probabilities")}
    records, cut, spans = folder / "records.parquet", folder / "windows", folder / "spans.parquet"
    if stage == "records":
        prepare_questions.convert([folder / "questions.json"], records)
    elif stage == "tokenize":
        tokenize_and_label.tokenize(records, tokenizer.load_tokenizer(measure.model_folder()), WINDOWS, cut)
    elif stage == "spans":
        _made_up(cut, spans)
    elif stage == "postprocess":
        postprocess.postprocess([str(spans)], records, DECODING, outputs)
    else:
        score.score(*list(outputs.values())[:3], folder / "metrics.json", folder / "question_scores.parquet")


def _made_up(cut: Path, target: Path) -> None:
    """Spans as a model's: the best places spread over each window's context."""
    from qa.model.spans import Spans
    from qa.windows.read_windows import arrow_table

    table = arrow_table(str(cut))
    begin, stop = (table.column(name).to_numpy()[:, None] for name in ("context_start", "context_stop"))
    draw, spans = np.random.default_rng(0), Spans.empty(len(begin), CANDIDATES)
    for side in ("start", "end"):
        places = begin + (draw.random((len(begin), CANDIDATES), np.float32) * (stop - begin)).astype(np.int32)
        getattr(spans, f"{side}_index")[:] = places
        getattr(spans, f"{side}_logit")[:] = -np.sort(-draw.normal(size=places.shape).astype(np.float32), axis=1)
        getattr(spans, f"row_{side}_index")[:] = places[:, 0]
        getattr(spans, f"row_{side}_logit")[:] = getattr(spans, f"{side}_logit")[:, 0]
    spans.null_score[:] = draw.normal(size=len(begin))
    spans.locate(table).write(target)


def measured(stage: str, folder: Path) -> tuple[float, float]:
    """Seconds of processor, which a busy machine hardly changes, and peak memory (GiB) of a stage in its own process.

    Memory that a file is mapped to does not count: the system takes it back when it needs it.
    """
    command = [sys.executable, __file__, "--stage", stage, str(folder)]
    told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()
    return float(told[-2]), float(told[-1])


def of_numbers(numbers: list[int]) -> None:
    """Print the table of all stages, and the exponents."""
    taken: dict[str, list[float]] = {stage: [] for stage in STAGES}
    print(f"{'questions':>10} " + " ".join(f"{stage:>22}" for stage in STAGES))
    for number in numbers:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            _write_apart(folder, number)
            cells = []
            for stage in ("records", "tokenize", "spans", "postprocess", "score"):
                seconds, memory = measured(stage, folder)
                if stage != "spans":
                    taken[stage].append(seconds)
                    cells.append(f"{seconds:9.1f} s {memory:6.2f} GiB")
            print(f"{number:>10,} " + " ".join(f"{cell:>22}" for cell in cells), flush=True)
    if len(numbers) > 1:
        ratio = math.log(numbers[-1] / numbers[-2])
        exponents = (math.log(each[-1] / each[-2]) / ratio for each in taken.values())
        print(f"{'exponent':>10} " + " ".join(f"{exponent:>22.2f}" for exponent in exponents))


def long_context() -> None:
    """Print seconds and memory of each stage for one context of LONG words."""
    sentence = "the keeper of the mill by the river was paid in oats and silver every second year "
    words = (sentence * (LONG // len(sentence.split()) + 1)).split()[:LONG]
    context = " ".join([*words, "1412"])
    question = {
        "id": "q",
        "question": "In which year?",
        "answers": [{"text": "1412", "answer_start": len(context) - 4}],
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write(folder, {"data": [{"title": "t", "paragraphs": [{"context": context, "qas": [question]}]}]})
        for stage in ("records", "tokenize", "spans", "postprocess", "score"):
            seconds, memory = measured(stage, folder)
            print(f"{stage:>12} {seconds:6.1f} s {memory:6.2f} GiB")
        print(json.loads((folder / "metrics.json").read_text())["total"], "question scored")


def of_runs(counts: tuple[int, ...] = RUNS) -> None:
    """Print the seconds of a dry run of so many runs with five seeds each."""
    shipped = yaml.safe_load((ROOT / "config" / "demo.yaml").read_text())
    taken = []
    for count in counts:
        runs = {f"run-{number}": {**shipped["runs"]["demo"], "seeds": SEEDS} for number in range(count)}
        for number, run in enumerate(runs.values()):
            run["training"] = {**run["training"], "learning_rate": 1e-5 * (number + 1)}
        with tempfile.TemporaryDirectory() as name:
            file = Path(name, "many.yaml")
            file.write_text(yaml.safe_dump({**shipped, "runs": runs}))
            command = [sys.executable, "-m", "snakemake", "-n", "--quiet", "all", "--profile", "profiles/local"]
            command += ["--directory", name, "--configfile", str(file)]
            Path(name, "resources").symlink_to(ROOT / "resources")
            before, used = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            wall, after = time.perf_counter() - before, resource.getrusage(resource.RUSAGE_CHILDREN)
            taken.append(after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime)
            print(f"{count:4} runs x {len(SEEDS)} seeds: {wall:6.1f} s, of processor {taken[-1]:6.1f} s", flush=True)
    print(f"exponent {math.log(taken[-1] / taken[-2]) / math.log(counts[-1] / counts[-2]):.2f}")


def _write(folder: Path, dataset: dict[str, Any]) -> None:
    with open(folder / "questions.json", "w", encoding="utf-8") as stream:
        json.dump(dataset, stream)


def _write_apart(folder: Path, number: int) -> None:
    """Write so many questions in a process of its own, which gives its memory back."""
    if (child := os.fork()) == 0:
        _write(folder, data.squad_like(max(number // 10, 1), number))
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


def _memory() -> float:
    """GiB of this process at the moment."""
    return int(re.search(r"RssAnon:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 2**20


def _watch(peak: list[float]) -> None:
    while True:
        peak[0] = max(peak[0], _memory())
        time.sleep(0.02)


def main(arguments: list[str]) -> None:
    """Run what the command line asks for."""
    if arguments[:1] == ["--stage"]:
        peak = [0.0]
        threading.Thread(target=_watch, args=(peak,), daemon=True).start()
        work(arguments[1], Path(arguments[2]))
        print(time.process_time(), max(peak[0], _memory()))
    elif arguments == ["--long"]:
        long_context()
    elif arguments == ["--runs"]:
        of_runs()
    else:
        of_numbers([int(number) for number in arguments] or list(NUMBERS))


if __name__ == "__main__":
    main(sys.argv[1:])
