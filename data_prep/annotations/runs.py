"""Masks as run lengths: pixels outside and inside by turns, beginning with those outside.

COCO's go down the columns, as numbers or as a text, in which each number is the difference to the
last but one, in groups of five bits, six bits a character from '0' on: the sixth bit says that
more follow, the fifth of the last group is the sign (maskApi.c of the COCO API).
"""

from collections.abc import Sequence

import numpy as np


def parse(text: str) -> list[int]:
  """The run lengths of COCO's text; ValueError for other texts."""
  counts: list[int] = []
  value = shift = 0
  for character in text:
    bits = ord(character) - 48
    if not 0 <= bits < 64:
      raise ValueError(f"{character!r} in run lengths")
    value |= (bits & 31) << shift
    shift += 5
    if not bits & 32:
      value -= (bits & 16) and 1 << shift
      counts.append(value + (counts[-2] if len(counts) > 2 else 0))
      value = shift = 0
  if shift:
    raise ValueError("run lengths that end in the middle of a number")
  return counts


def decode(counts: Sequence[int], shape: tuple[int, int], by_column: bool) -> np.ndarray:
  """bool [h, w] of run lengths; ValueError when these do not make up the mask."""
  try:
    lengths = np.asarray(counts, np.int64)
  except OverflowError as error:
    raise ValueError("run lengths beyond 64 bits") from error
  most = shape[0] * shape[1]
  if lengths.ndim != 1 or ((lengths < 0) | (lengths > most)).any() or lengths.sum() != most:
    raise ValueError(
      f"run lengths of {int(lengths.sum())} pixels for a mask of {shape[1]}x{shape[0]}"
    )
  inside = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
  return inside.reshape(shape[::-1]).T if by_column else inside.reshape(shape)
