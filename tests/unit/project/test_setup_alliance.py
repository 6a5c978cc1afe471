"""envs/setup_alliance.sh with a real `module` command (Lmod) on modules and wheels made here, so without network."""

import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ENVS = Path(__file__).parents[3] / "envs"
SCRIPT = ENVS / "setup_alliance.sh"
LMOD = Path("/usr/share/lmod/lmod/init/bash")
BASE = sys._base_executable
WITH_MODULES = ("bash", "-c", f'source {LMOD} && exec "$@"', "-")
HIDING_MODULES = ("unshare", "--user", "--map-root-user", "--mount", "bash", "-c")
HIDE = 'mount -t tmpfs none /etc/profile.d && mount -t tmpfs none /usr/share/lmod && exec "$@"'
IMPORTED_AS = {"protobuf": "google/protobuf", "pyyaml": "yaml"}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not LMOD.exists(), reason="Lmod is not installed (Debian: apt-get install lmod)"),
]


def write(path: Path, text: str, mode: int = 0o644) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


def make_wheel(folder: Path, name: str, version: str, needs: tuple[str, ...] = (), code: str = "") -> Path:
    """A wheel of one module with `code`."""
    stem = f"{name.replace('-', '_')}-{version}"
    metadata = [
        f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}",
        *(f"Requires-Dist: {need}" for need in needs),
    ]
    files = {
        f"{IMPORTED_AS.get(name, name.replace('-', '_'))}/__init__.py": code,
        f"{stem}.dist-info/METADATA": "\n".join(metadata) + "\n",
        f"{stem}.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{stem}.dist-info/RECORD"] = "".join(f"{file},,\n" for file in [*files, f"{stem}.dist-info/RECORD"])
    path = folder / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for file, text in files.items():
            wheel.writestr(file, text)
    return path


def pack(folder: Path, name: str) -> None:
    """The wheel of an installed package of plain Python."""
    installed = distribution(name)
    with zipfile.ZipFile(folder / f"{name}-{installed.version}-py3-none-any.whl", "w") as wheel:
        for file in installed.files or []:
            if file.suffix != ".pyc" and ".." not in file.parts:
                wheel.write(file.locate(), str(file))


def make_wheels(folder: Path) -> None:
    """A wheel for each requirement, with the cluster's local version tag; none of pyarrow."""
    folder.mkdir(parents=True)
    for line in (ENVS / "requirements-alliance.txt").read_text().splitlines():
        if text := line.partition("#")[0].strip():
            wanted = Requirement(text)
            if wanted.name == "setuptools":  # it builds the library, so no stand-in will do
                continue
            version = next((limit.version for limit in wanted.specifier if limit.operator in ("==", ">=")), "1.0")
            needs = ("pyarrow>=21.0.0", "packaging") if wanted.name == "datasets" else ()
            make_wheel(folder, wanted.name, f"{version}+computecanada", needs)
    pack(folder, "packaging")
    pack(folder, "setuptools")


def make_modules(cluster: Path) -> None:
    """gcc, arrow and python as modules; pyarrow is found as on the cluster, by EBPYTHONPREFIXES and sitecustomize."""
    modules, software = cluster / "modules", cluster / "software"
    write(modules / "gcc" / "12.3.lua", 'setenv("EBROOTGCC", "/gcc")\n')
    for version in ("17.0.0", "23.0.1"):
        root = software / "arrow" / version
        packages = root / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
        write(packages / "pyarrow" / "__init__.py", f'__version__ = "{version}"\n')
        write(
            packages / f"pyarrow-{version}.dist-info" / "METADATA",
            f"Metadata-Version: 2.1\nName: pyarrow\nVersion: {version}\n",
        )
        write(modules / "arrow" / f"{version}.lua", f'prereq("gcc")\nprepend_path("EBPYTHONPREFIXES", "{root}")\n')
    python = software / "python"
    write(python / "bin" / "python", f'#!/bin/sh\nexec {BASE} "$@"\n', 0o755)
    write(python / "bin" / "virtualenv", f'#!/bin/sh\nexec {sys.executable} -m virtualenv -p {BASE} "$@"\n', 0o755)
    write(
        python / "site" / "sitecustomize.py",
        "import os, site, sys\n"
        'folder = "lib/python%d.%d/site-packages" % sys.version_info[:2]\n'
        'for prefix in filter(None, os.environ.get("EBPYTHONPREFIXES", "").split(":")):\n'
        "    site.addsitedir(os.path.join(prefix, folder))\n",
    )
    paths = f'prepend_path("PATH", "{python}/bin")\nprepend_path("PYTHONPATH", "{python}/site")\n'
    write(modules / "python" / "3.11.5.lua", paths)
    write(software / "old" / "bin" / "python", "#!/bin/sh\necho 3.10\n", 0o755)
    write(modules / "python" / "3.10.13.lua", f'prepend_path("PATH", "{software}/old/bin")\n')


@dataclass
class Cluster:
    """What a user of the cluster finds: a home, scratch, modules and wheels."""

    folder: Path

    @property
    def environment(self) -> Path:
        """Where the script makes the environment when no place is named."""
        return self.folder / "home" / "virtualenvs" / "qa"

    @property
    def packages(self) -> Path:
        return next(self.environment.glob("lib/python*/site-packages"))

    def run(self, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """A command in the shell of a user whose login files were not read: `module` is not defined."""
        environment = {
            "HOME": str(self.folder / "home"),
            "SCRATCH": str(self.folder / "scratch"),
            "PATH": "/usr/bin:/bin",
            "MODULEPATH": str(self.folder / "modules"),
            "PIP_CONFIG_FILE": str(self.folder / "pip.conf"),
            "PIP_NO_COMPILE": "1",  # half of pip's time
            "VIRTUALENV_OVERRIDE_APP_DATA": str(self.folder.parent / "virtualenv"),
        }
        both = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        return subprocess.run(command, env=environment | variables, text=True, timeout=300, **both)

    def set_up(
        self, *arguments: str, prefix: tuple[str, ...] = (), **variables: str
    ) -> subprocess.CompletedProcess[str]:
        return self.run(*prefix, "bash", str(SCRIPT), *arguments, **variables)

    def refused(self, *arguments: str, **options) -> str:
        """What the script said when it refused, on one line."""
        done = self.set_up(*arguments, **options)
        assert done.returncode == 1, done.stdout
        return " ".join(done.stdout.split())


def make_cluster(folder: Path) -> Cluster:
    for name in ("home", "scratch"):
        (folder / name).mkdir(parents=True)
    make_modules(folder)
    make_wheels(folder / "wheels")
    write(folder / "pip.conf", f"[global]\nfind-links = {folder / 'wheels'}\n")
    return Cluster(folder)


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return make_cluster(tmp_path / "cluster")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Cluster, str]:
    """A cluster with the environment made from nothing, and what was said."""
    cluster = make_cluster(tmp_path_factory.mktemp("finished") / "cluster")
    done = cluster.set_up()
    assert done.returncode == 0, done.stdout
    return cluster, done.stdout


def state(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.lstat().st_mtime_ns, path.lstat().st_size) for path in folder.rglob("*")}


def steps(said: str) -> list[str]:
    """The lines that the script tells to type next."""
    after = said.partition("Type in every new session")[2]
    return [line.strip() for line in after.splitlines() if line.startswith("    ")]


def test_what_it_says_to_type_next_gives_a_shell_with_everything(finished):
    cluster, said = finished
    load, activate, account, run = steps(said)
    assert load == "module load gcc/12.3 arrow/23.0.1 python/3.11.5"
    assert account.startswith("export SBATCH_ACCOUNT=")
    assert run == "snakemake --profile profiles/slurm"
    show = "import sys, pyarrow, snakemake, transformers; print(sys.prefix, pyarrow.__version__)"
    shell = cluster.run(*WITH_MODULES, "bash", "-c", "\n".join([load, activate, account, f"python -c '{show}'"]))
    assert shell.stdout.split() == [str(cluster.environment), "23.0.1"]


def test_the_environment_has_the_command_qa_of_this_clone_or_of_the_last_one_that_set_it_up(finished, tmp_path):
    cluster, said = finished
    version = "\n".join([*steps(said)[:2], f"cd {tmp_path}", "qa --version"])
    assert cluster.run(*WITH_MODULES, "bash", "-c", version).stdout.endswith(f"the clone {ENVS.parent}\n")
    for part in ("envs", "workflow/scripts/qa"):
        shutil.copytree(ENVS.parent / part, tmp_path / "clone" / part)
    for part in ("pyproject.toml", "LICENSE"):
        shutil.copy(ENVS.parent / part, tmp_path / "clone")
    done = cluster.run("bash", str(tmp_path / "clone" / "envs" / SCRIPT.name))
    assert done.returncode == 0 and f"runs from now on the library of {tmp_path}/clone" in done.stdout, done.stdout
    assert cluster.run(*WITH_MODULES, "bash", "-c", version).stdout.endswith(f"the clone {tmp_path}/clone\n")
    assert cluster.set_up().returncode == 0


def test_pyarrow_comes_from_the_module_and_not_from_pip(finished):
    cluster, _ = finished
    assert (cluster.packages / "datasets").is_dir()
    assert not list(cluster.packages.glob("pyarrow*"))


def test_a_second_run_changes_nothing(finished):
    cluster, _ = finished
    before = state(cluster.environment)
    again = cluster.set_up(prefix=WITH_MODULES)
    assert again.returncode == 0 and "Ready" in again.stdout
    assert "Installing" not in again.stdout
    assert state(cluster.environment) == before


def test_a_run_from_within_the_loaded_modules_and_the_environment_changes_nothing_either(finished):
    cluster, said = finished
    before = state(cluster.environment)
    again = cluster.run(*WITH_MODULES, "bash", "-c", "\n".join([*steps(said)[:2], f"bash {SCRIPT}"]))
    assert again.returncode == 0 and "Ready" in again.stdout, again.stdout
    assert state(cluster.environment) == before


@pytest.mark.parametrize("module", ["gcc", "arrow", "python"])
def test_a_missing_module_is_named_with_the_way_to_find_one(module, cluster):
    shutil.rmtree(cluster.folder / "modules" / module)
    said = cluster.refused()
    assert re.search(rf"the module {module}\S* cannot be loaded", said)
    assert f"`module spider {module}`" in said
    assert not cluster.environment.exists()


def test_without_a_module_command_it_says_where_there_is_one(cluster):
    hide = (*HIDING_MODULES, HIDE, "-")
    if cluster.run(*hide, "true").returncode:
        pytest.skip("no mount namespace can be made here")
    assert "no `module` command here" in cluster.refused(prefix=hide)


def test_an_older_python_is_refused_with_the_reason(cluster):
    said = cluster.refused("--python", "python/3.10")
    assert "Python 3.10 of the module python/3.10 is too old: Snakemake 9" in said
    assert not cluster.environment.exists()


def test_an_older_arrow_is_refused_with_the_reason(cluster):
    said = cluster.refused("--arrow", "arrow/17.0.0")
    assert "pyarrow 17.0.0 of the module arrow/17.0.0 is too old: 21 or newer is needed" in said
    assert not cluster.environment.exists()


def test_an_arrow_that_is_not_for_this_python_is_refused(cluster):
    shutil.rmtree(cluster.folder / "software" / "arrow" / "23.0.1")
    assert "cannot import the pyarrow of the module arrow " in cluster.refused()


def test_a_missing_wheel_is_named_with_the_way_to_find_one(cluster):
    next((cluster.folder / "wheels").glob("transformers-*")).unlink()
    make_wheel(cluster.folder / "wheels", "transformers", "4.57.6+computecanada")
    said = cluster.refused()
    assert "no wheel here for transformers==5.5.0" in said
    assert "`avail_wheels 'transformers==5.5.0'`" in said


def test_other_failures_of_pip_are_shown(cluster):
    next((cluster.folder / "wheels").glob("accelerate-*")).write_bytes(b"not a wheel")
    said = cluster.refused()
    assert "pip could not install" in said and "accelerate" in said


def test_a_package_that_does_not_import_is_named_and_the_environment_is_not_finished(cluster):
    wheel = next((cluster.folder / "wheels").glob("sentencepiece-*"))
    make_wheel(wheel.parent, "sentencepiece", wheel.name.split("-")[1], code="raise ImportError('libstdc++')")
    assert "sentencepiece: `import sentencepiece` fails: ImportError: libstdc++" in cluster.refused()
    make_wheel(wheel.parent, "sentencepiece", wheel.name.split("-")[1])
    mended = cluster.set_up()
    assert mended.returncode == 0 and "was left unfinished: making it anew" in mended.stdout


@pytest.mark.parametrize("place", ["scratch/qa", "home/scratch/qa", "home/links/scratch/deep/qa", "/scratch/user/qa"])
def test_scratch_is_refused_under_each_of_its_names(place, cluster):
    (cluster.folder / "home" / "scratch").symlink_to(cluster.folder / "scratch")
    write(cluster.folder / "home" / "links" / "scratch" / "file", "another cluster's scratch")
    said = cluster.refused(str(cluster.folder / place))
    assert "is in scratch, where files older than 60 days are purged" in said
    assert not (cluster.folder / place).exists()


def test_a_place_may_be_named_and_one_with_other_files_is_left_alone(cluster):
    theirs = write(cluster.folder / "home" / "thesis" / "chapter.txt", "months of work")
    assert "was not made by this script" in cluster.refused(str(theirs.parent))
    assert theirs.read_text() == "months of work"
    shutil.rmtree(cluster.folder / "wheels")  # the environment is made, and nothing installed
    cluster.refused("named", prefix=("env", "-C", str(cluster.folder / "home")))
    assert (cluster.folder / "home" / "named" / "bin" / "activate").exists()


def damage_kill(cluster: Cluster) -> None:
    (cluster.environment / ".setup_alliance").write_text("unfinished\n")
    (cluster.environment / "bin" / "python").unlink()


def damage_purge(cluster: Cluster) -> None:
    shutil.rmtree(cluster.packages / "torch")


def damage_upgrade(cluster: Cluster) -> None:
    (old,) = cluster.packages.glob("transformers-*.dist-info")
    old.rename(old.with_name("transformers-9.9.dist-info"))
    metadata = old.with_name("transformers-9.9.dist-info") / "METADATA"
    metadata.write_text(re.sub("Version: 5.*", "Version: 9.9", metadata.read_text()))


def damage_interpreter(cluster: Cluster) -> None:
    for link in (cluster.environment / "bin").glob("python*"):
        link.unlink()
        link.symlink_to("/no/such/python")


@pytest.mark.parametrize("damage", [damage_kill, damage_purge, damage_upgrade, damage_interpreter])
def test_an_unfinished_or_damaged_environment_is_made_anew(damage, cluster, finished):
    """As far as an environment of virtualenv; how it goes on is the same for all, see the test of an import above."""
    shutil.copytree(finished[0].environment, cluster.environment, symlinks=True)
    damage(cluster)
    rubbish = write(cluster.environment / "rubbish", "")
    shutil.rmtree(cluster.folder / "wheels")
    assert "making it anew" in cluster.refused()
    assert not rubbish.exists() and (cluster.environment / "bin" / "python").exists()
    assert (cluster.environment / ".setup_alliance").read_text() == "unfinished\n"


@pytest.mark.parametrize("arguments", [["--pyhton", "x"], ["--python"]])
def test_a_mistyped_option_is_refused(arguments, cluster):
    assert arguments[0] in cluster.refused(*arguments)
