"""Notes on what will take long, each said once in a process and before it begins."""

import functools
import math
import sys

import jax
from tqdm import tqdm

Size = tuple[int, int]
FEW = 4  # shapes of pictures or windows, for each of which the network is compiled without a word
MANY = 2000  # windows of a picture


@functools.cache
def of_sizes(count: int = 0) -> None:
  """Whole pictures of many sizes; `count` of them where they are known."""
  many = f"{count} sizes" if count else "many sizes"
  _say(
    f"pictures of {many}: in mode 'whole' the network is compiled for each of them as it is; "
    "--whole=padded makes do with three (in training --config.eval.whole=padded), mode 'slide' "
    "with one (--mode=slide --window=512, in training "
    "--config.eval.mode=slide --config.eval.window=512,512)"
  )


@functools.cache
def of_cut_windows(count: int) -> None:
  """Windows of so many shapes, as the border cuts them."""
  _say(
    f"windows of {count} shapes, as the border cuts the last ones: the network is compiled for "
    "each of them, at all scales; --border=shifted or --border=padded has one"
  )


@functools.cache
def of_padding() -> None:
  """Pictures of several sizes are padded, though the run is evaluated without."""
  _say(
    "pictures of several sizes: they are padded to at most three sizes and cut, although this run "
    "is evaluated in another way, for which the network would be compiled at each size; "
    "--whole=as_is, or --protocol=NAME, asks for that"
  )


@functools.cache
def of_windows(size: Size, window: Size, stride: Size, count: int, seconds: float) -> None:
  """A picture of `size` (H, W) with so many windows, and how long they take."""
  said = f"{seconds:.0f} seconds" if seconds < 120 else f"{seconds / 60:.0f} minutes"
  said = said if seconds < 7200 else f"{seconds / 3600:.1f} hours"
  _say(
    f"a picture of {_text(size)} has {count} windows of {_text(window)} at --stride={_text(stride)}"
    f": about {said}; --stride={_text(tuple(math.ceil(2 * side / 3) for side in window))} has few"
  )


def _text(size: Size) -> str:
  return f"{size[0]}x{size[1]}"


def _say(text: str) -> None:
  if jax.process_index() == 0:
    tqdm.write(f"NOTE {text}", file=sys.stderr)  # which does not break a progress line
