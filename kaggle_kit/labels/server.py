"""The page on which labels are reviewed, served to this machine's own browser and to nobody else.

It listens on 127.0.0.1 only. Its address holds a token, without which nothing is answered. Requests with another Host, which a
name that was rebound to 127.0.0.1 would send, or with another Origin, which pages of others send, are refused. Images are named
by their number on the page, so that no path comes from outside.
"""

from __future__ import annotations

import hmac
import json
import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from kaggle_kit import files
from kaggle_kit.errors import DataError, KaggleKitError
from kaggle_kit.images.decode import decode_image
from kaggle_kit.labels.issues import LabelIssues, Suspect
from kaggle_kit.report import island, render_page
from kaggle_kit.report.thumbnails import make_thumbnail
from kaggle_kit.results import Result
from kaggle_kit.reviews import Review, make_entry, read_review, require_of, write_review
from kaggle_kit.tables import Classes

logger = logging.getLogger(__name__)

HOST = "127.0.0.1"
MOST = 1000
"""Labels on a page, the most suspect ones."""
_SIDE = 640
_LONGEST = 64_000  # bytes of a request
_POLICY = {"img-src": "'self' data:", "connect-src": "'self'"}
_HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class _RefusedError(Exception):
    """A request that is not answered, and why not."""

    def __init__(self, status: HTTPStatus, why: str) -> None:
        super().__init__(why)
        self.status = status


@dataclass(frozen=True, repr=False)
class Served(Result):
    """How a review ended: where it is, and what was decided."""

    path: Path
    name: str
    counts: Mapping[str, int]

    def describe(self) -> str:
        """Return what was decided, where it is kept and how to train with it."""
        done = ", ".join(f"{count} {name}" for name, count in self.counts.items() if count)
        if not done:
            return "nothing was reviewed."
        return f"reviewed: {done}; kept in {self.path}\nTrain with it: kk train labels={self.name}"


class Desk:
    """The review as it is worked on: each decision is written at once, and can be taken back.

    Attributes:
        suspects: the rows on the page, in its order.
    """

    def __init__(self, path: Path, classes: Classes, suspects: Sequence[Suspect], *, multilabel: bool) -> None:
        self.path, self.classes, self.suspects, self.multilabel = path, classes, list(suspects), multilabel
        self.review = self._read()
        require_of(self.review, {**{one.id: one.was for one in self.review.entries.values()}, **self._labels()}, path)

    def _labels(self) -> dict[str, tuple[str, ...]]:
        return {one.id: one.labels for one in self.suspects}

    def decide(self, number: int, decision: str, labels: Sequence[str]) -> dict[str, Any]:
        """Keep a decision about row ``number`` of the page; raises KaggleKitError for one that cannot be."""
        suspect = self.suspects[number]
        now = datetime.now(UTC).isoformat(timespec="seconds")
        entry = make_entry(suspect.id, decision, labels, suspect.labels, classes=self.classes, time=now)
        if decision == "wrong" and not self.multilabel and len(entry.labels) != 1:
            raise DataError("a row has exactly one label here.")
        self._change(lambda review: review.with_entry(entry))
        return self.state(number)

    def undo(self, number: int) -> dict[str, Any]:
        """Take back the decision about row ``number``."""
        self._change(lambda review: review.without(self.suspects[number].id))
        return self.state(number)

    def _change(self, change: Callable[[Review], Review]) -> None:
        """Apply a change to the review as it stands in the file now, since another page may have written there."""
        with files.lock_beside(self.path):
            changed = change(self._read())
            write_review(self.path, changed)
            self.review = changed

    def _read(self) -> Review:
        return read_review(self.path, self.classes) if self.path.exists() else Review()

    def state(self, number: int) -> dict[str, Any]:
        """Return what the page shows of row ``number``, and how many decisions there are."""
        entry = self.review.entries.get(self.suspects[number].id)
        said = None if entry is None else {"decision": entry.decision, "labels": list(entry.labels)}
        return {"number": number, "said": said, "counts": self.review.counts}

    def items(self) -> list[dict[str, Any]]:
        """Return the rows as the page's script takes them."""
        return [
            {
                "id": one.id,
                "labels": list(one.labels),
                "quality": round(one.quality, 4),
                "issue": one.issue,
                "suggestions": [[name, round(share, 4)] for name, share in one.suggestions],
                "said": self.state(number)["said"],
            }
            for number, one in enumerate(self.suspects)
        ]


class ReviewServer(ThreadingHTTPServer):
    """Serves a desk on a free port of 127.0.0.1.

    Attributes:
        address: what to open, with the token.
    """

    daemon_threads = True

    def __init__(self, desk: Desk, title: str, *, port: int = 0) -> None:
        super().__init__((HOST, port), _Handler)
        self.desk, self.title = desk, title
        self.token = secrets.token_urlsafe(24)
        self.hosts = {f"{HOST}:{self.server_port}", f"localhost:{self.server_port}"}
        self.address = f"http://{HOST}:{self.server_port}/{self.token}/"


class _Handler(BaseHTTPRequestHandler):
    server: ReviewServer
    server_version = "kaggle_kit"
    sys_version = ""
    timeout = 30

    def do_GET(self) -> None:
        """Answer with the page or one of its images."""
        self._answer(self._get)

    def do_POST(self) -> None:
        """Take a decision, or take one back."""
        self._answer(self._post)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: ARG002
        """Say nothing on the error stream; the token would stand there."""
        logger.debug("%s %s", self.command, args[1:])

    def _answer(self, work: Any) -> None:
        try:
            kind, body = work(self._path())
            self._send(HTTPStatus.OK, kind, body)
        except _RefusedError as refused:
            self._send(refused.status, "text/plain; charset=utf-8", str(refused).encode())
        except KaggleKitError as error:
            self._send(HTTPStatus.UNPROCESSABLE_ENTITY, "text/plain; charset=utf-8", str(error).encode())

    def _path(self) -> list[str]:
        """Return the parts of the address behind the token; refuse whoever must not ask."""
        if self.headers.get("Host") not in self.server.hosts:
            raise _RefusedError(HTTPStatus.FORBIDDEN, "another host name")
        origin = self.headers.get("Origin")
        own = {f"http://{host}" for host in self.server.hosts}
        if (origin is not None or self.command == "POST") and origin not in own:
            raise _RefusedError(HTTPStatus.FORBIDDEN, "another origin")
        if self.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            raise _RefusedError(HTTPStatus.FORBIDDEN, "another site")
        parts = self.path.split("/")[1:]
        if not parts or not hmac.compare_digest(parts[0].encode(), self.server.token.encode()):
            raise _RefusedError(HTTPStatus.NOT_FOUND, "there is nothing here")
        return parts[1:]

    def _get(self, parts: Sequence[str]) -> tuple[str, bytes]:
        desk = self.server.desk
        if list(parts) == [""]:
            return "text/html; charset=utf-8", _page(desk, self.server.title).encode()
        if len(parts) == 2 and parts[0] == "image":
            path = desk.suspects[self._number(parts[1])].path
            return "image/webp", make_thumbnail(decode_image(path, min_size=(_SIDE, _SIDE)), side=_SIDE, quality=85).data
        raise _RefusedError(HTTPStatus.NOT_FOUND, "there is nothing here")

    def _post(self, parts: Sequence[str]) -> tuple[str, bytes]:
        wanted = self._body()
        number, labels = self._number(str(wanted.get("number"))), wanted.get("labels", [])
        if not isinstance(labels, list) or not all(isinstance(name, str) for name in labels):
            raise _RefusedError(HTTPStatus.BAD_REQUEST, "labels must be a list of names")
        if list(parts) == ["decide"]:
            found = self.server.desk.decide(number, str(wanted.get("decision")), labels)
        elif list(parts) == ["undo"]:
            found = self.server.desk.undo(number)
        else:
            raise _RefusedError(HTTPStatus.NOT_FOUND, "there is nothing here")
        return "application/json", json.dumps(found).encode()

    def _body(self) -> dict[str, Any]:
        length = self.headers.get("Content-Length", "")
        if self.headers.get("Content-Type") != "application/json" or not length.isdecimal() or int(length) > _LONGEST:
            raise _RefusedError(HTTPStatus.BAD_REQUEST, "expected a small JSON object")
        try:
            found = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise _RefusedError(HTTPStatus.BAD_REQUEST, "expected a JSON object")
        return found

    def _number(self, text: str) -> int:
        if not (text.isascii() and text.isdecimal() and len(text) < 9 and int(text) < len(self.server.desk.suspects)):
            raise _RefusedError(HTTPStatus.NOT_FOUND, "there is no such row")
        return int(text)

    def _send(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **_HEADERS}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def _page(desk: Desk, title: str) -> str:
    data = {"items": desk.items(), "classes": list(desk.classes), "multilabel": desk.multilabel, "counts": desk.review.counts}
    return render_page("labels.html", scripts=["labels.js"], allowed=_POLICY, title=title, data=island(data), desk=desk)


def serve(issues: LabelIssues, path: Path, classes: Classes, *, multilabel: bool, say: Any, port: int = 0) -> Served:
    """Serve the page until Ctrl-C; ``say`` is called with its address."""
    desk = Desk(path, classes, issues.suspects[:MOST], multilabel=multilabel)
    with ReviewServer(desk, "Labels to review", port=port) as server:
        say(f"{issues.describe()}\nreview them at {server.address}\n(for this machine's browser only; Ctrl-C ends it)")
        try:
            server.serve_forever(poll_interval=0.2)
        except KeyboardInterrupt:
            logger.debug("stopped by Ctrl-C")
    return Served(path, path.stem, desk.review.counts)
