import io

import pytest

from semiseg_jax import progress


class Terminal(io.StringIO):
  def isatty(self):
    return True


@pytest.fixture
def clock(monkeypatch):
  now = [100.0]
  monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
  return now


def test_plain_lines_come_every_so_often_and_extrapolate_without_the_first_step(clock):
  stream = io.StringIO()
  line = progress.Progress(100, start=20, every_seconds=10, stream=stream)
  clock[0] += 60  # compilation
  line.update(21, loss=2.5)
  for step in range(22, 31):
    clock[0] += 2
    line.update(step, loss=1.5, images_per_s=8)
  lines = stream.getvalue().splitlines()
  assert lines[0] == "train 21/100  loss 2.5000  elapsed 1:00  remaining ?"
  assert lines[1] == "train 26/100  loss 1.5000  8.0 images/s  elapsed 1:10  remaining 2:28"
  assert len(lines) == 2
  line.close()
  line.close()
  lines = stream.getvalue().splitlines()
  assert len(lines) == 3 and lines[2].startswith("train 30/100")


def test_terminal_redraws_in_place():
  stream = Terminal()
  line = progress.Progress(4, stream=stream)
  for step in range(1, 5):
    line.update(step, loss=0.5, images_per_s=3.25)
  line.close()
  text = stream.getvalue()
  assert "\r" in text and "4/4" in text and "loss 0.5000  3.2 images/s" in text


def test_track_passes_items_on_and_closes_on_errors(monkeypatch):
  stream = io.StringIO()
  monkeypatch.setattr(progress.sys, "stderr", stream)
  assert list(progress.track(iter("abc"), total=3, title="read")) == ["a", "b", "c"]
  assert stream.getvalue().startswith("read 3/3")


@pytest.mark.parametrize("seconds, lines", [(1, []), (3, ["count 5/5  elapsed 0:03"])])
def test_what_is_soon_over_is_not_shown(clock, seconds, lines):
  stream = io.StringIO()
  for _ in progress.track(range(5), total=5, title="count", delay=2, stream=stream):
    clock[0] += seconds / 5
  assert stream.getvalue().splitlines() == lines


@pytest.mark.parametrize("seconds, text", [(0, "0:00"), (61.6, "1:02"), (3725, "1:02:05")])
def test_clock(seconds, text):
  assert progress._clock(seconds) == text
