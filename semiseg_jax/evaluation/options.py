"""Keys of the block `eval`: when and how a run is scored."""

import dataclasses

from semiseg_jax.evaluation.placing import BORDERS
from semiseg_jax.evaluation.protocol import HIGHEST_SCALE, LOWEST_SCALE, MODES, SUMMED, WHOLE
from semiseg_jax.options import Flat, key


@dataclasses.dataclass(frozen=True)
class Options:
  """The config block `eval`."""

  every: int = key(0, "steps between two evaluations, 0 = only at the end", at_least=0, free=True)
  mode: str = key(
    "slide",
    "windows of one size; 'whole': whole pictures at once; 'center_crop': their middle alone, as "
    "large as the window; 'resize_to_multiple': whole pictures, resized to multiples",
    one_of=MODES,
    free=True,
  )
  whole: str = key(
    "padded",
    "whole pictures are padded to at most three sizes of the crop's class modulo the network's "
    "stride, and cut; 'as_is': each at its own size, as published code does; 'reflected': mirrored "
    "below and to the right up to multiples",
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
  border: str = key(
    "shifted",
    "the last windows are shifted back to end at the border; 'padded': they reach beyond it, over "
    "zeros; 'cut': they end at it and are smaller (UniMatch on Cityscapes)",
    one_of=BORDERS,
    free=True,
  )
  multiple: int = key(
    0, "of the sides of pictures that are resized to it, or 'reflected'", at_least=0, free=True
  )
  summed: str = key(
    "",
    "what is added where windows, views or networks meet; '' = logits of one network and view, "
    "otherwise probabilities",
    one_of=("", *SUMMED),
    free=True,
  )
  scales: tuple[float, ...] = key(
    (1.0,),
    "at which windows, or whole pictures, are seen; their scores are averaged",
    at_least=LOWEST_SCALE,
    at_most=HIGHEST_SCALE,
    free=True,
  )
  flip: bool = key(False, "windows, or whole pictures, are seen mirrored, too", free=True)
  batch: int = key(8, "windows per call of the network", at_least=1, free=True)
  network: str = key(
    "0",
    "index of the network that is scored, '0,2' for the mean of some, or 'mean' of all",
    free=True,
  )
  stack: str = key(
    "", "'teacher' where the method has one; '' = the networks that train", free=True
  )
  pictures: int = key(
    8, "pictures of val that are shown as image | truth | prediction", at_least=0, free=True
  )


def whole_as_before(old: Flat) -> Flat:
  """Returns an older flat config that says what it did: whole pictures each at its own size."""
  return {"eval.whole": "as_is", **old} if "eval.mode" in old else old
