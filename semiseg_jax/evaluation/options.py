"""Keys of the block `eval`: when and how a run is scored."""

import dataclasses

from semiseg_jax.evaluation.protocol import MODES, WHOLE
from semiseg_jax.options import Flat, key


@dataclasses.dataclass(frozen=True)
class Options:
  """The config block `eval`."""

  every: int = key(0, "steps between two evaluations, 0 = only at the end", at_least=0, free=True)
  mode: str = key(
    "slide", "windows of one size; 'whole': whole pictures at once", one_of=MODES, free=True
  )
  whole: str = key(
    "padded",
    "whole pictures are padded to at most three sizes of the crop's class modulo the network's "
    "stride, and cut; 'as_is': each at its own size, as published code does",
    one_of=WHOLE,
    free=True,
  )
  window: tuple[int, int] = key((512, 512), "(height, width)", at_least=1, free=True)
  stride: tuple[int, int] = key(
    (0, 0),
    "(down, right) from window to window; 0 = ceil(2/3 of the window)",
    at_least=0,
    free=True,
  )
  batch: int = key(8, "windows per call of the network", at_least=1, free=True)
  network: str = key("0", "index of the network that is scored, or 'mean' of all", free=True)
  stack: str = key(
    "", "'teacher' where the method has one; '' = the networks that train", free=True
  )
  pictures: int = key(
    8, "pictures of val that are shown as image | truth | prediction", at_least=0, free=True
  )


def whole_as_before(old: Flat) -> Flat:
  """Returns an older flat config that says what it did: whole pictures each at its own size."""
  return {"eval.whole": "as_is", **old} if "eval.mode" in old else old
