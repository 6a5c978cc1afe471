"""Results as the workflow leaves them, with made-up predictions: no model is trained, the library writes the files."""

import csv
import json
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np

from qa.common.files import write_json
from qa.config import comparisons, lineage, schema, settings, stages
from qa.data.prepare_questions import convert
from qa.decoding import given_answers
from qa.decoding.answers import Candidates, decide
from qa.decoding.postprocess import write_answers
from qa.evaluation import analyze_errors, compare, risk_coverage, score, slices, summarize
from qa.jobs import resource_usage

CANDIDATES = 8
SEED = 7
TEXT = (
    "river mill bridge keeper harvest council granite northern winter merchant copper library orchard signal treaty "
    "valley engine painter glacier harbour festival and of the in with under after before"
)
EMOJI = "The crab 🦀 and the family 👩‍👩‍👧 met Søren at 😀 the 2nd mill of \U0001d4afarn in 1412, said 東京 and مَطْحَنَة."
SHOUT = "window.hacked = true; document.title = 'hacked'"
HOSTILE = [
    f"<script>{SHOUT}</script>",
    f"</script><script>{SHOUT}</script>",
    f'"><img src=x onerror="{SHOUT}">',
    f'<svg onload="{SHOUT}">\'',
    f"javascript:{SHOUT}",
    "<!-- <script> -- & &amp; &lt;b&gt; {{ 7 * 7 }} ${7 * 7} {% raw %}",
    "__proto__",
    "constructor",
    "questions",
    "main&split=x#y/z\\ %41 100% 'quoted' \"twice\"",
    "\u202ereversed\u202c \x00 \u2028 🦀",
]


def make_results(
    folder: str | Path,
    questions: int = 60,
    runs: dict[str, list[int]] | None = None,
    hostile: bool = False,
    source: str | Path | None = None,
    decodings: tuple[str, ...] = ("n_best", "threshold_0"),
    splits: tuple[str, ...] = ("made/validation",),
    words: int = 0,
    external: tuple[str, ...] = (),
    plain: dict[str, Any] | None = None,
) -> schema.Configuration:
    """Write a whole `results/` into a folder and return the resolved configuration that it belongs to.

    `runs` are seeds by name, each later run a little better. Questions are made up, every third unanswerable, and the
    first has emoji; with `hostile` ids, titles, questions, contexts and answers are what no page should trust. `source`
    is a file of questions to take the first of instead. All `splits` have the same questions. Contexts have some 100
    words, or `words` before the gold answer. `external` runs have answers from a file: gold answers, those of every
    second question paraphrased, the first run's with probabilities. `plain` takes the place of
    `plain_config(runs, ...)`.
    """
    folder = Path(folder)
    runs = runs or {"base": [1, 2], "large": [1]}
    config = settings.resolve(plain or plain_config(runs, decodings, splits, external))
    folder.mkdir(parents=True, exist_ok=True)
    with chdir(folder):
        rows = _rows_of(source, questions) if source else _made_up(questions, hostile, words)
        records = {split: Path("results/questions", f"{split}.parquet") for split in splits}
        for file in records.values():
            _write_rows(rows, file)
        rng = np.random.default_rng(SEED)
        for name, variant in lineage.trainings(config):
            _training(name, variant, config, rng)
            for split, file in records.items():
                found = _candidates(rows, rng, skill=1.0 + 0.6 * list(runs).index(name))
                for decoding in decodings:
                    _answered(found, file, Path("results", name, variant, split, decoding), config)
        for name in external:
            for split, file in records.items():
                _taken(
                    rows, name == external[0], file, Path("results", name, "external", split, schema.AS_GIVEN), config
                )
        scored = list(lineage.scored(config))
        metrics = [f"results/{'/'.join(answers)}/metrics.json" for answers in scored]
        summarize.summarize(scored, metrics, "results/summary.csv")
        rows_of_pairs, paired = comparisons.compared(config, scored)
        files = [f"results/{'/'.join(each)}/question_scores.parquet" for each in paired]
        compare.compare(rows_of_pairs, paired, files, "results/comparison.csv")
        _resources(config)
    return config


def plain_config(
    runs: dict[str, list[int]],
    decodings: tuple[str, ...] = ("n_best", "threshold_0"),
    splits: tuple[str, ...] = ("made/validation",),
    external: tuple[str, ...] = (),
) -> dict[str, Any]:
    """The configuration of `make_results`, not resolved."""
    known = {"n_best": {"method": "n_best"}, "threshold_0": {"method": "n_best", "null_threshold": 0.0}}
    run = {"model": "tiny", "train_on": "made/train", "evaluate_on": list(splits), "decodings": list(decodings)}
    return {
        "models": {"tiny": {"repo": "someone/tiny", "revision": "0" * 40}},
        "datasets": {"made": {"splits": {name.split("/")[1]: f"{name}.json" for name in ("made/train", *splits)}}},
        "decodings": {name: known[name] for name in decodings},
        "runs": {name: {**run, "seeds": seeds} for name, seeds in runs.items()}
        | {name: {"answers": dict.fromkeys(splits, f"{name}.json")} for name in external},
    }


def _made_up(questions: int, hostile: bool, before: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(SEED)
    rows = []
    for number in range(questions):
        if number % 8 == 0:  # some questions share a context
            words = " ".join(rng.choice(TEXT.split(), int(rng.integers(60, 180))))
            far = " ".join(rng.choice(TEXT.split(), before))
            context = f"{far} {EMOJI if number == 0 else ''} In {1400 + number % 500} the {words}.".strip()
        title = f"Article {number // 40}"
        row = {"id": f"q{number:05}", "title": title, "context": context, "question": f"When was {number} built?"}
        if hostile:
            bad = HOSTILE[number % len(HOSTILE)]
            row = {"id": bad if number < len(HOSTILE) else f"{number} {bad}", "title": bad, "question": f"{bad}?"}
            row["context"] = f"{EMOJI} {bad} — {context}"
        answers = []
        if number % 3 != 2:
            gold = bad if hostile else "1412" if number < 8 else "In 1"
            place = row["context"].index(gold)
            spans = [(gold, place), (gold[1:], place + 1)][: 1 + number % 2]
            answers = [{"text": text, "answer_start": start} for text, start in spans]
        rows.append({**row, "answers": answers})
    return rows


def _rows_of(source: str | Path, questions: int) -> list[dict[str, Any]]:
    from itertools import islice

    from qa.data.prepare_questions import read

    return [
        {
            **{name: getattr(record, name) for name in ("id", "title", "context", "question")},
            "answers": [{"text": answer.text, "answer_start": answer.start} for answer in record.answers],
        }
        for record in islice(read(source), questions)
    ]


def _write_rows(rows: list[dict[str, Any]], records: Path) -> None:
    records.parent.mkdir(parents=True, exist_ok=True)
    source = Path("validation.jsonl")
    source.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    convert([source], records)


def _candidates(rows: list[dict[str, Any]], rng: np.random.Generator, skill: float) -> Candidates:
    """Spans near the gold answer and elsewhere, which score the better the greater the skill."""
    columns: list[tuple[int, int, int, float]] = []
    for number, row in enumerate(rows):
        size = len(row["context"])
        spans = {
            (a, min(size, a + int(n)))
            for a, n in zip(rng.integers(0, size - 1, 6), rng.integers(3, 30, 6), strict=True)
        }
        gold = [(a["answer_start"], a["answer_start"] + len(a["text"])) for a in row["answers"][:1]]
        near = [(max(0, start - 3), min(size, stop + 2)) for start, stop in gold]
        scored = {**{span: rng.normal(0, 2) for span in sorted(spans)}, **{span: rng.normal(skill, 2) for span in near}}
        scored |= {span: rng.normal(1 + 2 * skill, 2) for span in gold}
        best = sorted(scored, key=scored.__getitem__, reverse=True)[:CANDIDATES]
        columns += [(number, start, stop, scored[start, stop]) for start, stop in best]
    record, start, stop, score = zip(*columns, strict=True)
    null = np.array([rng.normal(1 if row["answers"] else 2 + skill, 2) for row in rows])
    places = (np.array(column, np.int64) for column in (record, start, stop))
    return Candidates(*places, np.array(score), null, 1 + np.arange(len(rows)) % 7 // 6)


def _answered(found: Candidates, records: Path, folder: Path, config: schema.Configuration) -> None:
    """All files of one set of answers, with a calibration where the decoding has one."""
    decoding = config.decodings[folder.name]
    threshold, temperature = decoding.null_threshold, 1.0
    if decoding.is_calibrated:
        threshold, temperature = -0.75, 1.5
        fit = {"log_loss_before": 0.61, "log_loss_after": 0.55}
        half = {"exact": 60.0, "f1": 64.0, "answered": 70.0}
        learnt = {"null_threshold": threshold, "temperature": temperature, "calibrated_for": "f1", "questions": 500}
        learnt |= {"articles": 20, "unanswerable": 33.0, "unanswerable_prior": None, **half}
        learnt |= {"at_threshold_0": half, "temperature_fit": fit, "intervals": {"null_threshold": [-2.125, 0.5]}}
        write_json(folder.parents[2] / "calibration" / f"{folder.name}.json", learnt)
        (folder.parents[2] / "calibration" / f"{folder.name}.parquet").touch()
    decision = decide(found, threshold, temperature)
    write_answers(found, decision, decision.null_probability, records, _files(folder))
    _scored(folder, config)


def _taken(rows: list[dict[str, Any]], sure: bool, records: Path, folder: Path, config: schema.Configuration) -> None:
    """All files of one set of answers of another system."""
    texts = [row["answers"][0]["text"] if row["answers"] else "" for row in rows]
    texts = [f"It is {text}!" if text and number % 2 else text for number, text in enumerate(texts)]
    probability = {"probability": 0.75, "null_probability": 0.125} if sure else {}
    given = [{"id": row["id"], "answer": text, **probability} for row, text in zip(rows, texts, strict=True)]
    write_json("given.json", given)
    given_answers.take("given.json", records, _files(folder))
    _scored(folder, config)


def _files(folder: Path) -> dict[str, str]:
    folder.mkdir(parents=True, exist_ok=True)
    files = {"answers": "answers.json", "null_scores": "null_scores.json", "nbest": "nbest.parquet"}
    files["no_answer_probabilities"] = "no_answer_probabilities.json"
    return {name: str(folder / file) for name, file in files.items()}


def _scored(folder: Path, config: schema.Configuration) -> None:
    files = _files(folder)
    scores = folder / "question_scores.parquet"
    run, variant, dataset, part, decoding = folder.parts[1:]
    made_with = stages.answered_with(config, run, variant, f"{dataset}/{part}", decoding)
    score.score(
        files["answers"], files["null_scores"], files["nbest"], folder / "metrics.json", scores, answered_with=made_with
    )
    slices.write_slices(scores, folder / "slices.csv")
    risk_coverage.write_risk_coverage(scores, folder / "risk_coverage.csv")
    analyze_errors.write_errors(scores, folder / "errors.parquet")


def _training(name: str, variant: str, config: schema.Configuration, rng: np.random.Generator) -> None:
    """training.csv and manifest.json of a training that was interrupted once."""
    run, folder = config.runs[name], Path("results", name, variant)
    folder.mkdir(parents=True)
    columns = "step epoch loss validation_loss calibration_exact calibration_f1 learning_rate gradient_norm"
    with open(folder / "training.csv", "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow([*columns.split(), "samples_per_second"])
        for step in range(10, 401, 10):
            loss = 4 * np.exp(-step / 120) + 0.6 + rng.normal(0, 0.08)
            held_out = (loss + 0.2, 60 + step / 40, 64 + step / 40) if step % 200 == 0 else ("", "", "")
            rate = 3e-5 * (1 - step / 400)
            writer.writerow([step, step / 200, loss, *held_out, rate, 2 + rng.random(), 20 + rng.random()])
    attempt = {"started": "2026-01-02T10:00:00+00:00", "seen": "2026-01-02T10:05:00+00:00", "slurm_job_id": "11"}
    attempt |= {"node": "node1", "pid": 1, "computed": "packed rows, attention by turns, attention dropout 0"}
    attempts = [
        {**attempt, "resumed_at_step": 0, "step": 190, "outcome": "interrupted"},
        {**attempt, "resumed_at_step": 190, "step": 400, "outcome": "completed", "slurm_job_id": "12"},
    ]
    versions = dict.fromkeys(("python", "snakemake", "transformers", "torch"), "1.2.3")
    machine = {"node": "node1", "slurm_job_id": "12", "platform": "Linux", "cpu_threads": 2}
    manifest = {
        **{"git_commit": "0" * 40, "git_dirty": False, "run": name, "variant": variant, "code": "0" * 12},
        **{"run_settings": run.model_dump(), "seed": int(variant.removeprefix("seed-")), "inputs": {}},
        "settings": stages.training(run, config),
        **{"versions": versions, "gpus": 1, "started": attempt["started"], "ended": "2026-01-02T10:11:00+00:00"},
        **{"training_windows": 1600, "peak_memory_gib": 1.2, "peak_gpu_memory_gib": 3.4, "steps": 400},
        **{"machine": machine | {"gpu": "Some GPU", "driver": "1", "cuda": "1"}, "samples_per_second": 20.3},
        **{"attempts": attempts, "attempts_seconds": 600},
    }
    write_json(folder / "manifest.json", manifest)


def _resources(config: schema.Configuration) -> None:
    """resource_usage.csv with two attempts at each training and one at each scoring."""
    same = {"attempts": 1, "attempt": 1, "state": "completed", "node": "node1", "job_id": 12, "wait_seconds": 40}
    same |= {"started": "2026-01-02T10:00:00.000+00:00", "elapsed_seconds": 300.0, "asked_seconds": 3600}
    same |= {"time_used": 0.083, "total_elapsed_seconds": 300.0, "peak_memory_mib": 900, "asked_memory_mib": 4096}
    same |= {"memory_used": 0.22, "cpus": 2, "cpus_used": 1.4, "next_mem_mb": 2048, "next_runtime_minutes": 60}
    rows = []
    for run, variant in lineage.trainings(config):
        train = {**same, "rule": "train", "run": run, "variant": variant, "attempts": 2, "gpus": 1}
        rows += [{**train, "state": "timeout", "job_id": 11}, {**train, "attempt": 2, "total_elapsed_seconds": 600.0}]
    for run, variant, split, decoding in lineage.scored(config):
        dataset, part = split.split("/")
        names = {"run": run, "variant": variant, "dataset": dataset, "split": part, "decoding": decoding}
        rows.append({**same, "rule": "score", **names})
    with open(resource_usage.TABLE, "w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, resource_usage.COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
