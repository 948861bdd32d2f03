"""A server on this machine that answers as Kaggle does: the endpoints, bodies and errors that the official client expects.

Remote calls are POST /v1/<service>/<Call> with JSON both ways; an error is ``{"code": 403, "message": "..."}``.
Uploads are PUT to a link (Google's resumable protocol), downloads a redirect to a link that knows ranges. ``faults[call]`` is a
queue of what goes wrong, one entry a request.
"""

from __future__ import annotations

import hashlib
import json
import socket
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from kaggle_kit.kaggle_api import Patience

_WEEKDAYS = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")  # of February 2021
USER, SECRET = "ada", "s3cr3t-0123456789abcdef"


@dataclass(frozen=True)
class Fault:
    """``kind``: "status" answers so; "drop" closes before acting, "lose" after; "hang" waits; "half" takes or sends half."""

    kind: str
    status: int = 500
    message: str = "boom"
    headers: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass
class Dataset:
    versions: list[dict[str, Any]] = field(default_factory=list)
    stages: list[str] = field(default_factory=list)  # what is said before "READY"


class FakeKaggle:
    """The state of the server, for tests to set up and to look at."""

    def __init__(self) -> None:
        self.faults: dict[str, list[Fault]] = defaultdict(list)
        self.calls: list[str] = []
        self.violations: list[str] = []  # of the protocol; must stay empty
        self.authorizations: list[str] = []
        self.submissions: list[dict[str, Any]] = []
        self.blobs: dict[str, bytearray] = {}
        self.sizes: dict[str, int] = {}
        self.names: dict[str, str] = {}
        self.received = 0  # bytes of bodies that were PUT
        self.pending_polls = 1
        self.limits = {"numToday": 1, "numTotal": 1, "numAllowedNow": 4}
        self.datasets: dict[str, Dataset] = {}
        self.kernels: dict[str, list[dict[str, Any]]] = {}
        self.kernel_states: list[tuple[str, str]] = []
        self.invalid_sources: list[str] = []
        self.archive = b""
        self.archive_name = "data.zip"
        self.validators = True
        self.server = _QuietServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def count(self, call: str) -> int:
        return self.calls.count(call)

    # What the calls do. Each returns the JSON of its answer.

    def IntrospectToken(self, body: dict[str, Any]) -> dict[str, Any]:
        return {"active": True, "username": USER} if body.get("token") == SECRET else {"active": False}

    def ListSubmissions(self, _body: dict[str, Any]) -> dict[str, Any]:
        for entry in self.submissions:
            if entry["status"] == "PENDING":
                entry["polls"] = entry.get("polls", 0) + 1
                if entry["polls"] > self.pending_polls:
                    entry.update(entry["outcome"])
        return {
            "submissions": [{k: v for k, v in e.items() if k not in ("polls", "outcome")} for e in reversed(self.submissions)]
        }

    outcome: dict[str, Any] = {"status": "COMPLETE", "publicScore": "0.91250", "privateScore": ""}

    def GetSubmissionLimits(self, _body: dict[str, Any]) -> dict[str, Any]:
        return self.limits

    def StartSubmissionUpload(self, body: dict[str, Any]) -> dict[str, Any]:
        return self._begin(body["fileName"], body["contentLength"])

    def StartBlobUpload(self, body: dict[str, Any]) -> dict[str, Any]:
        return self._begin(body["name"], body.get("contentLength", 0))

    def _begin(self, name: str, size: int) -> dict[str, Any]:
        token = f"token{len(self.blobs)}"
        self.blobs[token], self.sizes[token], self.names[token] = bytearray(), size, name
        return {"token": token, "createUrl": f"{self.url}/upload/{token}?upload_id=signed"}

    def CreateSubmission(self, body: dict[str, Any]) -> dict[str, Any]:
        token = body["blobFileTokens"]
        if len(self.blobs[token]) != self.sizes[token]:
            raise Refused(400, "The upload is not complete")
        ref = 40_000_000 + len(self.submissions)
        self.submissions.append(
            {
                "ref": ref,
                "fileName": self.names[token],
                "description": body.get("submissionDescription", ""),
                "date": "2025-01-02T03:04:05.678Z",
                "status": "PENDING",
                "outcome": dict(self.outcome),
                "totalBytes": self.sizes[token],
            }
        )
        return {"message": "Successfully submitted to Digits", "ref": ref}

    def GetDatasetStatus(self, body: dict[str, Any]) -> dict[str, Any]:
        dataset = self._dataset(body)
        return {"status": dataset.stages.pop(0) if dataset.stages else "READY"}

    def GetDataset(self, body: dict[str, Any]) -> dict[str, Any]:
        dataset = self._dataset(body)
        done = dataset.versions[:-1] if dataset.stages else dataset.versions
        listed = [{"versionNumber": at + 1, "versionNotes": one["notes"]} for at, one in enumerate(done)]
        return {"ref": "x", "currentVersionNumber": len(done), "versions": listed[::-1]}

    def CreateDataset(self, body: dict[str, Any]) -> dict[str, Any]:
        ref = f"{body['ownerSlug']}/{body['slug']}"
        if ref in self.datasets:
            return {"status": "error", "error": "The requested title is already in use by a dataset."}
        self.datasets[ref] = Dataset([self._version(body)], ["BLOBS_RECEIVED"])
        return {"status": "ok", "ref": ref, "url": f"https://kaggle.example/{ref}"}

    def CreateDatasetVersion(self, body: dict[str, Any]) -> dict[str, Any]:
        dataset = self._dataset(body)
        dataset.versions.append(self._version(body["body"]))
        dataset.stages = ["BLOBS_RECEIVED"]
        return {"status": "ok", "url": "https://kaggle.example/version"}

    def _version(self, body: dict[str, Any]) -> dict[str, Any]:
        names = sorted(self.names[file["token"]] for file in body["files"])
        return {"notes": body.get("versionNotes", ""), "files": names, "private": body.get("isPrivate")}

    def _dataset(self, body: dict[str, Any]) -> Dataset:
        ref = f"{body['ownerSlug']}/{body['datasetSlug']}"
        if ref not in self.datasets:
            raise Refused(403, "Permission 'datasets.get' was denied")
        return self.datasets[ref]

    def GetKernel(self, body: dict[str, Any]) -> dict[str, Any]:
        saved = self.kernels.get(f"{body['userName']}/{body['kernelSlug']}")
        if not saved:
            raise Refused(404, "Not found")
        return {"metadata": {"currentVersionNumber": len(saved)}, "blob": {"source": saved[-1]["text"]}}

    def SaveKernel(self, body: dict[str, Any]) -> dict[str, Any]:
        saved = self.kernels.setdefault(body["slug"], [])
        saved.append(body)
        return {
            "ref": body["slug"],
            "url": f"https://kaggle.example/code/{body['slug']}",
            "versionNumber": len(saved),
            "invalidDatasetSources": self.invalid_sources,
        }

    def GetKernelSessionStatus(self, _body: dict[str, Any]) -> dict[str, Any]:
        status, failure = self.kernel_states.pop(0) if self.kernel_states else ("COMPLETE", "")
        return {"status": status, "failureMessage": failure}


class _QuietServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """A client that gave up is what some tests are about."""


class Refused(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def _handler(kaggle: FakeKaggle) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_arguments: Any) -> None:
            pass

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
            call = self.path.rsplit("/", 1)[-1]
            kaggle.calls.append(call)
            kaggle.authorizations.append(self.headers.get("Authorization", ""))
            fault = kaggle.faults[call].pop(0) if kaggle.faults[call] else None
            if fault and fault.kind != "lose" and self._fail(fault):
                return
            if call == "DownloadDataFiles":
                self._answer(302, b"", {"Location": f"{kaggle.url}/files/{kaggle.archive_name}?signature=signed"})
                return
            try:
                answer = getattr(kaggle, call)(body)
            except Refused as refusal:
                self._error(refusal.status, str(refusal))
                return
            if fault:
                self._drop()
                return
            self._answer(200, json.dumps(answer).encode(), {"Content-Type": "application/json"})

        def do_PUT(self) -> None:
            kaggle.calls.append("PUT")
            if "Authorization" in self.headers:
                kaggle.violations.append("credentials were sent to the storage")
            token = self.path.split("?")[0].rsplit("/", 1)[-1]
            length, span = int(self.headers.get("Content-Length") or 0), self.headers.get("Content-Range", "")
            fault = kaggle.faults["PUT"].pop(0) if kaggle.faults["PUT"] else None
            blob = kaggle.blobs.get(token)
            if fault and fault.kind == "half":
                blob += self.rfile.read(length // 2)
                kaggle.received += length // 2
                self._drop()
                return
            if fault and fault.kind != "lose" and self._fail(fault):
                return
            if blob is None:
                self._error(404, "Upload expired")
                return
            if span.startswith("bytes */"):
                self._answer_upload(token)
                return
            if not span:
                del blob[:]  # all of it is sent
            elif int(span.split()[1].split("-")[0]) != len(blob):
                kaggle.violations.append(f"{span!r} sent when {len(blob)} bytes were here")
            blob += self.rfile.read(length)
            kaggle.received += length
            if fault:
                self._drop()
                return
            self._answer_upload(token)

        def _answer_upload(self, token: str) -> None:
            blob = kaggle.blobs[token]
            if len(blob) == kaggle.sizes[token]:
                self._answer(200, b"{}", {})
            else:
                self._answer(308, b"", {"Range": f"bytes=0-{len(blob) - 1}"} if blob else {})

        def do_GET(self) -> None:
            kaggle.calls.append("GET")
            data = kaggle.archive
            etag = f'"{hashlib.md5(data).hexdigest()}"'
            day = 1 + int(etag[1:9], 16) % 28  # a date that changes with the content
            dated = {
                "ETag": etag,
                "Accept-Ranges": "bytes",
                "Last-Modified": f"{_WEEKDAYS[day % 7]}, {day:02} Feb 2021 00:00:00 GMT",
            }
            headers = dated if kaggle.validators else {}
            fault = kaggle.faults["GET"].pop(0) if kaggle.faults["GET"] else None
            if fault and fault.kind != "half" and self._fail(fault):
                return
            start = int(self.headers.get("Range", "bytes=0-")[6:].rstrip("-"))
            if start and self.headers.get("If-Range") == etag:
                if start >= len(data):
                    self._error(416, "Range Not Satisfiable")
                    return
                headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
                status, data = 206, data[start:]
            else:
                status = 200
            kaggle.calls.append(f"GET {status}")
            if fault:
                self._answer(status, data[: len(data) // 2], headers | {"Content-Length": str(len(data))})
                self._drop()
                return
            self._answer(status, data, headers)

        def _fail(self, fault: Fault) -> bool:
            """Carry a fault out; whether the request ends here."""
            if fault.kind == "status":
                self._error(fault.status, fault.message, fault.headers)
            elif fault.kind == "drop":
                self._drop()
            elif fault.kind == "hang":
                time.sleep(fault.seconds)
                self._drop()
            return True

        def _error(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
            text = message.replace("{authorization}", self.headers.get("Authorization", ""))
            body = json.dumps({"code": status, "message": text}).encode()
            self._answer(status, body, {"Content-Type": "application/json", "Connection": "close", **(headers or {})})

        def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(body))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def _drop(self) -> None:
            self.wfile.flush()
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)

    return Handler


class FakeTime:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def clock(self) -> float:
        return self.now


@dataclass(frozen=True)
class Timed:
    time: FakeTime
    patience: Patience
