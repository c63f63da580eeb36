"""The shapes that annotation files have, of any kind."""

import dataclasses
from typing import Protocol

import numpy as np

Size = tuple[int, int]  # H, W
Window = tuple[int, int, np.ndarray]  # top, left, and which pixels are inside, bool [h, w]


class Area(Protocol):
  """What a shape covers."""

  def window(self, size: Size, line_width: float) -> Window:
    """The pixels inside, of a picture of `size`; ValueError when it cannot be of this picture."""


@dataclasses.dataclass(frozen=True)
class Shape:
  """A shape of a class.

  Attributes:
    label: the name of the class, or its number.
    kind: what it is, for messages: 'polygon', 'box', 'mask', 'line', 'point', ...
    area: None when it has none that can be drawn.
    crowd: whether it is a region of many things that nobody took apart.
  """

  label: str | int
  kind: str
  area: Area | None
  crowd: bool = False


@dataclasses.dataclass(frozen=True)
class Annotated:
  """The shapes of one picture, in the order in which they are drawn.

  Attributes:
    where: the file that has them.
    picture: the name or path of the picture there.
    size: (H, W) of the picture, None when the file does not say.
    shapes: may be empty.
    alias: another name that it may have, without a suffix: that of the file.
  """

  where: str
  picture: str
  size: Size | None
  shapes: tuple[Shape, ...]
  alias: str = ""


def by(size: Size) -> str:
  """A size as people write it."""
  return f"{size[1]}x{size[0]}"
