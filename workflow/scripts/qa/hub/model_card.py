"""Model cards in the hub's format: metadata in YAML, then what a model is, its origin, its scores and its limits.

The text is `model_card.md.j2`, a Jinja template. Each value that it prints becomes one line of plain text in Markdown,
so that names from outside (licences, files, settings) are never markup; huggingface_hub escapes those in the metadata.
"""

import re
from pathlib import Path
from typing import Any

from qa.common.text import printable

TEMPLATE = Path(__file__).with_suffix(".md.j2")
UNKNOWN = "unknown"  # the hub's identifier for a licence that nobody named
LICENCE = re.compile(r"[a-z0-9][a-z0-9.+-]*")
LANGUAGE = re.compile(r"[a-z]{2,3}")
SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#~$&])")
METRICS = {"exact": ("exact_match", "Exact match"), "f1": ("f1", "F1")}


class Markdown(str):
    """Text that the template prints as it is."""


def card(
    shared: dict[str, Any],
    manifest: dict[str, Any],
    sources: dict[str, Any],
    calibrations: dict[str, dict[str, Any]],
    scores: list[dict[str, Any]],
) -> str:
    """The text of a model's README.md.

    `shared` is that of card_facts.shared, `manifest` what is known of the training, `sources` the source.json of the
    pretrained `model` and of the `datasets` by name, `calibrations` by decoding, and `scores` the contents of each
    metrics.json with its `split` and `decoding`.
    """
    from huggingface_hub import ModelCard
    from jinja2 import Environment

    environment = Environment(trim_blocks=True, lstrip_blocks=True, finalize=_text, keep_trailing_newline=True)
    environment.filters["raw"] = Markdown
    licence, licence_origin = licence_of(shared, sources["model"])
    lengths = {
        name: options["max_answer_length"]
        for name, options in shared["decodings"].items()
        if "max_answer_length" in options
    }
    weights = sources["model"].get("files", {})
    text = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        card_data=Markdown(metadata(shared, sources, scores)),
        title=title_of(shared),
        model_link=_model_link(shared["model"]),
        usage=_usage(shared, calibrations),
        interval=_interval(scores),
        score=_score,
        settings=_settings(shared, manifest),
        described=_described,
        trained_on=trained_on(shared),
        scored_splits=list(dict.fromkeys(split for split, _ in shared["scored"])),
        data_files=lambda name, source: _data_files(shared, name, source),
        weights=[(name, entry["sha256"]) for name, entry in weights.items() if name.endswith(".safetensors")],
        languages=languages_of(sources["model"]),
        longest_answer=max(lengths.values(), default=None),
        bounded=[] if lengths.keys() == shared["decodings"].keys() else list(lengths),
        versions=", ".join(f"{name} {version}" for name, version in manifest.get("versions", {}).items() if version),
        licence=licence,
        licence_origin=licence_origin,
        calibrations={name: {"unanswerable_prior": None, **found} for name, found in calibrations.items()},
        **{"shared": shared, "manifest": manifest, "sources": sources, "scores": scores},
    )
    return str(ModelCard(re.sub(r"\n{3,}", "\n\n", text)))


def title_of(shared: dict[str, Any]) -> str:
    """The model's name: its repository's, else that of its run and variant."""
    return shared["repo"].split("/")[-1] if shared["repo"] else f"{shared['run']}-{shared['variant']}"


def trained_on(shared: dict[str, Any]) -> list[str]:
    """The splits that a model was fine-tuned on, those of the runs before its own first."""
    before = [split for earlier in shared.get("before", []) for split in earlier["train_on"]]
    return list(dict.fromkeys([*before, *shared["train_on"]]))


def metadata(shared: dict[str, Any], sources: dict[str, Any], scores: list[dict[str, Any]]) -> str:
    """The metadata of a card as YAML, with a `model-index` of the scores."""
    from huggingface_hub import EvalResult, ModelCardData

    trained = [shared["datasets"][split.split("/")[0]].get("repo") for split in trained_on(shared)]
    results = []
    for row in scores:
        name, split = row["split"].split("/")
        dataset = shared["datasets"][name]
        for key, (kind, called) in METRICS.items():
            called += f" by {row['f1_by']}" if key == "f1" and "f1_by" in row else ""
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
    return [code for code in named if isinstance(code, str) and LANGUAGE.fullmatch(code)]


def _model_link(model: dict[str, Any]) -> Markdown:
    if "repo" in model:
        link = f"[{_text(model['repo'])}](https://huggingface.co/{model['repo']}) at commit {model['revision']}"
    elif "package" in model:
        link = f"{_text(model['name'])} of the Python package {_text(model['package'])}"
    else:
        link = f"a local model called {_text(model['name'])}"
    return Markdown(link)


def _usage(shared: dict[str, Any], calibrations: dict[str, Any]) -> dict[str, Any]:
    """What the card's code needs: the model's name as Python text, and the options of the first n-best decoding."""
    n_best = [name for name, options in shared["decodings"].items() if options["method"] == "n_best"]
    options = shared["decodings"][n_best[0]] | calibrations.get(n_best[0], {}) if n_best else {}
    threshold = options.get("null_threshold", 0.0)
    return {
        "name": Markdown(repr(shared["repo"] or ".")),
        "max_answer_length": options.get("max_answer_length", 30),
        "null_threshold": 0.0 if isinstance(threshold, str) else round(threshold, 4),
    }


def _interval(scores: list[dict[str, Any]]) -> str:
    """What the intervals of the scores are."""
    intervals = [row.get("interval", {}) for row in scores]
    level = intervals[0].get("level") if intervals else None
    units = sorted({str(interval.get("resampled", "questions")) for interval in intervals})
    resampled = " or, where titles name too few, ".join(units)
    return (f"{100 * level:g} % intervals, " if level else "intervals, ") + f"which resample {resampled}"


def _score(row: dict[str, Any], key: str) -> str:
    """A score with its interval; nothing where a split has no questions of that kind."""
    if key not in row:
        return ""
    low_high = row.get("intervals", {}).get(key)
    return f"{row[key]:.2f}" + (f" ({low_high[0]:.2f} to {low_high[1]:.2f})" if low_high else "")


def _settings(shared: dict[str, Any], manifest: dict[str, Any]) -> list[tuple[str, Any]]:
    """The settings of a training by name, those of a group as `group.name`."""
    counts = {key: manifest[key] for key in ("seed", "steps", "training_windows") if key in manifest}
    settings = {**manifest["settings"], **counts}
    groups = {
        "windows": shared["windows"],
        **{key: value for key, value in settings.items() if isinstance(value, dict)},
    }
    rows = [(key, value) for key, value in settings.items() if not isinstance(value, dict)]
    return rows + [(f"{group}.{key}", value) for group, values in groups.items() for key, value in values.items()]


def _described(split: str) -> str:
    """A split in words: `dataset/train`, or a share of it."""
    for mark, meaning in (("@kept-", "without the share held out, "), ("@held-out-", "the share held out of it, ")):
        if mark in split:
            whole, share = split.split(mark)
            return f"{whole} ({meaning}{100 * float(share):g}% by whole articles or contexts)"
    return split


def _data_files(shared: dict[str, Any], dataset: str, source: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Split, name and SHA-256 of each file of a data set that the run used."""
    used = [*trained_on(shared), *shared["calibrate_on"], *(split for split, _ in shared["scored"])]
    used = {split.split("@")[0] for split in used}
    return [
        (split, place.split("/")[-1].split("-", 1)[-1], source["files"][place]["sha256"])
        for split, places in source.get("splits", {}).items()
        if f"{dataset}/{split}" in used
        for place in places  # `{split}/{number}-{name}`
    ]


def _text(value: Any) -> str:
    """A value as one line of plain text in Markdown: nothing in it is markup or HTML."""
    if isinstance(value, Markdown):
        return value
    line = " ".join(printable(str(value)).split())
    return SPECIAL.sub(r"\\\1", line)
