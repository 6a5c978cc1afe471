"""The requests of several profiles, merged; what is misspelled is refused by file and line."""

from pathlib import Path

import pytest

from qa.common.errors import InputError
from qa.jobs import slurm_profile

SITE = "set-threads: {predict: 2}\nset-resources:\n  train: {gpu_model: a100, mem_mb: threads * 6000, runtime: 3h}\n"


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Write the profiles `p` and profiles/default, and read those that a call of Snakemake would read."""
    monkeypatch.chdir(tmp_path)

    def read(own: str = "", site: str = SITE, words=("--profile", "p"), **environment: str):
        for folder, text in {"p": site, "profiles/default": own}.items():
            Path(folder).mkdir(parents=True, exist_ok=True)
            Path(folder, "config.yaml").write_text(text)
        return slurm_profile.read(slurm_profile.profiles_in_use(list(words), environment))

    return read


def values(requests, key="set-resources"):
    return {name: request.value for name, request in requests[key].items()}


def test_values_of_the_own_file_win_one_by_one(files):
    requests = files("set-threads: {train: 6}\nset-resources: {train: {runtime: 6h, slurm_partition: gpu}}\n")
    expected = {"gpu_model": "'a100'", "mem_mb": "threads * 6000", "runtime": "6h", "slurm_partition": "'gpu'"}
    assert values(requests) == {f"train:{name}": value for name, value in expected.items()}
    assert values(requests, "set-threads") == {"predict": "2", "train": "6"}


def test_a_list_is_read_like_a_mapping(files):
    requests = files("resources: [light=2]\nset-resources: ['train:slurm_extra=--gres=a:1']\n", "resources: {gpu: 1}\n")
    assert values(requests, "resources") == {"gpu": "1", "light": "2"}
    assert values(requests) == {"train:slurm_extra": "--gres=a:1"}


@pytest.mark.parametrize(
    ("words", "environment", "expected"),
    [
        (["--profile=p"], {}, ["p", "profiles/default"]),
        (["--profile", "other", "--profile", "p"], {}, ["p", "profiles/default"]),
        ([], {"SNAKEMAKE_PROFILE": "p"}, ["p", "profiles/default"]),
        (["--profile", "p", "--workflow-profile", "none"], {}, ["p"]),
        (["--workflow-profile=p"], {}, ["p"]),
        ([], {}, ["profiles/default"]),
    ],
)
def test_the_profiles_are_found_however_they_were_given(words, environment, expected, files):
    files()
    found = slurm_profile.profiles_in_use(words, environment)
    assert found == [Path(folder, "config.yaml") for folder in expected]


def test_from_another_directory_the_profiles_beside_the_snakefile_are_found(files, tmp_path, monkeypatch):
    files()
    (tmp_path / "other").mkdir()
    monkeypatch.chdir("other")  # as Snakemake does for --directory
    found = slurm_profile.profiles_in_use(["--profile", "p"], {}, tmp_path)
    assert found == [tmp_path / folder / "config.yaml" for folder in ("p", "profiles/default")]


@pytest.mark.parametrize(
    ("name", "text", "understood"),
    [
        ("runtime", "90", ("runtime", "90m")),  # a bare number: seconds for some versions of Snakemake
        ("runtime", "2d", ("runtime", "2d")),
        ("runtime", "03:00:00", ("runtime", "180m")),  # for YAML the number 10,800
        ("runtime", "1-12:00:00", ("runtime", "2160m")),
        ("runtime", "0-03:00", ("runtime", "180m")),  # days, hours and minutes, as many sites write it
        ("runtime", "1-12", ("runtime", "2160m")),
        ("runtime", "1-0", ("runtime", "1440m")),  # or 1 in Python
        ("runtime", "180 * attempt", ("runtime", "180 * attempt")),
        ("mem_mb", "9000", ("mem_mb", "9000")),
        ("mem_mb", "24G", ("mem_mb", "24000")),
        ("mem", "64000", ("mem_mb", "64000")),
        ("mem", "500M", ("mem_mb", "500")),  # beside mem_mb of another file it would be an error
        ("mem_mb", "2000 * threads", ("mem_mb", "2000 * threads")),
        ("slurm_partition", "all", ("slurm_partition", "'all'")),  # or a function of Python
        ("gpu_model", '""', ("gpu_model", "''")),
        ("gpu_model", "3090", ("gpu_model", "'3090'")),  # a number would be no name for the executor
        ("constraint", "2024-1", ("constraint", "'2024-1'")),  # or 2023
        ("slurm_extra", "--mail-type=END", ("slurm_extra", "--mail-type=END")),
    ],
)
def test_times_sizes_and_names_are_taken_as_slurm_has_them(name, text, understood, files):
    assert values(files(site=f"default-resources:\n  {name}: {text}\n"), "default-resources") == dict([understood])


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("gpumodel: h100", "there is no resource `gpumodel`; did you mean `gpu_model`?"),
        ("partition: gpu", "there is no resource `partition`; did you mean `slurm_partition`?"),
        ("time: 0-03:00", "did you mean `runtime`?"),
        ("slurm_reservation: course", "did you mean `slurm-reservation`?"),  # an option of all jobs
        ("threads: 6", "did you mean `set-threads`?"),
        ("slurm_partion: gpu", "did you mean `slurm_partition`?"),
        ("runtime: 3h * attempt", "`runtime: 3h * attempt` is no time"),
        ("runtime: 1d12h", "`runtime: 1d12h` is no time"),
        ("runtime: UNLIMITED", "`runtime: UNLIMITED` is no time"),
        ("mem: MaxMemPerNode", "`mem: MaxMemPerNode` is no amount of memory"),
        ("mem_mb: 24 gigs", "`mem_mb: 24 gigs` is no amount of memory"),
    ],
)
def test_what_is_misspelled_is_refused_by_file_and_line(line, told, files):
    with pytest.raises(InputError) as refused:
        files(f"set-resources:\n  train:\n    {line}\n")
    assert str(refused.value).startswith("profiles/default/config.yaml, line 3: ") and told in str(refused.value)


def test_a_file_of_an_earlier_version_is_not_passed_over_in_silence(files):
    files()
    Path("p/site.yaml").write_text("train: {gpu_model: h100}\n")
    with pytest.raises(InputError, match=r"p/site.yaml is no longer read: move its values to profiles/default"):
        files()


@pytest.mark.parametrize("own", ["set-resources: {trian: {runtime: 1h}}\n", "set-threads: {trian: 2}\n"])
def test_an_unknown_rule_is_refused_by_file_and_line(own, files):
    with pytest.raises(InputError, match="config.yaml, line 1: there is no rule `trian`; did you mean `train`"):
        slurm_profile.check_rules(files(own), ["train", "predict"])
