"""What to do when the memory of the host or of a device does not suffice."""

import contextlib
from collections.abc import Callable, Iterator

import cv2
import jax

from semiseg_jax.errors import UserError

_MEND = (
  "the memory does not suffice; use windows, smaller ones, or fewer at a time (--mode=slide "
  "--window=512, predict's --batch=1; in a config eval.mode, eval.window, eval.batch), or end "
  "other programs"
)
_SAID = ("RESOURCE_EXHAUSTED", "Out of memory")  # by a device, and by a CPU in an INTERNAL error


class OutOfMemoryError(UserError):
  """More memory was asked for than there is."""


def is_exhausted(error: BaseException) -> bool:
  """Whether an error says that memory of the host or of a device ran out."""
  if isinstance(error, cv2.error):
    return error.code == cv2.Error.StsNoMem
  is_device = isinstance(error, jax.errors.JaxRuntimeError)
  said = is_device and any(words in str(error) for words in _SAID)
  return said or isinstance(error, MemoryError)


def describe(where: str, error: BaseException) -> str:
  """One line: what ran out while `where` was worked on, and what helps."""
  said = str(error).strip().partition("\n")[0]
  return f"{where}: {_MEND}" + (f" ({said})" if said else "")


@contextlib.contextmanager
def named(where: Callable[[], str]) -> Iterator[None]:
  """Around work: OutOfMemoryError, which names the picture `where()`, where memory runs out."""
  try:
    yield
  except (MemoryError, jax.errors.JaxRuntimeError, cv2.error) as error:
    if not is_exhausted(error):
      raise
    raise OutOfMemoryError(describe(where(), error)) from error
