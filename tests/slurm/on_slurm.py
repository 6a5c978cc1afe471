"""Projects whose jobs go to a SLURM cluster."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from chain import Project
from cluster import Cluster
from qa.common.files import sha256_of_folder

QUICK = ("--slurm-init-seconds-before-status-checks", "5", "--latency-wait", "10")
NAMING = ("README.md", "qa_settings.json")  # of a model, its card and its settings


@dataclass
class ClusterProject(Project):
    """A project whose jobs go to a cluster, by the profile as it is shipped but for the pace of asking for states."""

    profile: str = "profiles/slurm"
    cluster: Cluster = field(kw_only=True)

    def snakemake(self, *arguments: str, **options: Any) -> Any:
        """Run Snakemake on the login node, as a user does."""
        return super().snakemake(*arguments, *QUICK, **{**self.cluster.environment, **options})

    def status(self, *arguments: str, **environment: str) -> str:
        """What `make status` prints on the login node."""
        return super().status(*arguments, **{**self.cluster.environment, **environment})

    @contextmanager
    def running(self, *arguments: str) -> Iterator[subprocess.Popen]:
        """Snakemake at work beside the block, killed with it at the latest."""
        command = [sys.executable, "-m", "snakemake", "--profile", self.profile, *arguments, *QUICK]
        with open(self.path("printed.txt"), "w") as stream:
            snakemake = subprocess.Popen(
                [*command, "--configfile", "tiny.yaml"],
                cwd=self.folder,
                env={**os.environ, **self.cluster.environment},
                stdout=stream,
                stderr=subprocess.STDOUT,
            )
        try:
            yield snakemake
        finally:
            snakemake.kill()
            snakemake.wait()

    def printed(self) -> str:
        """What the last Snakemake that ran beside a block has printed so far."""
        return self.path("printed.txt").read_text()

    def site(self, **values: Any) -> None:
        """Write the site's own file beside the profile."""
        self.path("profiles/slurm/site.yaml").write_text(yaml.safe_dump(values))

    def jobs(self, rule: str = "", wildcards: str = "") -> list[dict[str, str]]:
        """This project's SLURM jobs of a rule, oldest first, by the comment that the executor gives each."""
        ours = [job for job in self.cluster.jobs() if job["WorkDir"] == str(self.folder)]
        return [job for job in ours if job["Comment"].startswith(f"rule_{rule}") and wildcards in job["Comment"]]


def model_of(project: Project, run: str, variant: str) -> dict[str, str]:
    """SHA-256 of each file of a trained model, but for those that name its run."""
    hashes = sha256_of_folder(project.path("results", run, variant, "model"))
    assert {"model.safetensors", *NAMING} <= hashes.keys()
    return {name: value for name, value in hashes.items() if name not in NAMING and not name.endswith(".seal")}


def on_cluster(folder: Path, cluster: Cluster) -> ClusterProject:
    """A folder with the workflow as a project on the cluster, without the developer's own settings of his site."""
    (folder / "profiles/slurm/site.yaml").unlink(missing_ok=True)
    return ClusterProject(folder, cluster=cluster)


def copied(project: ClusterProject, folder: Path) -> ClusterProject:
    """A copy of a project, time stamps and Snakemake's memory included."""
    shutil.copytree(project.folder, folder, symlinks=True, copy_function=shutil.copy2)
    return on_cluster(folder, project.cluster)
