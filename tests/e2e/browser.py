"""Drives headless Chromium over the DevTools protocol, for tests of pages.

    with Browser() as browser:
        tab = browser.tab("http://127.0.0.1:8080/chat/")
        tab.fill("#name", "Ann")
        tab.press("Enter")
        tab.wait("document.title.startsWith('lobby')")
        assert tab.errors == []

Every tab has a profile of its own (cookies, storage) unless it is opened beside another one. Mouse
and keyboard events go through the browser's own input handling, as a person's do. Needs nothing but
the standard library and python3-websockets.
"""
import asyncio
import base64
import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import websockets

import library

TIMEOUT = 10.0  # seconds a wait may take
FLAGS = [
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-background-timer-throttling", "--disable-renderer-backgrounding",
    "--disable-backgrounding-occluded-windows", "--disable-dev-shm-usage", "--disable-extensions",
    "--disable-default-apps", "--mute-audio", "--hide-scrollbars", "--force-color-profile=srgb",
    "--remote-debugging-port=0",
]
KEYS = {  # name -> (key, code, virtual key code, text)
    "Enter": ("Enter", "Enter", 13, "\r"),
    "Tab": ("Tab", "Tab", 9, ""),
    "Escape": ("Escape", "Escape", 27, ""),
    "Backspace": ("Backspace", "Backspace", 8, ""),
    "ArrowUp": ("ArrowUp", "ArrowUp", 38, ""),
    "ArrowDown": ("ArrowDown", "ArrowDown", 40, ""),
    " ": (" ", "Space", 32, " "),
}
SHIFT = 8


def find_chromium():
    """The path of a Chromium, or None. $PERIGEE_CHROMIUM comes first."""
    for name in (os.environ.get("PERIGEE_CHROMIUM"), "chromium", "chromium-browser", "google-chrome"):
        path = name and shutil.which(name)
        if path:
            return path
    return None


class PageError(AssertionError):
    """Something on the page is not as it should be."""


class Browser:
    """A Chromium of its own, in a temporary profile."""

    def __init__(self, program=None):
        self.program = program or find_chromium()
        if not self.program:
            raise FileNotFoundError("chromium is not installed")
        self._dir = tempfile.mkdtemp(prefix="perigee-chromium-")
        self._process = self._socket = self._reader = None
        self._last_id = 0
        self._calls = {}  # id -> future
        self._tabs = {}  # session id -> Tab
        # DevTools speaks whenever it likes; tests want plain calls. So: a loop in a thread.
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def _start(self):
        with open(Path(self._dir) / "stderr", "wb") as stderr:
            self._process = subprocess.Popen(
                [self.program, *FLAGS, f"--user-data-dir={self._dir}", "about:blank"],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr,
                start_new_session=True,  # its helpers are ended with it, and only they
            )
        port_file = Path(self._dir) / "DevToolsActivePort"
        deadline = time.monotonic() + 30
        while True:
            lines = port_file.read_text().split("\n") if port_file.exists() else []
            if len(lines) >= 2 and lines[1]:
                break
            if self._process.poll() is not None or time.monotonic() > deadline:
                said = (Path(self._dir) / "stderr").read_text(errors="replace")
                raise PageError(f"chromium did not start:\n{said[-2000:]}")
            time.sleep(0.02)
        self._run(self._connect(f"ws://127.0.0.1:{lines[0]}{lines[1]}"))

    def _run(self, coroutine, timeout=30.0):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout)

    async def _connect(self, url):
        self._socket = await library.connect(url, max_size=None, ping_interval=None, compression=None)
        self._reader = asyncio.ensure_future(self._read())

    async def _read(self):
        with contextlib.suppress(websockets.ConnectionClosed):
            async for text in self._socket:
                message = json.loads(text)
                if "id" in message:
                    call = self._calls.pop(message["id"], None)
                    if call and not call.done():
                        call.set_result(message)
                elif message.get("sessionId") in self._tabs:
                    self._tabs[message["sessionId"]]._on_event(message["method"], message["params"])
        for call in self._calls.values():
            if not call.done():
                call.set_exception(PageError("the browser is gone"))

    async def _call(self, method, params, session):
        self._last_id += 1
        message = {"id": self._last_id, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        call = self._calls[self._last_id] = self._loop.create_future()
        await self._socket.send(json.dumps(message))
        return await call

    def command(self, method, _session=None, _timeout=30.0, **params):
        """A DevTools command; returns its result."""
        answer = self._run(self._call(method, params, _session), _timeout)
        if "error" in answer:
            raise PageError(f"{method}: {answer['error'].get('message')}")
        return answer["result"]

    def tab(self, url=None, beside=None, **view):
        """Opens a tab. beside: another tab whose profile it shares. view: see Tab.view."""
        context = beside.context if beside else self.command("Target.createBrowserContext")["browserContextId"]
        target = self.command("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        session = self.command("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        tab = Tab(self, context, target, session)
        self._tabs[session] = tab
        for domain in ("Page", "Runtime", "Log", "Network"):
            tab.command(f"{domain}.enable")
        # Every tab believes that it is the one being looked at: timers run, focus works.
        tab.command("Emulation.setFocusEmulationEnabled", enabled=True)
        tab.view(**view)
        if url:
            tab.go(url)
        return tab

    def tabs(self):
        """All tabs that are open."""
        return list(self._tabs.values())

    def close(self):
        """Ends the browser and removes its profile."""
        if self._socket:
            with contextlib.suppress(Exception):
                self._run(self._call("Browser.close", {}, None), 5)
            with contextlib.suppress(Exception):
                self._run(self._socket.close(), 5)
        if self._process:
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        shutil.rmtree(self._dir, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Tab:
    """One page. `errors` collects what went wrong on it: exceptions, console errors, failed requests."""

    def __init__(self, browser, context, target, session):
        self.browser = browser
        self.context = context
        self.errors = []
        self.requests = []  # addresses of everything it asked for
        self._target = target
        self._session = session
        self._loaded = 0

    def command(self, method, _timeout=30.0, **params):
        """A DevTools command for this tab."""
        return self.browser.command(method, self._session, _timeout, **params)

    def _on_event(self, method, params):
        if method == "Page.loadEventFired":
            self._loaded += 1
        elif method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.errors.append(f"exception: {details.get('exception', {}).get('description') or details['text']}")
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            words = [str(a.get("value", a.get("description", ""))) for a in params["args"]]
            self.errors.append(f"console.{params['type']}: {' '.join(words)}")
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            entry = params["entry"]
            self.errors.append(f"{entry['source']}: {entry['text']} {entry.get('url', '')}".rstrip())
        elif method in ("Network.requestWillBeSent", "Network.webSocketCreated"):
            self.requests.append(params["url"] if "url" in params else params["request"]["url"])
        elif method == "Network.responseReceived" and params["response"]["status"] >= 400:
            self.errors.append(f"{params['response']['status']}: {params['response']['url']}")
        elif method == "Network.loadingFailed" and not params.get("canceled"):
            self.errors.append(f"request failed: {params['errorText']}")

    # ---- looking -----------------------------------------------------------------------------------

    def view(self, width=1280, height=800, scale=1, phone=False, dark=False, still=True):
        """Size of the window; phone: a touch screen; dark: the visitor prefers that; still: no motion."""
        self.command("Emulation.setDeviceMetricsOverride", width=width, height=height,
                     deviceScaleFactor=scale, mobile=phone)
        self.command("Emulation.setTouchEmulationEnabled", enabled=phone)
        self.command("Emulation.setEmulatedMedia", features=[
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
            {"name": "prefers-reduced-motion", "value": "reduce" if still else "no-preference"},
        ])

    def go(self, url, timeout=TIMEOUT):
        """Opens an address and waits until it is loaded."""
        before = self._loaded
        result = self.command("Page.navigate", url=url)
        if result.get("errorText"):
            raise PageError(f"{url}: {result['errorText']}")
        self._wait_for_load(before, timeout)

    def reload(self, timeout=TIMEOUT):
        """Loads the page anew."""
        before = self._loaded
        self.command("Page.reload")
        self._wait_for_load(before, timeout)

    def _wait_for_load(self, before, timeout):
        deadline = time.monotonic() + timeout
        while self._loaded == before:
            if time.monotonic() > deadline:
                raise PageError("the page did not load in time")
            time.sleep(0.01)

    def eval(self, script, timeout=30.0):
        """The value of an expression; a promise is waited for."""
        result = self.command("Runtime.evaluate", _timeout=timeout, expression=script,
                              awaitPromise=True, returnByValue=True, userGesture=True)
        if "exceptionDetails" in result:
            details = result["exceptionDetails"]
            raise PageError(f"{script}\n{details.get('exception', {}).get('description') or details['text']}")
        return result["result"].get("value")

    def wait(self, condition, timeout=TIMEOUT):
        """Waits until an expression is true on the page, also while the page loads itself anew; returns its value."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                return self._wait(condition, max(deadline - time.monotonic(), 1))
            except PageError as e:
                if "navigated" not in str(e) or time.monotonic() > deadline:
                    raise

    def _wait(self, condition, timeout):
        done = self.eval(f"""new Promise((resolve) => {{
            const deadline = performance.now() + {timeout * 1000};
            const look = () => {{
                let value, error;
                try {{ value = ({condition}); }} catch (e) {{ error = String(e); }}
                if (value) resolve({{ value }});
                else if (performance.now() > deadline) resolve({{ timeout: true, last: error ?? value }});
                else setTimeout(look, 15);
            }};
            look();
        }})""", timeout + 10)
        if "timeout" in done:
            raise PageError(f"after {timeout:g} s still not: {condition}\nlast value: {done.get('last')!r}\n"
                            f"errors: {self.errors}\npage:\n{self.text('body')[:3000]}")
        return done["value"]

    def wait_text(self, selector, text, timeout=TIMEOUT):
        """Waits until the elements that match hold a text."""
        self.wait(f"{_all(selector)}.some(e => e.innerText.includes({json.dumps(text)}))", timeout)

    def text(self, selector):
        """What an element shows."""
        return self.eval(f"document.querySelector({json.dumps(selector)})?.innerText ?? null")

    def texts(self, selector):
        """What all elements that match show."""
        return self.eval(f"{_all(selector)}.map(e => e.innerText)")

    def count(self, selector):
        """How many elements match."""
        return self.eval(f"{_all(selector)}.length")

    def is_visible(self, selector):
        """Can it be seen?"""
        return self.eval(f"{_all(selector)}.some(e => e.checkVisibility({{ visibilityProperty: true }}))")

    def screenshot(self, path):
        """Writes a picture of the window."""
        picture = self.command("Page.captureScreenshot", format="png")["data"]
        Path(path).write_bytes(base64.b64decode(picture))

    # ---- doing -------------------------------------------------------------------------------------

    def click(self, selector, timeout=TIMEOUT):
        """Clicks in the middle of an element, once it can be seen and nothing lies on it. What moved away under the
        mouse is clicked again, as a visitor would."""
        deadline = time.monotonic() + timeout
        while True:
            at = self.wait(f"""(() => {{
                const e = document.querySelector({json.dumps(selector)});
                if (!e || e.disabled || !e.checkVisibility({{ visibilityProperty: true }})) return null;
                e.scrollIntoView({{ block: "nearest", behavior: "instant" }});
                const r = e.getBoundingClientRect();
                const x = r.x + r.width / 2, y = r.y + r.height / 2;
                const meets = (other) => e.contains(other) || other.contains(e);
                const top = document.elementFromPoint(x, y);
                if (!top || !meets(top)) return null;
                window.hasMissed = true;
                window.addEventListener("mousedown", ({{ target }}) => {{ window.hasMissed = !meets(target); }},
                                        {{ capture: true, once: true }});
                return {{ x, y }};
            }})()""", max(deadline - time.monotonic(), 1))
            for kind in ("mousePressed", "mouseReleased"):
                self.command("Input.dispatchMouseEvent", type=kind, x=at["x"], y=at["y"], button="left", clickCount=1)
            try:
                self.wait("window.hasMissed !== true", 1)  # another page knows nothing of it
                return
            except PageError:
                if time.monotonic() > deadline:
                    raise

    def type(self, text):
        """Writes where the focus is."""
        self.command("Input.insertText", text=text)

    def fill(self, selector, text):
        """Replaces what is in a field."""
        self.click(selector)
        self.eval(f"document.querySelector({json.dumps(selector)}).select()")
        if text:
            self.type(text)
        else:
            self.press("Backspace")

    def press(self, key, shift=False):
        """Presses a key, by its name in KEYS or as a character."""
        name, code, number, text = KEYS.get(key, (key, f"Key{key.upper()}", ord(key.upper()[0]), key))
        common = {"key": name, "code": code, "windowsVirtualKeyCode": number, "modifiers": SHIFT if shift else 0}
        self.command("Input.dispatchKeyEvent", type="keyDown", text=text, **common)
        self.command("Input.dispatchKeyEvent", type="keyUp", **common)

    def close(self):
        """Closes the tab, as a visitor would; and with the last tab of a profile the profile."""
        if not self.browser._tabs.pop(self._session, None):
            return
        self.browser.command("Target.closeTarget", targetId=self._target)
        if all(tab.context != self.context for tab in self.browser.tabs()):
            self.browser.command("Target.disposeBrowserContext", browserContextId=self.context)


def _all(selector):
    return f"[...document.querySelectorAll({json.dumps(selector)})]"
