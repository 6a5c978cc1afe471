"""Settings and software: each run as configured, the commit of the workflow, and the package versions."""

from typing import Any

from qa.config.settings import as_yaml
from qa.report import page
from qa.report.figures import Figures
from qa.report.results import Results


def section(results: Results, figures: Figures) -> page.Section:
    """Each run as it was configured, the decodings, and the versions of the software."""
    settings = [(name, as_yaml(run.model_dump())) for name, run in results.config.all_runs.items()]
    decodings = as_yaml({name: decoding.model_dump() for name, decoding in results.config.decodings.items()})
    versions = [(model.name, _software(results.manifest(model))) for model in results.models]
    body = page.render(
        "stages.html",
        settings=settings,
        decodings=decodings,
        versions=_grouped(versions),
    )
    return page.Section("stages", "Settings and software", body)


def _software(manifest: dict[str, Any]) -> dict[str, Any]:
    commit = (manifest["git_commit"] or "unknown")[:10] + " with changes" * bool(manifest["git_dirty"])
    return {"commit of this workflow": commit, **manifest["versions"]}


def _grouped(versions: list[tuple[str, dict[str, Any]]]) -> list[tuple[str, dict[str, Any]]]:
    """The models that were trained with the same versions, their names in one row."""
    groups: dict[str, tuple[list[str], dict[str, Any]]] = {}
    for name, packages in versions:
        groups.setdefault(repr(sorted(packages.items())), ([], packages))[0].append(name)
    return [(", ".join(names), packages) for names, packages in groups.values()]
