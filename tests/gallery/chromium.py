"""Headless Chromium for tests of pages: skipped where there is none, and every word in its console is a failure."""

import os
import re
import shutil
from pathlib import Path

import pytest

webdriver = pytest.importorskip("selenium.webdriver")
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
needs_chromium = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver")

FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

OWNED = "document.documentElement.dataset.owned='yes'"
HOSTILE = {
    1: f"<script>{OWNED}</script>",
    2: f'"><img src=x onerror="{OWNED}">',
    3: f"</script><script>{OWNED}</script><!--",
    4: f"</bdi></h3><svg onload={OWNED}>",
    5: "abc\u202egpj.exe",
    6: "🦩 عربى 鴕鳥",
    7: "x" * 10_000,
    8: "long words " * 900,
    9: f"javascript:{OWNED}",
}
"""Labels that would run, break out of an attribute, turn direction, or not end."""


class Browser:
    """Chromium with one page open; `problems` are what its console has said since the page was opened."""

    def __init__(self, folder):
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        for flag in [*FLAGS, f"--user-data-dir={folder}"]:
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))

    def open(self, page, fragment="", width=1280, height=900, **media):
        """The page at a path, for a screen of this size; media: such as prefers_color_scheme="dark"."""
        self.command(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )
        features = [{"name": name.replace("_", "-"), "value": value} for name, value in media.items()]
        self.command("Emulation.setEmulatedMedia", features=features)
        self.driver.get("about:blank")
        self.driver.get_log("browser")
        self.driver.get(f"file://{page}{fragment}")

    def command(self, name, **arguments):
        return self.driver.execute_cdp_cmd(name, arguments)

    def js(self, expression):
        return self.driver.execute_script(f"return {expression}")

    def one(self, selector):
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def visible(self, selector):
        return [e for e in self.driver.find_elements(By.CSS_SELECTOR, selector) if e.is_displayed()]

    def press(self, key):
        self.driver.switch_to.active_element.send_keys(key)

    def until(self, expression):
        WebDriverWait(self.driver, 5, 0.02).until(lambda _: self.js(expression), expression)

    def move(self, x, y):
        self.command("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def memory(self):
        """Bytes that the process of the page has for itself: what the browser's task manager calls its memory."""
        parents = {}
        for process in Path("/proc").glob("[0-9]*"):
            try:
                parents[int(process.name)] = int((process / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:  # it has ended meanwhile
                continue
        ours = {self.driver.service.process.pid}
        while more := {process for process, parent in parents.items() if parent in ours} - ours:
            ours |= more
        found = [0]
        for process in ours:
            try:
                if b"--type=renderer" in Path(f"/proc/{process}/cmdline").read_bytes():
                    rollup = Path(f"/proc/{process}/smaps_rollup").read_text()
                    found.append(sum(int(kilo) for kilo in re.findall(r"Private_\w+: +(\d+) kB", rollup)) * 1024)
            except OSError:
                continue
        return max(found)

    @property
    def title(self):
        return self.one("#unit-title > bdi").text

    @property
    def problems(self):
        return [entry["message"] for entry in self.driver.get_log("browser")]
