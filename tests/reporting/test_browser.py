"""Pages in a real browser: Chromium without a window, where it is installed."""

import re
import shutil
import subprocess

import pytest

from semiseg_jax import report
from tests.reporting import made_run

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
pytestmark = [
  pytest.mark.slow,
  pytest.mark.extras,
  pytest.mark.skipif(CHROMIUM is None, reason="needs chromium"),
]


def _opened(path, folder):
  """(what the console says, addresses that were asked for, the page as it is then)."""
  log = folder / "net.json"
  command = [
    CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr", f"--log-net-log={log}",
    f"--user-data-dir={folder / 'profile'}", "--dump-dom", path.as_uri(),
  ]  # fmt: skip
  ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
  console = [line for line in ended.stderr.splitlines() if "CONSOLE" in line]
  asked = set(re.findall(r'"url":"(https?://[^"]*)', log.read_text()))
  own = re.compile(r"https?://[a-z0-9.-]+\.(googleapis|google|gvt1|gstatic)\.com/")
  return console, {url for url in asked if not own.match(url)}, ended.stdout


def test_a_page_shows_without_an_error_and_without_the_network(tmp_path):
  folders = [made_run.write(tmp_path / name, seed=k) for k, name in enumerate(("a", "<b>"))]
  for folder in folders:
    made_run.keep(folder, "val_step_4_network_0_0.json")
  out = tmp_path / "out.html"
  report.report([str(f) for f in folders], str(out))
  console, asked, shown = _opened(out, tmp_path)
  assert console == [] and asked == set()
  assert shown.count("<svg") > 12 and "&lt;b&gt;" in shown and "<b>" in shown

  # The browser does tell what a page loads and says, where that is not forbidden.
  text = re.sub(r"<meta http-equiv[^>]*>", "", out.read_text())
  loud = '<main><img src="http://example.org/a.png"><script>console.log("loud")</script>'
  out.write_text(text.replace("<main>", loud))
  console, asked, _ = _opened(out, tmp_path)
  assert "loud" in console[0] and asked == {"http://example.org/a.png"}
