"""The report's page: sections, styles and data in one file. It needs no network and runs only its own scripts."""

import base64
import gzip
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from markupsafe import Markup

from qa.common.files import written_aside
from qa.common.text import readable_seconds

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Section:
    """A part of the page. `data` are blocks for its scripts, as pairs of id and bytes. `write` compresses them."""

    id: str
    title: str
    body: Markup
    data: tuple[tuple[str, bytes], ...] = ()


def render(template: str, **context: Any) -> Markup:
    """A template of `qa/report/templates` filled in; every value is escaped that is no Markup."""
    return Markup(_environment().get_template(template).render(**context))


@cache
def _environment() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "signed": signed, "duration": duration, "gib": gib}
    environment.tests["known"] = is_number
    return environment


def write(target: str | Path, title: str, subtitle: str, sections: Sequence[Section]) -> None:
    """Write the page. An interrupted write leaves no partial page."""
    scripts = [_asset(name) for name in ("page.js", "questions-data.js", "questions.js")]
    data = [block for section in sections for block in section.data]
    blocks = [(name, base64.b64encode(gzip.compress(content, 9, mtime=0)).decode("ascii")) for name, content in data]
    text = render(
        "page.html",
        title=title,
        subtitle=subtitle,
        sections=sections,
        styles=[_asset(name) for name in ("page.css", "questions.css")],
        scripts=scripts,
        policy=_policy(scripts),
        blocks=blocks,
    )
    with written_aside(target) as partial:
        partial.write_text(text, encoding="utf-8", errors="replace")


def _asset(name: str) -> Markup:
    text = (TEMPLATES / name).read_text(encoding="utf-8")
    if re.search(r"</(script|style)", text, re.I):
        raise ValueError(f"{name}: contains </script> or </style>, which would end its element early")
    return Markup(text)


def _policy(scripts: Sequence[str]) -> str:
    """The Content-Security-Policy: only these scripts run, whatever the data contain, and nothing uses the network."""
    hashes = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'" for s in scripts)
    allowed = f"script-src {hashes}; style-src 'unsafe-inline'; img-src data:"
    return f"default-src 'none'; {allowed}; base-uri 'none'; form-action 'none'"


def digest() -> str:
    """Digest of the templates, styles and scripts: 12 hexadecimal digits."""
    checksum = hashlib.sha256()
    for file in sorted(path for path in TEMPLATES.iterdir() if path.suffix in (".html", ".css", ".js")):
        checksum.update(f"{file.name}\n".encode() + file.read_bytes())
    return checksum.hexdigest()[:12]


def is_number(value: Any) -> bool:
    """Whether a cell of a table has a value: not None, NaN or empty text."""
    return value is not None and value == value and value != ""


def number(value: Any, places: int = 2, sign: str = "-") -> str:
    """A number with `places` decimals and commas between thousands; a dash for no value. `sign` "+" shows any sign."""
    return f"{float(value):{sign},.{places}f}".replace("-", "−") if is_number(value) else "–"


def signed(value: Any, places: int = 2) -> str:
    """A difference with its sign; a dash for no value."""
    return number(value, places, "+")


def duration(seconds: Any) -> str:
    """Seconds in words, below a minute to a tenth; a dash for no value."""
    if not is_number(seconds):
        return "–"
    return f"{float(seconds):.1f} s" if float(seconds) < 59.95 else readable_seconds(float(seconds))


def gib(mebibytes: Any) -> str:
    """Mebibytes as gibibytes; a dash for no value."""
    return number(float(mebibytes) / 1024, 1) if is_number(mebibytes) else "–"
