"""The documents as data: blocks of code with the comment before them, code within lines, headings, links."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("", "docs", "config", "profiles/slurm", "benchmarks", "envs")
# Program names that begin a block of commands; whatever else can be run must not begin a block at all.
PROGRAMS = {
    *(
        "make",
        "snakemake",
        "python",
        ".venv/bin/python",
        ".venv/bin/snakemake",
        ".venv/bin/qa",
        "qa",
        "envs/setup_alliance.sh",
        "pip",
    ),
    *("git", "ssh", "scp", "cd", "cp", "module", "source", ".", "export", "tmux", "hostname", "pre-commit", "echo"),
    *("apptainer", "cat", "mkdir", "xdg-open", "pip-audit", "envs/setup_alliance.sh"),
}
SHELLS = ("bash", "sh", "console")
WRITTEN = ("demo", "results", "speed", "keys")  # parts of documents that programs write, between comments


@dataclass(frozen=True)
class Block:
    """A block of code: its document, line (from 1), language (empty where none is said), text, and what it needs."""

    document: str
    line: int
    language: str
    text: str
    needs: str | None

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"

    @property
    def is_commands(self) -> bool:
        """Whether it is commands for a shell."""
        return self.language in SHELLS or (not self.language and program_of(self.text) in PROGRAMS)

    @property
    def commands(self) -> list[str]:
        """Its commands, one each; all in one where a here-document makes them a script."""
        if "<<" in self.text:
            return [self.text]
        lines = self.text.replace("\\\n", " ").splitlines()
        parts = [part for line in lines for part in without_comment(line).split(" && ")]
        return [part.strip() for part in parts if part.strip()]


def documents() -> list[str]:
    """Every document, by its path from the repository's root."""
    found = [path for folder in FOLDERS for path in sorted((ROOT / folder).glob("*.md"))]
    return [path.relative_to(ROOT).as_posix() for path in found]


def program_of(text: str) -> str:
    """The program that the first line of a text calls, settings of variables before it left out."""
    words = (without_comment(text.strip().split("\n")[0]) or text).split()
    return next((word for word in words if not re.match(r"[A-Z_]+=", word)), "")


def without_comment(line: str) -> str:
    """A line of shell without the comment at its end."""
    return re.sub(r"(^|\s)#.*", "", line).rstrip()


def blocks(document: str) -> list[Block]:
    """The blocks of a document, fenced or indented by four characters and more."""
    lines = (ROOT / document).read_text(encoding="utf-8").split("\n")
    found, needs, number = [], None, 0
    while number < len(lines):
        line, begin = lines[number], number
        comment = re.fullmatch(r"<!-- needs: (.+) -->", line)
        fence = re.match(r"( *)```(\w*)$", line)
        if fence:
            number += 1
            while lines[number].strip() != "```":
                number += 1
            body = [each.removeprefix(fence[1]) for each in lines[begin + 1 : number]]
            found.append(Block(document, begin + 1, fence[2], "\n".join(body), needs))
        elif line.startswith("    ") and (not lines[begin - 1].strip() or lines[begin - 1].startswith("<!-- ")):
            found.append(_indented(document, lines, begin, needs))
            number += found[-1].text.count("\n")
        if line.strip():
            needs = comment[1] if comment else None
        number += 1
    return found


def _indented(document: str, lines: list[str], begin: int, needs: str | None) -> Block:
    end = begin
    while end < len(lines) and (lines[end].startswith("    ") or not lines[end].strip()):
        end += 1
    body = "\n".join(lines[begin:end]).rstrip()
    return Block(document, begin + 1, "", "\n".join(line.removeprefix("    ") for line in body.split("\n")), needs)


def prose(document: str) -> str:
    """A document without its blocks, comments and the parts that programs write."""
    text = (ROOT / document).read_text(encoding="utf-8")
    for name in WRITTEN:
        text = re.sub(rf"<!-- {name} -->.*?<!-- /{name} -->", "", text, flags=re.S)
    text = re.sub(r"^( *)```.*?^\1```$", "", text, flags=re.S | re.M)
    text = re.sub(r"(?<=\n\n)(?: {4}.*\n|\n)+", "\n", text)
    return re.sub(r"^<!--.*?-->\n(?: {4}.*\n)*", "", text, flags=re.M)


def code_within_lines(document: str) -> list[str]:
    """What stands between backticks, also across the end of a line."""
    return [" ".join(code.split()) for code in re.findall(r"(?<!`)`([^`]+)`(?!`)", prose(document))]


def links(document: str) -> list[str]:
    """Targets of links and sources of images; those in footnotes are addresses of the web."""
    text = prose(document)
    return re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'<img src="([^"]+)"', text)


def anchors(document: str) -> set[str]:
    """What links to a document's headings may name, as GitHub makes it of their text."""
    headings = re.findall(r"^#+ (.+)$", prose(document), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def words_of(command: str) -> list[str]:
    """A command's words, settings of variables before it left out."""
    words = shlex.split(command)
    while words and re.match(r"[A-Z_]+=", words[0]):
        words = words[1:]
    return words
