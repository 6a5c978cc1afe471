"""Whether this Python has what requirements files ask for: python envs/check_versions.py [--import] FILE...

Prints a line for each package that is missing or has another version, and ends with 1 if there is one.
With --import every package is imported too, which takes seconds; without, it is only looked for.
"""

import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

MODULES = {"protobuf": "google.protobuf", "pyyaml": "yaml"}


def lines(files: list[str]) -> Iterator[str]:
    """The requirements of `files` without comments."""
    for file in files:
        for line in Path(file).read_text().splitlines():
            if requirement := line.partition("#")[0].strip():
                yield requirement


def problems(requirement: str, with_import: bool) -> Iterator[str]:
    """What is wrong with the package of one requirement: its version, then its module."""
    from packaging.requirements import Requirement

    wanted = Requirement(requirement)
    module = MODULES.get(wanted.name, wanted.name.replace("-", "_"))
    try:
        found = version(wanted.name)
    except PackageNotFoundError:
        yield f"{wanted.name}: not installed, wanted {wanted.specifier or 'any version'}"
        return
    if not wanted.specifier.contains(found, prereleases=True):
        yield f"{wanted.name}: {found} is installed, wanted {wanted.specifier}"
    try:
        if with_import:
            import_module(module)
        elif find_spec(module) is None:
            yield f"{wanted.name}: installed, but its module {module} is not there"
    except Exception as error:  # a broken package may raise anything at its import
        yield f"{wanted.name}: `import {module}` fails: {type(error).__name__}: {error}"


def main(arguments: list[str]) -> int:
    with_import = "--import" in arguments
    files = [argument for argument in arguments if argument != "--import"]
    try:
        import packaging.requirements  # noqa: F401
    except ImportError:
        print("packaging: not installed, so nothing that needs it is either")
        return 1
    found = dict.fromkeys(line for requirement in lines(files) for line in problems(requirement, with_import))
    print("\n".join(found), end="\n" if found else "")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
