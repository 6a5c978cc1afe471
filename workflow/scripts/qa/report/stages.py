"""Settings and software: each run as configured, the commit of the workflow, and the package versions."""

from typing import Any

from qa.config.settings import as_yaml
from qa.report import page
from qa.report.figures import Figures
from qa.report.results import Results


def section(results: Results, figures: Figures) -> page.Section:
    """Each run as it was configured, the decodings, and the versions of the software, one row for equal versions."""
    settings = [(name, as_yaml(run.model_dump())) for name, run in results.config.all_runs.items()]
    decodings = as_yaml({name: decoding.model_dump() for name, decoding in results.config.decodings.items()})
    models: dict[str, tuple[list[str], dict[str, Any]]] = {}
    for model in results.models:
        manifest = results.manifest(model)
        commit = (manifest["git_commit"] or "unknown")[:10] + " with changes" * bool(manifest["git_dirty"])
        packages = {"commit of this workflow": commit, **manifest["versions"]}
        models.setdefault(repr(sorted(packages.items())), ([], packages))[0].append(model.name)
    versions = [(", ".join(names), packages) for names, packages in models.values()]
    body = page.render("stages.html", settings=settings, decodings=decodings, versions=versions)
    return page.Section("stages", "Settings and software", body)
