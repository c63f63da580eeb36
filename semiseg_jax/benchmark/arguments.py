"""Types of command-line options: argparse says what is wrong with a value in one line."""

import argparse
import pathlib
from collections.abc import Callable

from semiseg_jax.workdir import store


def whole(at_least: int, at_most: int | None = None) -> Callable[[str], int]:
  """Returns the type of whole numbers within bounds."""
  bounds = f"from {at_least} {'on' if at_most is None else f'to {at_most}'}"

  def number(text: str) -> int:
    try:
      value = int(text)
    except ValueError:
      value = at_least - 1
    if value < at_least or (at_most is not None and value > at_most):
      raise argparse.ArgumentTypeError(f"{text!r}: write a whole number {bounds}")
    return value

  return number


def minutes(text: str) -> float:
  """A duration above 0; 'inf' is without limit."""
  try:
    value = float(text)
  except ValueError:
    value = 0.0
  if not value > 0:  # NaN neither
    raise argparse.ArgumentTypeError(f"{text!r}: write a number above 0, such as 60")
  return value


def seeds(text: str) -> list[int]:
  """Seeds with commas between them, each once."""
  one = whole(0, 2**32 - 1)
  try:
    return list(dict.fromkeys(one(part) for part in text.split(",")))
  except argparse.ArgumentTypeError as error:
    raise argparse.ArgumentTypeError(
      f"{text!r}: write whole numbers from 0 on with commas between them, such as 0,1,2"
    ) from error


def names(text: str) -> list[str]:
  """Names with commas between them."""
  found = [part.strip() for part in text.split(",")]
  if not all(found):
    raise argparse.ArgumentTypeError(
      f"{text!r}: write names with commas between them, such as unimatch,cps_cutmix"
    )
  return found


def folder(text: str) -> pathlib.Path:
  """A folder of a disk."""
  if store.is_url(text):
    raise argparse.ArgumentTypeError(f"{text!r}: a folder of a disk is needed")
  return pathlib.Path(text)
