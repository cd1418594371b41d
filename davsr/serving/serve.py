"""`davsr serve`: a page to try it in the browser, on this machine alone, by the standard library's server."""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import tempfile
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from davsr.errors import InputError
from davsr.serving.workshop import Job, Limits, Workshop

HOST = "127.0.0.1"
PAGE = Path(__file__).parent.parent / "assets" / "serve.html"
_PART = 2**20  # bytes of an upload that are in memory at once
_DISCARDED = 2**30  # bytes of a refused upload that are read all the same
_POLICY = "default-src 'none'; img-src 'self' data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'"


class Server(ThreadingHTTPServer):
    """The page and its workshop."""

    daemon_threads = True

    def __init__(self, port: int, workshop: Workshop) -> None:
        self.workshop = workshop
        super().__init__((HOST, port), _Handler)

    @property
    def address(self) -> str:
        """What to type into the browser."""
        return f"http://{HOST}:{self.server_address[1]}/"


class _Handler(BaseHTTPRequestHandler):
    server: Server
    unread = 0  # bytes of the request's body that are still to come

    def do_GET(self) -> None:
        """`/`, `/jobs/N`, `/jobs/N/before|after/FRAME.png`, `/jobs/N/result.mp4`."""
        path = urlsplit(self.path).path
        if not self._is_ours():
            return
        if path == "/":
            limits = self.server.workshop.limits
            text = PAGE.read_text(encoding="utf-8").replace("{{limits}}", json.dumps(vars(limits)))
            self._answer(200, "text/html; charset=utf-8", text.encode())
            return
        found = re.fullmatch(r"/jobs/(\d{1,9})(?:/(before|after)/(\d{1,9})\.png|/(result\.mp4))?", path)
        job = self.server.workshop.jobs.get(int(found[1])) if found else None
        if found is None or job is None:
            self._problem(404, "there is nothing here")
        elif found[2] is None and found[4] is None:
            self._json(200, job.report())
        elif job.state != "finished":
            self._problem(404, "the clip is not finished")
        elif found[4]:
            self._file(job)
        else:
            self._try(lambda: self._answer(200, "image/png", self._picture(job, found)))

    def do_POST(self) -> None:
        """`/jobs?name=...&scale=...` with the clip as the body."""
        if not self._is_ours():
            return
        parts = urlsplit(self.path)
        settings = dict(parse_qsl(parts.query))
        length = self.headers.get("Content-Length", "")
        self.unread = int(length) if length.isdigit() else 0
        limit = self.server.workshop.limits.megabytes
        if parts.path != "/jobs":
            self._problem(404, "there is nothing here")
        elif not length.isdigit() or int(length) == 0:
            self._problem(411, "the clip is empty")
        elif int(length) > limit * 2**20:
            self._problem(413, f"the clip has {int(length) / 2**20:.0f} MB, this page takes {limit}")
        else:
            self._try(lambda: self._json(202, self._start(settings, int(length)).report()))

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: a line for every look at the progress helps nobody."""

    def _start(self, settings: dict[str, str], length: int) -> Job:
        place = self.server.workshop.place_for(settings.get("name", ""))
        with place.open("wb") as file:
            while length:
                part = self.rfile.read(min(length, _PART))
                if not part:
                    raise InputError("the upload ended before the clip did")
                file.write(part)
                length -= len(part)
                self.unread -= len(part)
        return self.server.workshop.start(place, settings)

    def _picture(self, job: Job, found: re.Match[str]) -> bytes:
        return self.server.workshop.picture(job, found[2], int(found[3]))

    def _is_ours(self) -> bool:
        """Whether the request comes from our own page.

        Other sites that a browser has open must not reach this server.
        """
        host = f"{HOST}:{self.server.server_address[1]}"
        allowed = {host, host.replace(HOST, "localhost")}
        origin = self.headers.get("Origin")
        if self.headers.get("Host") in allowed and (origin is None or origin in {f"http://{name}" for name in allowed}):
            return True
        self._problem(403, "this server answers its own page alone")
        return False

    def _try(self, action: Callable[[], None]) -> None:
        try:
            action()
        except InputError as error:
            self._problem(400, str(error))

    def _problem(self, status: int, sentence: str) -> None:
        self.close_connection = True
        self._json(status, {"problem": sentence})
        # A browser that still sends its clip would meet a closed door instead of the sentence.
        left = min(self.unread, _DISCARDED)
        with contextlib.suppress(OSError):  # or it has gone
            while left > 0 and (part := self.rfile.read(min(left, _PART))):
                left -= len(part)

    def _json(self, status: int, tree: object) -> None:
        self._answer(status, "application/json", json.dumps(tree).encode())

    def _file(self, job: Job) -> None:
        name = f"davsr-{job.number}.mp4"
        self._answer(
            200, "video/mp4", job.target.read_bytes(), {"Content-Disposition": f'attachment; filename="{name}"'}
        )

    def _answer(self, status: int, kind: str, body: bytes, further: dict[str, str] | None = None) -> None:
        self.send_response(status)
        headers = {
            "Content-Type": kind,
            "Content-Length": str(len(body)),
            "Cache-Control": "no-store",
            **(further or {}),
        }
        headers.update({"Content-Security-Policy": _POLICY, "X-Content-Type-Options": "nosniff"})
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `davsr serve`."""
    limits = Limits()
    parser.add_argument("--port", type=int, default=8000, help="0: a free one (8000)")
    parser.add_argument("--model", help="a checkpoint, or training-free; default: the shipped model")
    parser.add_argument("--device", default="auto", metavar="NAME", help="auto, cpu, cuda, cuda:1 or mps")
    parser.add_argument("--megabytes", type=int, default=limits.megabytes, help=f"largest clip ({limits.megabytes})")
    parser.add_argument("--frames", type=int, default=limits.frames, help=f"most LR frames of a clip ({limits.frames})")
    parser.add_argument("--side", type=int, default=limits.side, help=f"longest LR side of a clip ({limits.side})")


def run(args: argparse.Namespace) -> int:
    """Serve until Ctrl-C; clips are in a temporary folder that goes away then."""
    limits = Limits(args.megabytes, args.frames, args.side)
    if min(vars(limits).values()) < 1 or not 0 <= args.port < 2**16:
        raise InputError("serve: limits must be at least 1, and the port between 0 and 65535")
    with tempfile.TemporaryDirectory(prefix="davsr-serve-") as folder:
        try:
            server = Server(args.port, Workshop(Path(folder), limits, args.model, args.device))
        except OSError as error:
            raise InputError(
                f"serve: port {args.port} cannot be had ({error.strerror}); --port 0 takes a free one"
            ) from None
        with server:
            print(f"davsr: {server.address}  (Ctrl-C ends it)", flush=True)
            server.serve_forever()
    return 0
