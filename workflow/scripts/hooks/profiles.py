"""Gives Snakemake the requests of all profiles in use, instead of those of the strongest profile alone."""

import os
import sys
from pathlib import Path

from snakemake.cli import parse_set_resources, parse_set_threads
from snakemake.resources import Resources

from qa.jobs import slurm_profile
from qa.jobs.slurm_profile import Request


def merge(workflow) -> dict[str, dict[str, Request]]:
    """Merge the profiles' requests into Snakemake's settings, before the first rule; the requests of the profiles.

    What the command line gives wins. Jobs get the merged values by their own command line.
    """
    files = slurm_profile.profiles_in_use(sys.argv, dict(os.environ), Path(workflow.main_snakefile).parent)
    requests = slurm_profile.read(files)
    settings, words = workflow.resource_settings, {word.partition("=")[0] for word in sys.argv}
    entries = {key: [f"{name}={request.value}" for name, request in own.items()] for key, own in requests.items()}

    if entries["set-resources"]:
        given = settings.overwrite_resources if "--set-resources" in words else {}
        merged = parse_set_resources(entries["set-resources"])
        for rule, resources in given.items():
            merged.setdefault(rule, Resources()).update(resources)
        settings.overwrite_resources = merged
    if entries["set-threads"]:
        given = settings.overwrite_threads if "--set-threads" in words else {}
        settings.overwrite_threads = {**parse_set_threads(entries["set-threads"]), **given}
    if entries["default-resources"] and not words & {"--default-resources", "--default-res"}:
        parsed = Resources.parse(entries["default-resources"], allow_expressions=True, defaults="bare")
        settings.default_resources = parsed
    for name, limit in Resources.parse(entries["resources"], allow_expressions=False).items():
        if name not in workflow.global_resources:  # which has those of the strongest place
            workflow.register_resource(name, limit)
    for name in ("overwrite_resources", "overwrite_threads", "default_resources"):
        settings.__dict__.pop(f"_parsed_{name}", None)  # a cache
    return requests
