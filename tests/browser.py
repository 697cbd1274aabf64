"""A real browser, driven over its DevTools protocol: keys, evaluation, pictures. Nothing but Chromium is needed."""

import base64
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import websocket

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
_KEYS = {"Tab": (9, ""), "Enter": (13, "\r"), "ArrowRight": (39, ""), "ArrowLeft": (37, "")}


class Unanswered(AssertionError):
    """The browser could not do what it was asked."""


class Page:
    """One tab.

    Args:
        address: Its DevTools socket.
    """

    def __init__(self, address: str) -> None:
        self._socket = websocket.create_connection(address, timeout=60, suppress_origin=True)
        self._number = 0
        self.complaints: list[str] = []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")
        self.send("Emulation.setFocusEmulationEnabled", enabled=True)

    def send(self, method: str, **parameters: Any) -> Any:
        """Ask the browser for something and wait for its answer; complaints on the way are kept."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            said = json.loads(self._socket.recv())
            if said.get("method") == "Log.entryAdded" and said["params"]["entry"]["level"] == "error":
                self.complaints.append(said["params"]["entry"]["text"])
            if said.get("method") == "Runtime.exceptionThrown":
                self.complaints.append(said["params"]["exceptionDetails"]["text"])
            if said.get("id") == self._number:
                if "error" in said:
                    raise Unanswered(said["error"])
                return said["result"]

    def open(self, address: str, width: int = 360, height: int = 740) -> None:
        """Open a page as a phone would."""
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        self.send("Page.navigate", url=address)
        self.wait("document.readyState === 'complete' && location.href !== 'about:blank'")

    def evaluate(self, expression: str) -> Any:
        """Value of a JavaScript expression."""
        answer = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise Unanswered(answer["exceptionDetails"])
        return answer["result"].get("value")

    def wait(self, expression: str) -> None:
        """Wait until an expression is true."""
        end = time.monotonic() + 30
        while time.monotonic() < end:
            try:
                if self.evaluate(f"Boolean({expression})"):
                    return
            except Unanswered:
                pass  # the page is being left
            time.sleep(0.05)
        raise AssertionError(f"never so: {expression}; the page says {self.evaluate('document.body.innerText')!r}")

    def press(self, key: str) -> None:
        """Press and release a key."""
        code, text = _KEYS.get(key, (ord(key[0]), key))
        named = {"key": key, "windowsVirtualKeyCode": code, "code": key if key in _KEYS else f"Digit{key}"}
        self.send("Input.dispatchKeyEvent", type="keyDown", **named, **({"text": text} if text else {}))
        self.send("Input.dispatchKeyEvent", type="keyUp", **named)

    def picture(self, path: Path) -> None:
        """Save what the whole page looks like."""
        shot = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    def close(self) -> None:
        """Let go of the tab."""
        self._socket.close()


@contextmanager
def browser(folder: Path) -> Iterator[Page]:
    """Start a browser with an empty profile; the test is skipped where there is none."""
    program = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if program is None:
        pytest.skip("no Chromium; try `make tools`")
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    options += ["--remote-debugging-port=0", f"--user-data-dir={folder / 'profile'}", "--lang=en", "about:blank"]
    process = subprocess.Popen([program, *options], stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr
        address = next(line.split()[-1] for line in process.stderr if line.startswith("DevTools listening"))
        root = websocket.create_connection(address, timeout=60, suppress_origin=True)
        root.send(json.dumps({"id": 1, "method": "Target.getTargets"}))
        targets = json.loads(root.recv())["result"]["targetInfos"]
        tab = next(target["targetId"] for target in targets if target["type"] == "page")
        root.close()
        page = Page(f"{address.split('/devtools/')[0]}/devtools/page/{tab}")
        yield page
        page.close()
    finally:
        process.terminate()
        process.wait(30)
