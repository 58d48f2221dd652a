"""Chromium without a window, told what to do through the DevTools protocol over a pipe. Needs nothing but Python."""

import base64
import json
import os
import subprocess
import tempfile
import time

# WebGPU on SwiftShader, a driver that needs no GPU.
WITH_WEBGPU = [
    "--enable-unsafe-webgpu",
    "--use-vulkan=native",
    "--enable-features=Vulkan,VulkanFromANGLE,DefaultANGLEVulkan",
    "--use-angle=vulkan",
    "--disable-vulkan-surface",
]
WITHOUT_WEBGPU = ["--disable-features=WebGPU,WebGPUService", "--disable-gpu"]


class Browser:
    """A browser with one page."""

    def __init__(self, chromium, webgpu):
        self.folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        own = [
            chromium,
            "--headless=new",
            "--no-sandbox",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--remote-debugging-pipe",
            f"--user-data-dir={self.folder.name}",
            *(WITH_WEBGPU if webgpu else WITHOUT_WEBGPU),
            "about:blank",
        ]
        (its_in, to), (back, its_out) = os.pipe(), os.pipe()

        def as_three_and_four():
            # Copies first: one may be the number that the other takes.
            read, write = os.dup(its_in), os.dup(its_out)
            os.dup2(read, 3)
            os.dup2(write, 4)

        self.log = open(os.path.join(self.folder.name, "log"), "w+b")
        self.process = subprocess.Popen(
            own, close_fds=False, preexec_fn=as_three_and_four, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log
        )
        os.close(its_in)
        os.close(its_out)
        self.to, self.back = open(to, "wb", buffering=0), open(back, "rb", buffering=0)
        self.rest = b""
        self.count = 0
        self.events = []
        self.session = None
        targets = self.call("Target.getTargets")["targetInfos"]
        page = next(target for target in targets if target["type"] == "page")
        self.session = self.call("Target.attachToTarget", targetId=page["targetId"], flatten=True)["sessionId"]
        for domain in ["Page", "Runtime", "Network", "Log"]:
            self.call(f"{domain}.enable")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.log.close()
        self.folder.cleanup()

    def message(self):
        while b"\0" not in self.rest:
            part = self.back.read(1 << 20)
            if not part:
                self.log.seek(0)
                raise SystemExit(f"Chromium has ended: {self.log.read()[-2000:].decode(errors='replace')}")
            self.rest += part
        message, self.rest = self.rest.split(b"\0", 1)
        return json.loads(message)

    def call(self, method, **params):
        self.count += 1
        request = {"id": self.count, "method": method, "params": params}
        if self.session:
            request["sessionId"] = self.session
        data = json.dumps(request).encode() + b"\0"
        while data:
            data = data[self.to.write(data):]
        while True:
            message = self.message()
            if message.get("id") == self.count:
                if "error" in message:
                    raise SystemExit(f"{method}: {message['error']}")
                return message["result"]
            self.events.append(message)

    def run(self, script):
        """The value of a JavaScript expression; of a promise, what it gives."""
        found = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in found:
            raise SystemExit(f"{script[:200]}: {found['exceptionDetails']}")
        return found["result"].get("value")

    def until(self, script, seconds=60):
        """Waits until an expression is true."""
        end = time.monotonic() + seconds
        while not self.run(script):
            if time.monotonic() > end:
                raise SystemExit(f"not within {seconds} s: {script}")
            time.sleep(0.02)

    def open(self, path):
        """Opens a file, and waits for the page's self-test."""
        self.events.clear()
        self.call("Page.navigate", url=f"file://{os.path.abspath(path)}")
        self.until("document.readyState === 'complete' && !!document.getElementById('self-test')")
        self.until("/^(pass|fail)/.test(document.getElementById('self-test').textContent)")

    def text(self, name):
        return self.run(f"document.getElementById('{name}').textContent")

    def requests(self):
        """What was requested since the page was opened, and what the log says."""
        self.run("1")
        asked = [e["params"]["request"]["url"] for e in self.events if e.get("method") == "Network.requestWillBeSent"]
        logged = [e["params"]["entry"]["text"] for e in self.events if e.get("method") == "Log.entryAdded"]
        thrown = [e["params"] for e in self.events if e.get("method") == "Runtime.exceptionThrown"]
        return asked, logged, thrown

    def look(self, width, height=900, dark=False):
        """As a screen of this width shows it."""
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", features=scheme)
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500
        )

    def picture(self, path):
        """A picture of the whole page."""
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)["data"]
        with open(path, "wb") as file:
            file.write(base64.b64decode(data))
