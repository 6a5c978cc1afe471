"""References of a text: `[@key]` in it, and BibTeX entries of models, data, software, and the papers behind them."""

import re
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

from qa.common.files import read_json
from qa.config.sections import Dataset, PretrainedModel

OF_REPOSITORIES = (  # patterns of repositories on the Hub, and the paper behind them
    ("FacebookAI/roberta-*", "liu2019roberta"),
    ("google-bert/bert-*", "devlin2019bert"),
    ("microsoft/deberta-v3-*", "he2021debertav3"),
    ("answerdotai/ModernBERT-*", "warner2024modernbert"),
    ("rajpurkar/squad", "rajpurkar2016squad"),
    ("rajpurkar/squad_v2", "rajpurkar2018know"),
)
SOFTWARE = {  # package: its name, address and paper
    "snakemake": ("Snakemake", "https://snakemake.github.io", "molder2021snakemake"),
    "torch": ("PyTorch", "https://pytorch.org", "paszke2019pytorch"),
    "transformers": ("Transformers", "https://github.com/huggingface/transformers", "wolf2020transformers"),
    "datasets": ("Datasets", "https://github.com/huggingface/datasets", "lhoest2021datasets"),
}
COMMIT_DIGITS = 12  # shown of a commit in a text; its entry has all
_LATEX = {mark: f"\\{mark}" for mark in "&%$#_{}"} | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}"}
_LATEX |= {"^": r"\textasciicircum{}", "<": "$<$", ">": "$>$", "±": r"$\pm$", "×": r"$\times$"}
_LATEX |= {"†": r"$^\dagger$", "‡": r"$^\ddagger$"}
_LATEX |= {raised: f"$^{number}$" for number, raised in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")}


class References:
    """Entries of what a configuration names. Each method returns what a text says, with the citation."""

    def __init__(self) -> None:
        self.entries: dict[str, str] = {}

    def source(self, name: str, part: PretrainedModel | Dataset) -> str:
        """Where a model or dataset is from, in words, with its citation if others can get it too."""
        kind = "datasets" if isinstance(part, Dataset) else "models"
        key = f"{kind.removesuffix('s')}-{name}"  # as it is: no two names have one key
        record = Path("resources", kind, name, "source.json")
        known = read_json(record) if record.exists() else {}
        date = f", downloaded {known['downloaded'][:10]}" if "downloaded" in known else ""
        if part.repo:
            address = f"https://huggingface.co/{'datasets/' * (kind == 'datasets')}{part.repo}"
            owner = {"author": part.repo.split("/")[0]} if "/" in part.repo else {}
            self._add(key, **owner, title=part.repo, howpublished=_url(address), note=f"Revision {part.revision}{date}")
            papers = [paper for pattern, paper in OF_REPOSITORIES if fnmatchcase(part.repo, pattern)]
            return f"`{part.repo}` (revision `{part.revision[:COMMIT_DIGITS]}`){_cited(key, *papers)}"
        if kind == "models" and part.package:
            version = f", version {known['version']}" if "version" in known else ""
            self._add(key, title=part.package, note=f"Python package{version}{date}", key=name)
            return f"`{name}` of the Python package `{part.package}`{_cited(key)}"
        return "(local files)" if kind == "datasets" else f"a local model called `{name}`"

    def software(self, package: str, versions: list[str]) -> str:
        """Name, versions and citation of a package of SOFTWARE."""
        name, address, paper = SOFTWARE[package]
        known = " and ".join(versions)
        self._add(f"software-{package}", title=name, howpublished=_url(address), note=f"Version {known}", key=name)
        return f"{name} {known}{_cited(f'software-{package}', paper)}"

    def bibtex(self, text: str) -> str:
        """The entries that a text cites, as BibTeX."""
        entries = _papers() | self.entries
        return "\n\n".join(entries[key] for key in dict.fromkeys(re.findall(r"@([\w.-]+)", text)))

    def _add(self, citation: str, **fields: str) -> None:
        texts = {name: value if name == "howpublished" else latex(value) for name, value in fields.items()}
        texts |= {name: f"{{{texts[name]}}}" for name in ("author", "title") if name in texts}  # one name, its capitals
        lines = [f"  {name} = {{{text}}},\n" for name, text in texts.items()]
        self.entries[citation] = f"@misc{{{citation},\n{''.join(lines)}}}"


def latex(text: str) -> str:
    """Text as LaTeX: special letters escaped, `code` as \\texttt, [@key] as \\cite."""
    escaped = "".join(_LATEX.get(letter, letter) for letter in text)
    escaped = re.sub("`([^`]*)`", r"\\texttt{\1}", escaped)

    def cite(found: re.Match[str]) -> str:
        keys = found[1].replace("; @", ",").replace(r"\_", "_")
        return rf"~\cite{{{keys}}}"

    return re.sub(r" \[@([^]]+)\]", cite, escaped)


def _url(address: str) -> str:
    return f"\\url{{{address}}}"


def label(name: str) -> str:
    """A LaTeX label for the table of a split."""
    return f"tab:{name}"


def _cited(*keys: str) -> str:
    """` [@key; @key]`, as Pandoc and Quarto read it."""
    return f" [{'; '.join(f'@{key}' for key in keys)}]"


@cache
def _papers() -> dict[str, str]:
    text = Path(__file__).with_suffix(".bib").read_text(encoding="utf-8")
    return {found[2]: found[1] for found in re.finditer(r"^(@\w+\{([^,]+),\n.*?^\})", text, re.M | re.S)}
