"""A digest of a stage's code, for its params: Snakemake does not see the modules that a script imports."""

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

LIBRARY = Path(__file__).parents[1]
MESSAGES = frozenset({"common.progress", "common.text"})  # modules for messages, which change no result


@cache
def code_digest(script: str | Path, library: str | Path = LIBRARY, name: str | None = None) -> str:
    """Twelve hexadecimal digits from the syntax trees of a script and of the `qa` modules that it imports.

    Imports of imports count, and imports inside functions. Comments, docstrings, formatting, time stamps and modules of
    MESSAGES do not change the digest. `name` is the script's own name, if it lies in a cache under another one.
    """
    script, library = Path(script), Path(library)
    modules = {path: path.relative_to(library).as_posix() for path in _reached(script, library)}
    names = {script: name or script.name} | modules
    digest = hashlib.sha256()
    for path, place in sorted(names.items(), key=lambda item: item[1]):
        digest.update(f"{place}\n{_essence(path)}\n".encode())
    return digest.hexdigest()[:12]


def _reached(script: Path, library: Path) -> set[Path]:
    """The files of the library's modules that a script imports, directly or not."""
    reached: set[Path] = set()
    waiting = [script]
    while waiting:
        for name in _imports(waiting.pop()):
            path = library / f"{name.replace('.', '/')}.py"
            if name not in MESSAGES and path.is_file() and path not in reached:
                reached.add(path)
                waiting.append(path)
    return reached


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


@cache
def _imports(path: Path) -> frozenset[str]:
    names: set[str] = set()
    for node in _statements(_tree(path)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "qa":
            # `from qa.x import y`: y is a module, or a name in the module x
            names.update([node.module, *(f"{node.module}.{alias.name}" for alias in node.names)])
        elif isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names if alias.name.startswith("qa."))
    return frozenset(name.removeprefix("qa.") for name in names)


@cache
def _essence(path: Path) -> str:
    """A module's syntax tree as text, without docstrings."""
    tree = _tree(path)
    for node in (tree, *_statements(tree)):
        documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        if documented and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return _as_text(tree)


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    """Every statement below a node. Only statements import or have docstrings, and they are a tenth of all nodes."""
    for name in ("body", "orelse", "finalbody", "handlers", "cases"):
        for child in getattr(node, name, ()):
            yield child
            yield from _statements(child)


def _as_text(node: object) -> str:
    """A syntax tree as text, without empty fields: `ast.dump` shows these, and Python versions differ in them."""
    if isinstance(node, list):
        return f"[{','.join([_as_text(value) for value in node])}]"
    if isinstance(node, ast.Constant):
        return repr(node.value)
    if isinstance(node, ast.AST):
        fields = [(name, getattr(node, name, None)) for name in node._fields]
        parts = [f"{name}={_as_text(value)}" for name, value in fields if value is not None and value != []]
        return f"{type(node).__name__}({','.join(parts)})"
    return repr(node)
