"""Segments of a run whose `train.steps` were raised once it was complete.

`optimizer.continued` has a text END=KIND*SHARE for every raise: after END steps the learning rate
goes on as KIND, from SHARE of its peak.  A run that has it from the beginning is the same run.
"""

import dataclasses
import re
from collections.abc import Sequence

from semiseg_jax.errors import ConfigError

RESTART = "restart"
KINDS = (RESTART, "cosine", "constant")
_TEXT = re.compile(rf"(\d+)=({'|'.join(KINDS)})\*([0-9.e-]+)")


@dataclasses.dataclass(frozen=True)
class Segment:
  """Updates start .. stop - 1.

  Attributes:
    start, stop: steps of the run.
    kind: of KINDS; 'restart' is the schedule of the run, over the steps of the segment.
    share: of the peak of the learning rate, where the segment begins.
  """

  start: int
  stop: int
  kind: str
  share: float


def text(end: int, kind: str, share: float) -> str:
  """Returns the text of one raise."""
  return f"{end}={kind}*{share:g}"


def of(continued: Sequence[str], steps: int) -> tuple[Segment, ...]:
  """Returns the segments of a run, oldest first; one where it was never raised.

  Args:
    continued: `optimizer.continued`.
    steps: of the whole run.

  Raises:
    ConfigError: a text of another form, or ends that do not rise or are not below `steps`.
  """
  found, kind, share = [], RESTART, 1.0
  for item in continued:
    match = _TEXT.fullmatch(item)
    number = _number(match[3]) if match else None
    if number is None:
      raise ConfigError(
        f"optimizer.continued holds {item!r}: write END=KIND*SHARE with a KIND of "
        f"{', '.join(KINDS)} and a SHARE above 0, at most 1, e.g. '1500=cosine*0.1'."
      )
    found.append(Segment(found[-1].stop if found else 0, int(match[1]), kind, share))
    kind, share = match[2], number
  found.append(Segment(found[-1].stop if found else 0, steps, kind, share))
  if continued and any(s.start >= s.stop for s in found):
    raise ConfigError(
      f"optimizer.continued={tuple(continued)}: ends that rise, each below train.steps={steps}."
    )
  return tuple(found)


def _number(written: str) -> float | None:
  try:
    number = float(written)
  except ValueError:
    return None
  return number if 0 < number <= 1 else None


def first_end(continued: Sequence[str], steps: int) -> int:
  """Returns the steps that the run began with: what a method spreads over its run ends there."""
  return of(continued, steps)[0].stop
