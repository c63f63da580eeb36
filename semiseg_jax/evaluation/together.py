"""What one of several processes meets in an evaluation, which all of them do together.

Every process reads all pictures and computes its rows of each batch.  One that stopped at a picture
that is broken on its disk would let the others wait for it, in a collective and for ever.  So it
goes on with an empty picture in the place of that one, and all of them raise at the end, before
anything is made of scores that are wrong.
"""

import contextlib
from collections.abc import Iterator
from types import TracebackType

import jax
import numpy as np

from semiseg_jax import peers
from semiseg_jax.data.dataset import Dataset
from semiseg_jax.data.joined import JoinedDataset
from semiseg_jax.data.records import Example
from semiseg_jax.errors import EvaluationError, UserError

Pool = Dataset | JoinedDataset


def reason(error: BaseException) -> str:
  """Returns what an error says, in one line and without a stop."""
  text = " ".join(str(error).split()).rstrip(".")
  if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in text:
    return f"out of memory; smaller: --config.eval.batch, --config.eval.window: {text[:200]}"
  return text if isinstance(error, UserError) else f"{type(error).__name__}: {text[:500]}"


def of_all(failed: dict[int, str]) -> str:
  """Returns why work failed, by process; without their numbers where all say the same."""
  reasons = set(failed.values())
  if len(failed) == jax.process_count() and len(reasons) == 1:
    return reasons.pop()
  return "; ".join(f"process {process}: {said}" for process, said in failed.items())


class Together:
  """Around the work; of one process alone an error is raised at once.

  Raises, at the end of the block and on each of several processes:
    EvaluationError: what failed on any of them; of this one it is the cause.
    peers.OutOfStepError: this one fails where the others wait for it.
  """

  def __init__(self) -> None:
    self._error: Exception | None = None

  def __enter__(self) -> "Together":
    return self

  def __exit__(
    self, kind: type | None, error: BaseException | None, frames: TracebackType | None
  ) -> None:
    if jax.process_count() == 1 or peers.is_gone(error):
      return
    if error is not None and not isinstance(error, Exception):  # an interrupt
      return
    own = self._error or error
    wait = {"wait_s": peers.STUCK_S} if error else {}  # may have stopped amid a collective
    failed = peers.failures(reason(own) if own else "", **wait)
    if failed:
      raise EvaluationError(of_all(failed)) from own

  @contextlib.contextmanager
  def kept(self) -> Iterator[None]:
    """Around what this process does for itself, and no other waits for."""
    try:
      yield
    except Exception as error:  # of any kind: the others are in the middle of the list
      if jax.process_count() == 1:
        raise
      self._error = self._error or error

  def read(self, pool: Pool, index: int) -> Example:
    """Returns a picture; an empty one of its size where it cannot be read."""
    with self.kept():
      return pool.read(index)
    if not pool.info.sizes:  # of an old data set: nothing can stand in its place
      raise self._error
    height, width = pool.info.sizes[index]
    image = np.zeros((height, width, pool.info.channels), np.uint8)
    return Example(pool.info.ids[index], image, np.zeros((height, width), np.uint8))
