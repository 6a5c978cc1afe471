"""Open a page to ask fine-tuned models in a browser: `qa serve --model DIR`. Several models stand side by side.

GET sends the page's files, and `models`: a list of {name, folder, decoding, null_threshold, temperature}. The page
posts {"model": number, "question", "texts": [text]} as JSON to `answer`. It gets {"answers": [...]}: one a text, as
`qa ask --json` prints it, with all candidates. A fault is {"error": sentence}. The server keeps nothing that is asked.
"""

import argparse
import json
import logging
import math
import os
import re
import sys
import threading
import webbrowser
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingTCPServer
from typing import Any

from qa.ask import add_reader_options, as_json, run_offline
from qa.common.errors import InputError, first_line, shortage
from qa.reader import Question, Reader
from qa.report.page import TEMPLATES

HERE = Path(__file__).parent
FILES = {
    "/": (HERE / "page.html", "text/html"),
    "/serve.css": (HERE / "serve.css", "text/css"),
    "/serve.js": (HERE / "serve.js", "text/javascript"),
    "/page.css": (TEMPLATES / "page.css", "text/css"),  # the report's colours, and its button for them
    "/page.js": (TEMPLATES / "page.js", "text/javascript"),
}
JSON = "application/json"
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
LIMIT = 4_000_000  # bytes of a request, several books
LOOPBACK = re.compile(r"(localhost|127(\.\d+){3})(:\d+)?", re.IGNORECASE)

log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve the page until Ctrl-C; return the exit code: 1 for a mistake, told in one line."""
    return run_offline(_run, _options(arguments))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="qa serve", description="Open a page to ask models in a browser.")
    parser.add_argument(
        "--model",
        required=True,
        action="append",
        metavar="DIR",
        help="a model's folder: results/RUN/seed-N/package; give it twice to compare two models",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to serve (default: 127.0.0.1, this machine only)")
    parser.add_argument("--port", type=int, default=8000, help="default: 8000; 0 takes any free port")
    parser.add_argument("--no-browser", action="store_true", help="print the page's address, and open no browser")
    add_reader_options(parser)
    options = parser.parse_args(arguments)
    if not 0 <= options.port < 65536:
        parser.error(f"--port {options.port}: give a number from 0 to 65535")
    return options


def _run(options: argparse.Namespace) -> None:
    readers = {folder: Reader(folder, options.decoding, options.threads) for folder in options.model}
    try:
        server = Server(options.host, options.port, readers)
    except OSError as error:
        raise InputError(
            f"{options.host}, port {options.port}: {error.strerror}; choose another --port (0: any free one) or --host"
        ) from None
    with server:
        if not server.loopback:
            log.warning(f"warning: every machine that reaches {options.host} can ask these models")
        print(f"{server.address} is the page to ask; Ctrl-C ends it", flush=True)
        if not options.no_browser and _has_screen():
            webbrowser.open(server.address)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print("\nended")


def _has_screen() -> bool:
    """Whether a browser would open before the user: not over SSH, where it would be a slow one or one of text."""
    screen = sys.platform == "darwin" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    return bool(screen) and "SSH_CONNECTION" not in os.environ


class Server(ThreadingTCPServer):
    """Answers of some readers, by the folders of their models. `loopback`: whether only this machine is served.

    Raises OSError where the address or the port cannot be had.
    """

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, host: str, port: int, readers: Mapping[str, Reader]):
        self.loopback = LOOPBACK.fullmatch(host) is not None
        self.readers = readers
        self.asking = threading.Lock()  # one question at a time has all CPUs
        super().__init__((host, port), Handler)
        self.address = f"http://{host}:{self.server_address[1]}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that goes away is no fault."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class Refusal(Exception):  # noqa: N818, the fault is the request's
    """What is wrong with a request: a status of HTTP, and a sentence."""


class Handler(BaseHTTPRequestHandler):
    """A request to a `Server`."""

    server: Server
    timeout = 60  # seconds that a connection may be silent

    def do_GET(self) -> None:
        self._reply(self._file)

    def do_POST(self) -> None:
        self._reply(self._answers)

    def log_message(self, *given: Any) -> None:
        """The terminal shows no requests."""

    def _reply(self, content: Callable[[], tuple[str, bytes]]) -> None:
        status = HTTPStatus.OK
        try:
            # a page of another name that leads here (DNS rebinding) may read no answers
            if self.server.loopback and not LOOPBACK.fullmatch(self.headers.get("Host", "")):
                raise Refusal(HTTPStatus.FORBIDDEN, f"Open this page at {self.server.address}, or as localhost.")
            kind, body = content()
        except Exception as error:
            status, message = _fault(error)
            kind, body = JSON, _as_bytes({"error": message})
        self.send_response(status)
        for name, value in {"Content-Type": f"{kind}; charset=utf-8", "Content-Length": len(body), **HEADERS}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(body)

    def _file(self) -> tuple[str, bytes]:
        path = self.path.partition("?")[0]
        if path == "/models":
            return JSON, _as_bytes([_described(*pair) for pair in self.server.readers.items()])
        if path not in FILES:
            raise Refusal(HTTPStatus.NOT_FOUND, "There is no such page.")
        file, kind = FILES[path]
        return kind, file.read_bytes()

    def _answers(self) -> tuple[str, bytes]:
        if self.path != "/answer":
            raise Refusal(HTTPStatus.NOT_FOUND, "There is no such page.")
        posted, readers = self._posted(), list(self.server.readers.values())
        model, question, texts = (posted.get(name) for name in ("model", "question", "texts"))
        if model not in range(len(readers)) or not isinstance(texts, list) or not texts:
            raise Refusal(HTTPStatus.BAD_REQUEST, "The request needs a `model` of those here, and a list of `texts`.")
        asked = [Question(question, text, f"text {number}") for number, text in enumerate(texts, 1)]
        with self.server.asking:
            answers = list(readers[model].answers(asked, top=sys.maxsize))
        return JSON, _as_bytes({"answers": [{"candidates": [], **as_json(answer)} for answer in answers]})

    def _posted(self) -> dict[str, Any]:
        """The request's JSON, a type that other sites' forms and scripts cannot send here."""
        if self.headers.get_content_type() != JSON:
            raise Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"Send the question as {JSON}.")
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal():
            raise Refusal(HTTPStatus.LENGTH_REQUIRED, "Send the Content-Length of the question.")
        if (size := int(length)) > LIMIT:
            while size > 0 and (part := self.rfile.read(min(size, LIMIT))):  # a browser listens only once all is sent
                size -= len(part)
            fault = f"These texts have {int(length) / 1e6:.1f} MB; give at most {LIMIT / 1e6:.0f} MB at once."
            raise Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, fault)
        try:
            posted = json.loads(self.rfile.read(size))
        except ValueError:
            posted = None
        if not isinstance(posted, dict):
            raise Refusal(HTTPStatus.BAD_REQUEST, "The question is no JSON object.")
        return posted


def _fault(error: Exception) -> tuple[HTTPStatus, str]:
    """Status and sentence of what went wrong; a bug's traceback goes to the terminal."""
    if isinstance(error, Refusal):
        return error.args
    if isinstance(error, InputError):
        return HTTPStatus.BAD_REQUEST, str(error)
    if isinstance(error, ConnectionError | TimeoutError):
        raise error
    log.error("a question failed", exc_info=error)
    fault = shortage(error) or f"{type(error).__name__}: {first_line(error)}"
    return HTTPStatus.INTERNAL_SERVER_ERROR, f"The model failed: {fault}. The terminal of `qa serve` shows more."


def _described(folder: str, reader: Reader) -> dict[str, Any]:
    """What the page must know of a model; a null threshold of None answers always."""
    names = [reader.settings[key] for key in ("run", "variant") if reader.settings.get(key)]
    return {
        "name": " / ".join(names) or Path(folder).resolve().name,
        "folder": folder,
        "decoding": reader.decoding,
        "null_threshold": reader.null_threshold if math.isfinite(reader.null_threshold) else None,
        "temperature": reader.temperature,
    }


def _as_bytes(content: Any) -> bytes:
    return json.dumps(content).encode()
