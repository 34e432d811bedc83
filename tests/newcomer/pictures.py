"""Pictures of a newcomer's first run for the guide: the terminal, the live report, the report and the gallery.

`python -m tests.newcomer --pictures docs/images/photos` takes them. It needs tmux and Chromium.
"""

import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.browser.chromium import opened_browser
from tests.browser.screenshots import take_gallery_pictures, take_pictures
from tests.browser.terminal import Terminal, to_svg

RUN_SECONDS, SERVE_SECONDS = 3600, 300
_ROWS = 30


class Pictures:
    """Takes the pictures.

    Args:
        prefix: beginning of the files' paths.
    """

    def __init__(self, prefix: Path):
        self._prefix = prefix.absolute()
        self._prefix.parent.mkdir(parents=True, exist_ok=True)

    def run(self, folder: Path, arguments: Sequence[str]) -> tuple[int | None, str]:
        """Run `dpt` in a terminal, taking pictures of it and of the live report; return status and output.

        The pictures are taken when the generator has shown its second picture, and at the end.
        """
        with Terminal([sys.executable, "-m", "dpt_ray", *arguments], folder, _ROWS) as terminal:
            terminal.wait(lambda: len(list(folder.rglob("pictures/stage_2_generator-*.png"))) > 1, RUN_SECONDS)
            self._draw(terminal, folder, arguments, "running")
            live = next(folder.glob("dpt_results/runs/*/*/report.html"), None)
            if live is not None:
                terminal.wait(lambda: "stage 2 generator, after" in live.read_text(encoding="utf-8"), 60)
                self._photograph(live, "live")
            terminal.wait(lambda: False, RUN_SECONDS)
            self._draw(terminal, folder, arguments, "done")
            return terminal.status(), terminal.text()

    def report(self, file: Path) -> None:
        """Take the pictures of a finished report."""
        self._photograph(file, "report")

    def gallery(self, folder: Path, run: str) -> None:
        """Serve a run, draw and classify images in a browser, and take pictures of the page."""
        command = [sys.executable, "-m", "dpt_ray", "serve", run, "--port", "0"]
        with subprocess.Popen(
            command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as served:
            try:
                assert served.stdout is not None
                address = next(found for line in served.stdout if (found := re.search(r"http://\S+/", line)))
                with opened_browser() as browser:
                    take_gallery_pictures(browser, address[0], f"{self._prefix}-gallery")
            finally:
                served.send_signal(signal.SIGINT)
                served.wait(SERVE_SECONDS)

    def _draw(self, terminal: Terminal, folder: Path, arguments: Sequence[str], name: str) -> None:
        screen = terminal.screen().replace(f"{folder}/", "~/")
        picture = to_svg(screen, shlex.join(["dpt", *arguments]))
        Path(f"{self._prefix}-{name}.svg").write_text(picture + "\n", encoding="utf-8")

    def _photograph(self, page: Path, name: str) -> None:
        with opened_browser() as browser:
            take_pictures(browser, page, f"{self._prefix}-{name}")
