"""A browser without a window, for tests that look at a page: it opens a file, and what it made of it is read."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest

COMMAND = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
NEEDED = [
    pytest.mark.seeing,
    pytest.mark.slow,
    pytest.mark.skipif(COMMAND is None, reason="there is no Chromium or Chrome on this machine"),
]
GUARD_SECONDS = 120
SCHEMES = {"dark": 0, "light": 1}  # as the browser's engine numbers them


class Page(HTMLParser):
    """What stands in a page: its elements with their attributes, and the text of each kind of element.

    Args:
        text: the page, as it was written or as a browser has changed it.
    """

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.elements = []
        self.texts = {}
        self._open = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self.texts.setdefault(tag, []).append("")
        self._open.append((tag, len(self.texts[tag]) - 1))

    def handle_endtag(self, tag):
        while self._open and self._open.pop()[0] != tag:
            pass

    def handle_data(self, data):
        for tag, at in self._open:
            self.texts[tag][at] += data

    @property
    def root(self):
        """The attributes of the whole page's element, where the page's script says what it drew."""
        return next(attributes for tag, attributes in self.elements if tag == "html")

    def of_class(self, name):
        """Return the attributes of all elements of a class."""
        return [attributes for _, attributes in self.elements if name in (attributes.get("class") or "").split()]


def picture(page, path, tmp_path, *, size=(1100, 640)):
    """Write a picture of a page, as a PNG."""
    command = [
        COMMAND, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
        f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={size[0]},{size[1]}",
        f"--blink-settings=preferredColorScheme={SCHEMES['light']}", f"--screenshot={path}", page.as_uri(),
    ]  # fmt: skip
    child = subprocess.run(command, capture_output=True, timeout=GUARD_SECONDS, check=False)
    assert child.returncode == 0, child.stderr.decode(errors="replace")


def opened(path, tmp_path, *, scheme="light", fragment="", size=(1200, 900)):
    """Return a page as it is after a browser has opened it and run its script."""
    command = [
        COMMAND, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
        f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={size[0]},{size[1]}",
        f"--blink-settings=preferredColorScheme={SCHEMES[scheme]}", "--dump-dom",
        path.as_uri() + fragment,
    ]  # fmt: skip
    child = subprocess.run(command, capture_output=True, timeout=GUARD_SECONDS, check=False)
    assert child.returncode == 0, child.stderr.decode(errors="replace")
    return Page(child.stdout.decode("utf-8", errors="replace"))


def with_script(page, script):
    """Return the text of a page that runs another script after its own, as a user's hands would act on it.

    What the page would draw in its next frame, it draws at once, because the browser may not wait for another frame.
    """
    script = f"window.requestAnimationFrame = (draw) => draw();{script}"
    without_policy = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
    return without_policy.replace("</body>", f"<script>{script}</script></body>")
