"""Progress on stderr: in place on a terminal, a plain line now and then elsewhere."""

import io
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any, TextIO, TypeVar

from tqdm import tqdm

T = TypeVar("T")
_TERMINAL_FORMAT = "{desc} {bar}| {n_fmt}/{total_fmt} {postfix} [{elapsed}<{remaining}]"


class Progress:
  """A line such as `train 120/400  loss 0.734  210 images/s  elapsed 0:31  remaining 1:12`.

  On a terminal the line is redrawn in place, elsewhere (a file, a job log) a new one is printed
  every `every_seconds`, so that logs stay readable. The remaining time is extrapolated from
  the steps done since this object was made, less the first: that one compiles. What is over in less
  than `delay` seconds is not shown.
  """

  def __init__(
    self,
    total: int,
    *,
    start: int = 0,
    title: str = "train",
    every_seconds: float = 10.0,
    delay: float = 0.0,
    stream: TextIO | None = None,
  ):
    self._stream = _default_stream() if stream is None else stream
    self._total, self._title, self._every, self._delay = total, title, every_seconds, delay
    self._began = time.monotonic()
    self._start, self._step, self._values = start, start, {}
    self._pace: tuple[int, float] | None = None  # step and time from which the rate is taken
    self._printed_at, self._printed_step = self._began, None
    self._bar = None
    if self._stream.isatty():
      self._bar = tqdm(
        total=total,
        initial=start,
        desc=title,
        delay=delay,
        file=self._stream,
        bar_format=_TERMINAL_FORMAT,
      )

  def __enter__(self) -> "Progress":
    return self

  def __exit__(self, *error: object) -> None:
    self.close()

  @property
  def step(self) -> int:
    """The number of steps done."""
    return self._step

  def update(
    self, step: int, *, loss: float | None = None, images_per_s: float | None = None
  ) -> None:
    """States that `step` steps are done; a value that is not given keeps its last one."""
    self._step = step
    if self._pace is None and step > self._start:
      self._pace = (step, time.monotonic())
    given = {"loss": loss, "images_per_s": images_per_s}
    self._values.update({k: v for k, v in given.items() if v is not None})
    if self._bar is not None:
      self._bar.set_postfix_str(self._figures(), refresh=False)
      self._bar.update(step - self._bar.n)
    elif time.monotonic() - self._printed_at >= self._every:
      self._print()

  def advance(self, steps: int = 1) -> None:
    """States that so many more steps are done."""
    self.update(self._step + steps)

  def close(self) -> None:
    """Leaves a last line."""
    if self._bar is not None:
      self._bar.close()
    elif self._printed_step != self._step and self._is_long():
      self._print()

  def _is_long(self) -> bool:
    return self._printed_step is not None or time.monotonic() - self._began >= self._delay

  def _print(self) -> None:
    self._printed_at, self._printed_step = time.monotonic(), self._step
    parts = [f"{self._title} {self._step}/{self._total}", self._figures()]
    parts += [f"elapsed {_clock(time.monotonic() - self._began)}", self._remaining()]
    print("  ".join(part for part in parts if part), file=self._stream, flush=True)

  def _figures(self) -> str:
    names = {"loss": "loss {:.4f}", "images_per_s": "{:.1f} images/s"}
    return "  ".join(names[k].format(v) for k, v in self._values.items())

  def _remaining(self) -> str:
    if self._step >= self._total:
      return ""
    if self._pace is None or self._step <= self._pace[0]:
      return "remaining ?"
    rate = (time.monotonic() - self._pace[1]) / (self._step - self._pace[0])
    return f"remaining {_clock(rate * (self._total - self._step))}"


def track(items: Iterable[T], *, total: int, title: str, **options: Any) -> Iterator[T]:
  """Yields `items` while a `Progress`, which takes the options, counts them."""
  with Progress(total, title=title, **options) as progress:
    for item in items:
      yield item
      progress.advance()


def _default_stream() -> TextIO:
  """stderr on process 0, nowhere on the others."""
  import jax  # which what prepares data does without

  return sys.stderr if jax.process_index() == 0 else io.StringIO()


def _clock(seconds: float) -> str:
  minutes, seconds = divmod(int(round(seconds)), 60)
  hours, minutes = divmod(minutes, 60)
  return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
