"""Packages: a fine-tuned model as a folder to share, with its card and the settings of its answers.

`README.md` is the card (`qa.hub.model_card`). `qa_settings.json` has the settings that `qa.reader` uses:

    windows       how questions and contexts become rows of tokens
    prediction    precision, padding, batch size, candidates
    decodings     by name, the run's first one first; with `null_threshold` and `temperature` where calibrated
"""

import logging
from pathlib import Path
from typing import Any

from qa.common.errors import InputError
from qa.common.files import link, read_json, write_json, written_aside
from qa.hub import model_card

SETTINGS, CARD, PACKAGE = "qa_settings.json", "README.md", "package"
SOURCE = "source.json"

log = logging.getLogger(__name__)


def describe(folder: str | Path, shared: dict[str, Any], manifest: dict[str, Any], pretrained: str | Path) -> None:
    """Add settings and a card without scores to a model that has just been trained.

    `shared` is that of card_facts.shared, `manifest` what is known of the training. The same training writes the same
    bytes on any machine. A calibrated decoding has no threshold yet.
    """
    folder = Path(folder)
    sources = {"model": _source(Path(pretrained)), "datasets": {}}
    write_json(folder / SETTINGS, _settings(shared, {}))
    _write_card(folder, shared, manifest, sources, {}, [])


def package(model: str | Path, shared: dict[str, Any], files: dict[str, Any], target: str | Path) -> None:
    """Make a self-contained folder of a fine-tuned model, which can be asked, moved, mailed and published.

    Weights and tokenizer are hard links to those of `model`, or copies where the file system has none. Links take no
    room, and stay when the results are deleted. `files` are the paths of `manifest`, `pretrained`, `datasets`,
    `metrics` and `calibrations` (see card_facts.needs_of_package).
    """
    calibrations = {
        name: read_json(file) for name, file in zip(shared["calibrated"], files["calibrations"], strict=True)
    }
    scores = [
        {"split": split, "decoding": decoding, **read_json(file)}
        for (split, decoding), file in zip(shared["scored"], files["metrics"], strict=True)
    ]
    datasets = {name: _source(Path(folder)) for name, folder in zip(shared["datasets"], files["datasets"], strict=True)}
    sources = {"model": _source(Path(files["pretrained"])), "datasets": datasets}
    with written_aside(target, directory=True) as aside:
        for path in sorted(Path(model).iterdir()):
            if path.is_file() and not path.name.startswith(".") and path.name not in (SETTINGS, CARD):
                link(path, aside / path.name)
        write_json(aside / SETTINGS, _settings(shared, calibrations))
        _write_card(aside, shared, read_json(files["manifest"]), sources, calibrations, scores)
    log.info(f"{target}: {sum(1 for _ in Path(target).iterdir())} files to share")


def _settings(shared: dict[str, Any], calibrations: dict[str, Any]) -> dict[str, Any]:
    decodings = {}
    for name, decoding in shared["decodings"].items():
        found = calibrations.get(name)
        own = {key: found[key] for key in ("null_threshold", "temperature")} if found else {}
        decodings[name] = {**decoding, **own}
    return {
        "run": shared["run"],
        "variant": shared["variant"],
        "windows": shared["windows"],
        "prediction": shared["prediction"],
        "decodings": decodings,
    }


def _write_card(folder: Path, *known: Any) -> None:
    text = model_card.card(*known)
    with written_aside(folder / CARD) as aside:
        aside.write_text(text, encoding="utf-8")


def _source(folder: Path) -> dict[str, Any]:
    """What is recorded of a download; nothing where there is no record."""
    try:
        return read_json(folder / SOURCE)
    except InputError:
        return {}
