"""Models and data sets as folders: chosen, fetched, hashed and put in place whole, with a source.json of their origin.

They come from the Hugging Face Hub at a pinned commit (`qa.hub.repository`), from this machine's files, or from a
folder that an installed Python package ships. Of a model only safetensors, config and tokenizer files are taken: never
a pickle, never code.
"""

import errno
import fcntl
import importlib.metadata
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from yaml import YAMLError

from qa.common.errors import InputError, some
from qa.common.files import read_json, remove, sha256_of_file, write_json, written_aside
from qa.hub.repository import SNAPSHOT, WAITS, Repository, card_terms

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
VOCABULARIES = {"tokenizer.json", "vocab.json", "vocab.txt", "spm.model", "spiece.model", "tokenizer.model"}
VOCABULARIES |= {"sentencepiece.model", "sentencepiece.bpe.model"}
TOKENIZER_EXTRAS = {"tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "merges.txt", "bpe.codes"}
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
CARD = "README.md"
POINTER = b"version https://git-lfs.github.com/spec/"  # how a file begins that git has not fetched
REQUEST = ".request.json"  # in the folder of an unfinished download: its source
LONGEST = 200  # letters of a file's name; file systems take 255 bytes, and the partial file's name is longer


def fetch_model(source: dict, target: Path, waits: tuple[float, ...] = WAITS) -> dict:
    """Fetch a model's safetensors, config and tokenizer files to the folder `target`; return its source.json.

    `source` is `{"repo", "revision"}` (a commit), `{"path"}` (a folder) or `{"package", "directory"}` (a folder of an
    installed Python distribution, which is not imported). Only files of the top level are taken. source.json holds
    `kind`, the keys of `source` (and the package's version), `downloaded` (UTC, ISO 8601) and `files`:
    `{name: {"sha256", "size"}}`, sizes in bytes. `waits` are the seconds before each further attempt.
    Raises InputError where files are missing or not safe, or the hub refuses or cannot be reached. Then nothing has
    changed at `target`, and files that the hub has sent whole are kept for the next call.
    """
    origin = Repository("model", source, waits) if "repo" in source else local_model(source)
    names = model_files(origin.names, origin.where, origin.page)
    with _partial_folder(target, source) as partial:
        files = _fetch_all(origin, {name: name for name in names}, partial)
        if INDEX in files:
            shards = shard_files(partial / INDEX, origin.names, origin.where)
            files |= _fetch_all(origin, {name: name for name in shards}, partial)
        return _write_source(partial, {"kind": "model", **origin.record}, files)


def fetch_dataset(source: dict, target: Path, waits: tuple[float, ...] = WAITS) -> dict:
    """Fetch a data set's files, as they are, to `target/{split}/{index:05d}-{name}`; return its source.json.

    `source` is `{"repo", "revision", "splits": {split: pattern or list of patterns}}`, where `*` of a pattern matches
    slashes too (fnmatch), or `{"splits": {split: path or list of paths}}` for local files. source.json is that of
    `fetch_model`, with `splits` (the files of each split, in order, relative to `target`) and, for each file, `from`.
    Raises InputError as `fetch_model` does, and where a pattern matches nothing.
    """
    listed = {split: [value] if isinstance(value, str) else list(value) for split, value in source["splits"].items()}
    if bad := [split for split in listed if not re.fullmatch(r"\w[\w.-]*", split)]:
        raise InputError(f"{some(bad)}: a split is named by letters, digits, '_', '-' and '.' only")
    origin = Repository("dataset", source, waits) if "repo" in source else None
    names, splits = {}, {}
    for split, patterns in listed.items():
        found = matching_files(patterns, origin.names, f"{origin.where}, split {split}") if origin else patterns
        places = [f"{split}/{index:05d}-{PurePosixPath(name).name}" for index, name in enumerate(found)]
        names |= dict(zip(places, found, strict=True))
        splits[split] = places
    origin = origin or _LocalFiles(Path(), list(names.values()), "the data set of local files", {})
    with _partial_folder(target, source) as partial:
        files = _fetch_all(origin, names, partial)
        files = {place: {**entry, "from": names[place]} for place, entry in files.items()}
        return _write_source(partial, {"kind": "dataset", **origin.record, "splits": splits}, files)


def model_files(present: list[str], where: str, page: str | None) -> list[str]:
    """Choose, of the files `present`, what a model needs; its weights are model.safetensors, else the shards' index.

    `page` is the address of the repository on the hub. Raises InputError, which names `where`, if there is no config,
    no vocabulary or nothing but other weights.
    """
    names = set(present)
    if CONFIG not in names:
        raise InputError(f"{where} has no {CONFIG}: choose a repository or folder in the format of transformers")
    if not names & VOCABULARIES:
        raise InputError(f"{where} has no tokenizer: it needs one of {', '.join(sorted(VOCABULARIES))}")
    weights = next((name for name in (WEIGHTS, INDEX) if name in names), None)
    if weights is None:
        fault = f"{where} has no {WEIGHTS}"
        if pickles := sorted(name for name in names if name.endswith(PICKLES)):
            fault += f", only pickles ({some(pickles)}), which can run any code when loaded and are refused"
        conversion = (
            f"look at {page}/discussions for the pull request of a safetensors conversion, and pin its commit from "
            f"{page}/commits/refs%2Fpr%2FN, where N is its number; or "
        )
        raise InputError(
            f"{fault}: {conversion if page else ''}save the model as safetensors yourself and give its folder as path"
        )
    return [CONFIG, *sorted(names & (VOCABULARIES | TOKENIZER_EXTRAS)), weights]


def shard_files(index: Path, present: list[str], where: str) -> list[str]:
    """List the shards that a safetensors index names; raise InputError where it is no such index or one is missing."""
    content = read_json(index)
    weight_map = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise InputError(f"{where}: {INDEX} has no weight_map, so it is no index of safetensors shards")
    shards = sorted(set(map(str, weight_map.values())))
    if absent := [name for name in shards if name not in present or not re.fullmatch(r"[\w.-]+\.safetensors", name)]:
        raise InputError(f"{where}: {INDEX} names {some(map(ascii, absent))}, which is no safetensors file beside it")
    return shards


def matching_files(patterns: list[str], present: list[str], where: str) -> list[str]:
    """Files that match the patterns (fnmatch, or the name itself), pattern by pattern, sorted within each.

    Raises InputError, which names `where` and some files there are, if a pattern matches nothing.
    """
    found: dict[str, None] = {}
    for pattern in patterns:
        names = sorted(name for name in present if name == pattern or fnmatchcase(name, pattern))
        if not names:
            raise InputError(f"{where}: no file matches {pattern!r}; there are {some(sorted(present)) or 'none'}")
        found |= dict.fromkeys(names)
    return list(found)


class _LocalFiles:
    """Files of this machine, by their path below `folder`: copied, so that results stay explained when they move."""

    page = None

    def __init__(self, folder: Path, names: list[str], where: str, record: dict):
        self.folder, self.names, self.where, self.record = folder, names, where, record

    def size(self, name: str) -> int:
        return self._path(name).stat().st_size

    def fetch(self, names: dict[str, str], folder: Path) -> None:
        for place, name in names.items():
            shutil.copyfile(self._path(name), folder / place)

    def _path(self, name: str) -> Path:
        path = self.folder / Path(name).expanduser()
        if not path.is_file():
            raise InputError(f"{path}: no such file, or a link that leads nowhere")
        with open(path, "rb") as stream:
            if stream.read(len(POINTER)) == POINTER:
                raise InputError(f"{path}: a pointer of Git LFS, not the file itself; run `git lfs pull` at its origin")
        return path


def local_model(source: dict) -> _LocalFiles:
    """The files of a model's folder, given by its path or as part of an installed Python package."""
    if "path" in source:
        folder, where = Path(source["path"]).expanduser(), f"the model folder {source['path']}"
        record = {"path": source["path"]}
    else:
        package, directory = source["package"], source["directory"]
        try:
            distribution = importlib.metadata.distribution(package)
        except importlib.metadata.PackageNotFoundError:
            raise InputError(f"the Python package {package} is not installed here: pip install {package}") from None
        if PurePosixPath(directory).is_absolute() or ".." in PurePosixPath(directory).parts:
            raise InputError(f"directory {directory!r}: it must lie within the Python package {package}")
        folder = Path(distribution.locate_file(directory))
        record = {"package": package, "version": distribution.version, "directory": directory}
        where = f"the folder {directory} of the Python package {package} {distribution.version}"
    if not folder.is_dir():
        raise InputError(f"{where}: there is no such folder")
    names = sorted(path.name for path in folder.iterdir() if not path.is_dir())
    return _LocalFiles(folder, names, where, record | _card_terms(folder / CARD))


def _card_terms(card: Path) -> dict:
    """Licence and language by a model's card, nothing where there is no card that can be read."""
    if not card.is_file():
        return {}
    from huggingface_hub import ModelCard

    try:
        return card_terms(ModelCard.load(card, ignore_metadata_errors=True).data)
    except (OSError, ValueError, YAMLError):
        return {}


@contextmanager
def _partial_folder(target: Path, source: dict) -> Iterator[Path]:
    """The folder beside `target` that becomes it; what an earlier attempt left there stays if its source is the same.

    Files of this machine are copied anew: nothing says whether they have changed.
    """
    try:
        with _alone(target), written_aside(target, directory=True, keep_partial="repo" in source) as partial:
            request = partial / REQUEST
            if not request.exists() or read_json(request) != source:
                remove(partial)
                partial.mkdir()
                write_json(request, source)
            yield partial
            remove(request)
            remove(partial / SNAPSHOT)
    except PermissionError as error:
        raise InputError(f"{error.filename or target}: {error.strerror}; check who owns it") from None


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    """Refuse to work on a folder that another process is at work on, where the file system has locks."""
    lock = Path(target).with_name(f".{Path(target).name}.lock")
    lock.parent.mkdir(parents=True, exist_ok=True)
    with open(lock, "a") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            lock.stat()  # the process that held the lock removes the file
        except (BlockingIOError, FileNotFoundError):
            raise InputError(f"{target}: another process is downloading it; wait for it and run again") from None
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
                raise
        try:
            yield
        finally:
            remove(lock)


def _fetch_all(origin: _LocalFiles | Repository, names: dict[str, str], partial: Path) -> dict[str, dict]:
    """Fetch files, as {place below `partial`: name at the origin}; return their sha256 and size in bytes."""
    for name in names.values():
        if not name.isprintable() or len(PurePosixPath(name).name) > LONGEST:
            raise InputError(f"{origin.where}: {name[:LONGEST]!a} is no name that a file can have everywhere")
    for place in names:
        (partial / place).parent.mkdir(parents=True, exist_ok=True)
    origin.fetch(names, partial)
    return {
        place: {"sha256": sha256_of_file(partial / place), "size": (partial / place).stat().st_size} for place in names
    }


def _write_source(partial: Path, record: dict, files: dict[str, dict]) -> dict:
    source = record | {"downloaded": datetime.now(UTC).isoformat(timespec="seconds"), "files": files}
    write_json(partial / "source.json", source)
    return source
