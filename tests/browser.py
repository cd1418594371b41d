"""A headless Chromium for tests, spoken to through its debugging pipe; needs no driver and no package.

python tests/browser.py results/demo/index.html screenshot.png     opens a report, moves its slider, keeps a picture
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

FOUND = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)


class Browser:
    """One page of a headless Chromium; `errors` collects what its console and scripts complain about."""

    def __init__(self, width: int = 1280, height: int = 900) -> None:
        assert FOUND is not None, "no Chromium is installed"
        self.profile = tempfile.mkdtemp(prefix="davsr-browser-")
        to_read, self._out = os.pipe()
        self._in, to_write = os.pipe()

        def connect() -> None:  # Chromium reads commands from descriptor 3 and answers on 4
            copies = os.dup(to_read), os.dup(to_write)  # either of the two may itself be 3 or 4
            os.dup2(copies[0], 3)
            os.dup2(copies[1], 4)

        arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--hide-scrollbars"]
        self._process = subprocess.Popen(
            [FOUND, *arguments, f"--user-data-dir={self.profile}", f"--window-size={width},{height}", "about:blank"],
            preexec_fn=connect,
            close_fds=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_read)
        os.close(to_write)
        self._buffer, self._count = b"", 0
        self._session: str | None = None
        self.errors: list[str] = []
        target = next(t for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page")
        self._session = self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._process.terminate()
        self._process.wait(timeout=20)
        os.close(self._out)
        os.close(self._in)
        shutil.rmtree(self.profile, ignore_errors=True)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the DevTools protocol, and its answer."""
        self._count += 1
        message: dict[str, Any] = {"id": self._count, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._count:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            part = os.read(self._in, 1 << 20)
            if not part:
                raise RuntimeError("the browser has gone")
            self._buffer += part
        text, self._buffer = self._buffer.split(b"\0", 1)
        message: dict[str, Any] = json.loads(text)
        if message.get("method") == "Runtime.exceptionThrown":
            details = message["params"]["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description", details["text"]))
        if message.get("method") == "Log.entryAdded" and message["params"]["entry"]["level"] == "error":
            self.errors.append(message["params"]["entry"]["text"])
        return message

    def open(self, path: Path) -> None:
        """Open a file and wait until it and its pictures are there."""
        self.visit(path.resolve().as_uri())

    def visit(self, address: str) -> None:
        """The same for any address."""
        self.call("Page.navigate", url=address)
        ready = "document.readyState === 'complete' && [...document.images].every(i => !i.src || i.complete)"
        self.evaluate(f"new Promise(done => {{ const look = () => {ready} ? done() : setTimeout(look, 30); look(); }})")

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression, awaited."""
        result = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in result:
            raise RuntimeError(result["exceptionDetails"]["exception"]["description"])
        return result["result"].get("value")

    def drag(self, start: tuple[float, float], stop: tuple[float, float]) -> None:
        """Press the mouse at `start`, move to `stop`, release; in pixels of the window."""
        for kind, (x, y) in (("mousePressed", start), ("mouseMoved", stop), ("mouseReleased", stop)):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        """Keep what the window, or the whole page, shows as a PNG."""
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"]
        path.write_bytes(base64.b64decode(data))


def move_slider(browser: Browser, to: float) -> None:
    """Drag the report's slider to a fraction of its width."""
    browser.evaluate("document.getElementById('slider').scrollIntoView({block: 'center'})")
    box = browser.evaluate(
        "(() => { const b = document.getElementById('slider').getBoundingClientRect(); return [b.x, b.y, b.width, b.height]; })()"
    )
    y = box[1] + box[3] / 2
    browser.drag((box[0] + box[2] / 2, y), (box[0] + to * box[2], y))


if __name__ == "__main__":
    with Browser(height=1000) as page:
        page.open(Path(sys.argv[1]))
        move_slider(page, 0.4)
        size = page.call("Page.getLayoutMetrics")["cssContentSize"]
        page.call(
            "Emulation.setDeviceMetricsOverride",
            width=1280,
            height=int(size["height"]),
            deviceScaleFactor=1,
            mobile=False,
        )
        page.screenshot(Path(sys.argv[2]))
        print(*(page.errors or ["no errors"]), sep="\n")
