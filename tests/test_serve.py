"""`davsr serve`: a real upload in a real browser, and what the server refuses."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from davsr.cli import main
from davsr.data.clips import open_clip
from davsr.serving.serve import HOST, Server
from davsr.serving.workshop import Limits, Workshop
from tests.browser import FOUND, Browser
from tests.videos import write_video


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "small.mp4"
    frames = np.random.default_rng(0).integers(60, 200, (1, 24, 32, 3), dtype=np.uint8)
    smooth = cv2.GaussianBlur(frames[0], (0, 0), 2)
    write_video(path, np.stack([np.roll(smooth, 2 * n, axis=1) for n in range(3)]))
    return path


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    limits = Limits(megabytes=1, frames=4, side=64)
    with Server(0, Workshop(tmp_path_factory.mktemp("shop"), limits, "training-free", "cpu")) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def ask(server: Server, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection(HOST, server.server_address[1], timeout=60)
    connection.request(method, path, body or None, headers)
    answer = connection.getresponse()
    return answer.status, dict(answer.getheaders()), answer.read()


def wait(server: Server, number: int) -> dict[str, Any]:
    while True:
        report: dict[str, Any] = json.loads(ask(server, "GET", f"/jobs/{number}")[2])
        if report["state"] in ("finished", "failed"):
            return report
        time.sleep(0.1)


def test_a_clip_goes_in_and_comes_back(server, clip, tmp_path):
    status, _, body = ask(server, "POST", "/jobs?name=a.mp4&scale=2+2+2&exposure=1.5", clip.read_bytes())
    assert status == 202
    report = wait(server, json.loads(body)["job"])
    assert (report["state"], report["done"], report["total"], report["scale"]) == ("finished", 3, 3, [2, 2, 2]), report
    status, headers, result = ask(server, "GET", f"/jobs/{report['job']}/result.mp4")
    assert status == 200 and "attachment" in headers["Content-Disposition"]
    (tmp_path / "out.mp4").write_bytes(result)
    assert (len(restored := open_clip(tmp_path / "out.mp4")), restored.size) == (6, (48, 64))
    for which in ("before", "after"):
        picture = ask(server, "GET", f"/jobs/{report['job']}/{which}/5.png")[2]
        assert cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR).shape == (48, 64, 3)
    assert ask(server, "GET", f"/jobs/{report['job']}/after/6.png")[0] == 400


@pytest.mark.parametrize(
    ("path", "body", "status", "sentence"),
    [
        ("/jobs?name=a.txt", b"x", 400, "a.txt must be a video"),
        ("/jobs?name=a.mp4", b"no video at all", 400, "cannot be opened"),
        ("/jobs?name=a.mp4", b"", 411, "the clip is empty"),
        ("/jobs?name=a.mp4", bytes(2**20 + 1), 413, "this page takes 1"),
        ("/jobs?name=a.mp4&scale=2", None, 400, "degradation.scale must be a list of 3 values"),
        ("/jobs?name=a.mp4&psf=/etc/passwd.npy", None, 400, "files are for the command line"),
        ("/elsewhere", b"x", 404, "nothing here"),
    ],
)
def test_what_it_does_not_take_is_one_sentence(server, clip, path, body, status, sentence):
    got, _, answer = ask(server, "POST", path, clip.read_bytes() if body is None else body)
    assert got == status and sentence in json.loads(answer)["problem"]


def test_long_and_large_clips_are_refused_before_the_work(server, tmp_path):
    for name, shape, sentence in (("long", (5, 16, 16, 3), "has 5 frames"), ("wide", (2, 16, 80, 3), "is 80x16")):
        write_video(tmp_path / f"{name}.mp4", np.full(shape, 90, np.uint8))
        status, _, answer = ask(server, "POST", "/jobs?name=a.mp4", (tmp_path / f"{name}.mp4").read_bytes())
        assert status == 400 and sentence in json.loads(answer)["problem"]


@pytest.mark.parametrize("headers", [{"Host": "evil.example"}, {"Origin": "http://evil.example"}])
def test_other_sites_are_not_answered(server, headers):
    assert ask(server, "GET", "/", **headers)[0] == 403
    assert ask(server, "POST", "/jobs?name=a.mp4", b"x", **headers)[0] == 403


def test_it_listens_on_this_machine_alone_and_a_taken_port_is_told(server, capsys):
    assert server.socket.getsockname()[0] == "127.0.0.1"
    assert main(["serve", "--port", str(server.server_address[1])]) == 2
    assert "cannot be had" in capsys.readouterr().err
    assert main(["serve", "--frames", "0"]) == 2


@pytest.mark.skipif(FOUND is None, reason="no Chromium is installed")
def test_in_a_browser(server, clip, tmp_path):
    """Upload, restore, compare, download, as a person would."""
    with Browser() as browser:
        browser.visit(server.address)
        document = browser.call("DOM.getDocument")["root"]["nodeId"]
        field = browser.call("DOM.querySelector", nodeId=document, selector="#file")["nodeId"]
        browser.call("DOM.setFileInputFiles", nodeId=field, files=[str(clip)])
        assert browser.evaluate("chosen.textContent") == f"small.mp4, {-(-clip.stat().st_size // 1024)} kB"
        browser.evaluate("rate.value = 2, sides.value = 3, go.click()")
        browser.evaluate(
            "new Promise((done, no) => { const told = document.getElementById('problem'); const look = () => "
            "!result.hidden ? done() : told.textContent ? no(new Error(told.textContent)) : setTimeout(look, 100); look(); })"
        )
        assert browser.evaluate("facts.textContent").startswith("3 frames became 6, 3 times as wide")
        assert browser.evaluate("[after.naturalWidth, before.naturalHeight]") == [96, 72]
        box = browser.evaluate("(b => [b.x, b.y, b.width, b.height])(compare.getBoundingClientRect())")
        y = box[1] + min(box[3] / 2, 100)
        browser.drag((box[0] + box[2] / 2, y), (box[0] + box[2] / 4, y))
        assert abs(int(browser.evaluate("compare.getAttribute('aria-valuenow')")) - 25) <= 1
        size = browser.evaluate("fetch(download.href).then(r => r.blob()).then(b => b.size)")
        assert size > 500 and browser.errors == []
        browser.screenshot(tmp_path / "page.png", whole=True)
        assert (tmp_path / "page.png").stat().st_size > 5000
