"""A copy of the configuration for the jobs of a run, which read it when they start: hours later, on a cluster.

Snakemake gives them the paths of the configuration files. With those, a job would train with what somebody has edited
since, and Snakemake would record the settings of before.
"""

from pathlib import Path

from qa.common.files import digest_of_json, write_json

FOLDER = Path(".snakemake", "configurations")


def before_jobs(workflow, config):
    """Let the jobs read a copy of `config`, as it is now. For `onstart`, so not in dry runs and jobs."""
    if not workflow.is_main_process or workflow.touch:
        return
    copy = FOLDER.absolute() / f"{digest_of_json(config)[:16]}.json"
    write_json(copy, config)
    workflow.config_settings.configfiles = [copy]
