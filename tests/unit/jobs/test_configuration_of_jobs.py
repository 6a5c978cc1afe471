"""Jobs that start long after Snakemake: they read the configuration of its start, whatever has become of its file."""

from types import SimpleNamespace

import pytest
import yaml
from snakemake.api import Workflow
from snakemake.common.configfile import load_configfile
from snakemake.settings.types import ConfigSettings

from hooks import configuration
from qa.config import strict_yaml

TEXT = 'runs: {b: {learning_rate: 2.0e-5, seeds: [1]}, a: {learning_rate: 3e-5, teacher: null, note: "Größe: 1\\t"}}'


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.yaml").write_text(TEXT)
    return tmp_path / "my.yaml"


def test_jobs_read_the_configuration_of_the_start_though_its_file_was_edited(file):
    workflow = SimpleNamespace(is_main_process=True, touch=False, config_settings=ConfigSettings(configfiles=[file]))
    config = load_configfile(file)
    configuration.before_jobs(workflow, config)
    file.write_text(TEXT.replace("2.0e-5", "9.0e-5"))
    (given,) = Workflow.overwrite_configfiles.fget(workflow)  # of which Snakemake makes the command of each job
    strict_yaml.check_files([given])
    assert given.is_absolute() and load_configfile(given) == config == yaml.safe_load(TEXT)
    assert [*load_configfile(given)["runs"]] == ["b", "a"]


def test_another_configuration_leaves_the_copy_of_jobs_that_still_wait(file):
    copies = []
    for config in (load_configfile(file), {"runs": {}}):
        workflow = SimpleNamespace(is_main_process=True, touch=False, config_settings=ConfigSettings())
        configuration.before_jobs(workflow, config)
        copies += workflow.config_settings.configfiles
    assert copies[0] != copies[1] and load_configfile(copies[0]) == yaml.safe_load(TEXT)


def test_a_job_itself_copies_nothing(file):
    workflow = SimpleNamespace(is_main_process=False, touch=False, config_settings=ConfigSettings(configfiles=[file]))
    configuration.before_jobs(workflow, {})
    assert workflow.config_settings.configfiles == [file] and not configuration.FOLDER.exists()
