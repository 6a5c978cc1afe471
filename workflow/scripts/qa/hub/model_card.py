"""Model cards in the hub's format: metadata in YAML, then what a model is, where it is from, its scores and its limits.

Whatever comes from outside (licences, names of files) is one line, escaped for YAML by huggingface_hub and for Markdown
here.
"""

import re
from typing import Any

UNKNOWN = "unknown"  # as the hub calls a licence that nobody named
LICENCE = re.compile(r"[a-z0-9][a-z0-9.+-]*")
LANGUAGE = re.compile(r"[a-z]{2,3}")
SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#~$&])")
METRICS = {"exact": ("exact_match", "Exact match"), "f1": ("f1", "F1")}
COLUMNS = {"exact": "exact match", "f1": "F1", "HasAns_f1": "F1, answerable", "NoAns_f1": "F1, unanswerable"}


def card(
    shared: dict[str, Any],
    made: dict[str, Any],
    sources: dict[str, Any],
    calibrations: dict[str, dict[str, Any]],
    scores: list[dict[str, Any]],
) -> str:
    """The text of a model's README.md.

    `shared` is that of sharing.shared; `made` the manifest, or what is known of it; `sources` the source.json of the
    pretrained `model` and of the `datasets` by name; `calibrations` by decoding; `scores` the contents of each
    metrics.json with its `split` and `decoding`.
    """
    licence, whence = licence_of(shared, sources["model"])
    parts = [
        f"# {_text(title_of(shared))}",
        _summary(shared),
        "## How to use it",
        _usage(shared, calibrations),
        "## Scores",
        _scores(scores) if scores else "Not scored yet: the folder `package` beside this one has the scores.",
        "## Training",
        _training(shared, made),
        "## Data",
        _data(shared, sources),
        "## Limits",
        _limits(shared, calibrations, languages_of(sources["model"])),
        "## How it was made",
        _provenance(made),
        "## Licence",
        f"{_text(licence)} {whence}",
    ]
    return f"---\n{metadata(shared, sources, scores)}---\n\n" + "\n\n".join(parts) + "\n"


def title_of(shared: dict[str, Any]) -> str:
    """The model's name: its repository's, else that of its run and variant."""
    return shared["repo"].split("/")[-1] if shared["repo"] else f"{shared['run']}-{shared['variant']}"


def metadata(shared: dict[str, Any], sources: dict[str, Any], scores: list[dict[str, Any]]) -> str:
    """The metadata of a card as YAML, with a `model-index` of the scores."""
    from huggingface_hub import EvalResult, ModelCardData

    trained = [shared["datasets"][split.split("/")[0]].get("repo") for split in shared["train_on"]]
    results = []
    for row in scores:
        name, split = row["split"].split("/")
        dataset = shared["datasets"][name]
        for key, (kind, called) in METRICS.items():
            results.append(
                EvalResult(
                    task_type="question-answering",
                    task_name="Question answering",
                    dataset_type=dataset.get("repo", name),
                    dataset_name=name,
                    dataset_split=split,
                    dataset_revision=dataset.get("revision"),
                    metric_type=kind,
                    metric_name=f"{called} ({row['decoding']})",
                    metric_value=round(row[key], 4),
                )
            )
    language = languages_of(sources["model"])
    data = ModelCardData(
        language=language[0] if len(language) == 1 else language or None,
        license=licence_of(shared, sources["model"])[0],
        library_name="transformers",
        pipeline_tag="question-answering",
        base_model=shared["model"].get("repo"),
        datasets=list(dict.fromkeys(repo for repo in trained if repo)) or None,
        metrics=[kind for kind, _ in METRICS.values()],
        tags=["extractive-qa"],
        model_name=title_of(shared) if results else None,
        eval_results=results or None,
    )
    return data.to_yaml() + "\n"


def licence_of(shared: dict[str, Any], source: dict[str, Any]) -> tuple[str, str]:
    """The licence's identifier, and a sentence that says who named it."""
    if shared["license"]:
        return shared["license"], "(as the configuration of the run says)."
    base = source.get("license")
    if isinstance(base, str) and LICENCE.fullmatch(base):
        return base, "(that of the pretrained model's card)."
    return UNKNOWN, (
        "(neither the configuration nor the pretrained model's card names one): the terms of the pretrained model and "
        "of the training data apply."
    )


def languages_of(source: dict[str, Any]) -> list[str]:
    """The languages that the pretrained model's card names, as codes."""
    named = source.get("language") or []
    named = [named] if isinstance(named, str) else named
    return [each for each in named if isinstance(each, str) and LANGUAGE.fullmatch(each)]


def _summary(shared: dict[str, Any]) -> str:
    trained = ", ".join(map(_text, shared["train_on"]))
    taught = f", with soft targets from {_text(shared['teacher'])}" if shared["teacher"] else ""
    return (
        "A model for extractive question answering: given a question and a text, it names the stretch of the text that "
        f"answers, or says that there is none. It is {_model(shared['model'])}, fine-tuned on {trained}{taught} "
        f"(run {_text(shared['run'])}, {_text(shared['variant'])})."
    )


def _model(model: dict[str, Any]) -> str:
    if "repo" in model:
        return f"[{_text(model['repo'])}](https://huggingface.co/{model['repo']}) at commit {model['revision']}"
    if "package" in model:
        return f"{_text(model['name'])} of the Python package {_text(model['package'])}"
    return f"a local model called {_text(model['name'])}"


SNIPPET = """import torch
from transformers import AutoModelForQuestionAnswering, AutoTokenizer

name = {name}  # the repository on the hub, or the folder of this file
tokenizer = AutoTokenizer.from_pretrained(name)
model = AutoModelForQuestionAnswering.from_pretrained(name).eval()
question, context = "When was it built?", "The mill was built in 1412 by Ada Venn."
inputs = tokenizer(
    question, context, truncation="only_second", max_length={max_length},
    return_offsets_mapping=True, return_tensors="pt",
)
places = inputs.pop("offset_mapping")[0].tolist()
of_context = torch.tensor([part == 1 for part in inputs.sequence_ids(0)])
with torch.inference_mode():
    output = model(**inputs)
start, end = (
    logits[0].masked_fill(~of_context, -torch.inf) for logits in (output.start_logits, output.end_logits)
)
scores = start[:, None] + end[None, :]
allowed = torch.ones_like(scores).triu().tril({longest} - 1).bool()
scores = scores.masked_fill(~allowed, -torch.inf)
first, last = divmod(int(scores.argmax()), len(scores))
null_score = output.start_logits[0, 0] + output.end_logits[0, 0]
silent = null_score - scores[first, last] > {threshold}  # the null threshold
print("no answer" if silent else context[places[first][0] : places[last][1]])"""


def _usage(shared: dict[str, Any], calibrations: dict[str, Any]) -> str:
    decoding = next((each for each in shared["decodings"] if shared["decodings"][each]["method"] == "n_best"), None)
    how = shared["decodings"].get(decoding, {})
    threshold = calibrations.get(decoding, how).get("null_threshold", 0.0)
    snippet = SNIPPET.format(
        name=repr(shared["repo"] or "."),
        max_length=shared["windows"]["max_length"],
        longest=how.get("max_answer_length", 30),
        threshold=0.0 if isinstance(threshold, str) else round(threshold, 4),
    )
    return (
        "In a checkout of the workflow that made it, with the windows, decoding and threshold behind the scores below "
        "(they are in `qa_settings.json`):\n\n"
        "```bash\n"
        'PYTHONPATH=workflow/scripts python -m qa.ask --model DIR --context FILE "question"\n'
        "```\n\n"
        "```python\n"
        "from qa.ask import Reader\n\n"
        "answer = Reader(DIR).answer(question, context)  # text, start, end, probability, null_probability\n"
        "```\n\n"
        "With transformers alone, for contexts that fit into one row:\n\n"
        f"```python\n{snippet}\n```"
    )


def _scores(scores: list[dict[str, Any]]) -> str:
    rows = [["split", "decoding", *COLUMNS.values(), "questions"]]
    for row in scores:
        cells = [_scored(row, key) for key in COLUMNS]
        rows.append([_text(row["split"]), _text(row["decoding"]), *cells, f"{row['total']:,}"])
    intervals = [row.get("interval", {}) for row in scores]
    level = intervals[0].get("level")
    how = f"{100 * level:g} % intervals, " if level else "intervals, "
    units = sorted({_text(each.get("resampled", "questions")) for each in intervals})
    told = f"In percent, with {how}which resample {' or, where titles name too few, '.join(units)}."
    return f"{_table(rows)}\n\n{told} Exact match and F1 are those of the official SQuAD 2.0 script."


def _scored(row: dict[str, Any], key: str) -> str:
    if key not in row:
        return ""
    low_high = row.get("intervals", {}).get(key)
    return f"{row[key]:.2f}" + (f" ({low_high[0]:.2f} to {low_high[1]:.2f})" if low_high else "")


def _training(shared: dict[str, Any], made: dict[str, Any]) -> str:
    settings = {**made["settings"], "seed": made["seed"]}
    for key in ("steps", "training_windows"):
        if key in made:
            settings[key] = made[key]
    rows = [["setting", "value"]]
    groups = {"windows": shared["windows"], **{k: v for k, v in settings.items() if isinstance(v, dict)}}
    rows += [[_text(key), _text(value)] for key, value in settings.items() if not isinstance(value, dict)]
    rows += [[_text(f"{name}.{key}"), _text(value)] for name, each in groups.items() for key, value in each.items()]
    return _table(rows)


def _data(shared: dict[str, Any], sources: dict[str, Any]) -> str:
    used = [("trained on", split) for split in shared["train_on"]]
    used += [("calibrated on", split) for split in shared["calibrate_on"]]
    used += [("scored on", split) for split in dict.fromkeys(split for split, _ in shared["scored"])]
    named = {split.split("@")[0] for _, split in used}
    parts = ["\n".join(f"- {what} {_text(_split(split))}" for what, split in used)]
    for name, dataset in shared["datasets"].items():
        whence = "files of the trainer's own"
        if "repo" in dataset:
            address = f"https://huggingface.co/datasets/{dataset['repo']}"
            whence = f"[{_text(dataset['repo'])}]({address}) at commit {dataset['revision']}"
        source = sources["datasets"].get(name, {})
        licence = source.get("license")
        terms = f", licence {_text(licence)}" if licence else ""
        rows = [["split", "file", "SHA-256"]]
        for split, files in source.get("splits", {}).items():
            if f"{name}/{split}" not in named:
                continue
            rows += [[_text(split), _text(_file(place)), f"`{source['files'][place]['sha256']}`"] for place in files]
        parts.append(f"{_text(name)}: {whence}{terms}." + (f"\n\n{_table(rows)}" if len(rows) > 1 else ""))
    weights = sources["model"].get("files", {})
    hashes = [[_text(name), f"`{entry['sha256']}`"] for name, entry in weights.items() if name.endswith(".safetensors")]
    if hashes:
        parts.append("The pretrained weights:\n\n" + _table([["file", "SHA-256"], *hashes]))
    return "\n\n".join(parts)


def _split(split: str) -> str:
    """A split in words: `dataset/train`, or a share of it."""
    for mark, what in (("@kept-", "without the share held out, "), ("@held-out-", "the share held out of it, ")):
        if mark in split:
            whole, share = split.split(mark)
            return f"{whole} ({what}{float(share):.0%} by whole articles or contexts)"
    return split


def _file(place: str) -> str:
    """The name of a downloaded file: `{split}/{number}-{name}` without split and number."""
    return place.split("/")[-1].split("-", 1)[-1]


def _limits(shared: dict[str, Any], calibrations: dict[str, Any], languages: list[str]) -> str:
    windows = shared["windows"]
    limits = [
        "It only points to stretches of the text that it is given. It cannot put an answer in its own words, join "
        "several places, count, or say yes or no, and it does not know whether the text is true.",
        f"It learnt from {', '.join(map(_text, shared['train_on']))}; with other kinds of text and question it may do "
        "worse than the scores say. What those questions and the pretrained model are biased towards, it is too.",
    ]
    if languages:
        limits.append(
            f"Language: the pretrained model's card names {_text(', '.join(languages))}; nothing else was tried here."
        )
    else:
        limits.append("Language: that of the training questions; no other was tried.")
    if windows["long_contexts"] == "truncate":
        limits.append(
            f"Of a long text only the first row is read ({windows['max_length']} tokens with the question); answers "
            "that stand later are not found."
        )
    longest = [each["max_answer_length"] for each in shared["decodings"].values() if "max_answer_length" in each]
    if longest:
        limits.append(f"Answers of more than {max(longest)} tokens are never found.")
    for name, found in calibrations.items():
        prior = found.get("unanswerable_prior")
        weighted = "" if prior is None else f", weighted as if {prior:.0f} % were"
        limits.append(
            f"Silence and probabilities of decoding {_text(name)} are calibrated on {found['questions']:,} held-out "
            f"questions, {found['unanswerable']:.0f} % of them unanswerable{weighted}. Where another share is, or "
            f"other text, threshold ({found['null_threshold']:.2f}) and temperature ({found['temperature']:.2f}) may "
            "not fit."
        )
    if not calibrations:
        yet = " yet; the folder `package` beside this one has what was found" if shared["calibrated"] else ""
        limits.append(f"Its probabilities are not calibrated{yet}: they rank answers, and may well be too high.")
    return "\n".join(f"- {limit}" for limit in limits)


def _provenance(made: dict[str, Any]) -> str:
    lines = []
    if made.get("git_commit"):
        dirty = ", with changes that are not committed" if made.get("git_dirty") else ""
        lines.append(f"- workflow: commit {_text(made['git_commit'])}{dirty}")
    lines.append(f"- code of training: {_text(made['code'])} (digest)")
    if made.get("machine"):
        gpu = made["machine"].get("gpu")
        several = f"{made.get('gpus', 1)} x " if made.get("gpus", 1) > 1 else ""
        lines.append(f"- machine: {several}{_text(gpu)}" if gpu else "- machine: CPU")
    versions = ", ".join(f"{name} {version}" for name, version in made.get("versions", {}).items() if version)
    lines.append(f"- software: {_text(versions)}")
    return "\n".join(lines)


def _table(rows: list[list[str]]) -> str:
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|" + " --- |" * len(rows[0]), *lines[1:]])


def _text(value: Any) -> str:
    """A value as one line of plain text in Markdown: nothing in it is markup or HTML."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in str(value)).split())
    return SPECIAL.sub(r"\\\1", line)
