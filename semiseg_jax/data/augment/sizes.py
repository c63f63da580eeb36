"""How each family draws the size to which a picture is scaled."""

import numpy as np

Size = tuple[int, int]
ASPECT = (0.9, 1.1)  # of ContrastiveSeg: width over height, against the picture's own
STEPS = 64  # a drawn factor is k / STEPS where the picture's side is a multiple of STEPS


def factor_truncated(
  size: Size, rng: np.random.Generator, scales: tuple[float, ...], base: int
) -> Size:
  """One of `scales`; new side int(n * scale) (TorchSemiSeg, PseudoSeg)."""
  scale = scales[int(rng.integers(len(scales)))]
  return max(int(size[0] * scale), 1), max(int(size[1] * scale), 1)


def factor_rounded(
  size: Size, rng: np.random.Generator, scales: tuple[float, ...], base: int
) -> Size:
  """One of `scales`; new side rounded, halves to even (AdvSemiSeg, PaddleSeg)."""
  scale = scales[int(rng.integers(len(scales)))]
  return max(round(size[0] * scale), 1), max(round(size[1] * scale), 1)


def long_side(size: Size, rng: np.random.Generator, scales: tuple[float, ...], base: int) -> Size:
  """Uniform integer long side within scales = (low, high) times `base` pixels, both ends included.

  `base` 0 is the picture's own long side (UniMatch), a number is the same for every picture (CAC,
  ST++). The short side is int(short * new / long + 1/2); of a square the height is the short one.
  """
  (height, width), (low, high) = size, scales
  length = base or max(size)
  new = max(int(rng.integers(int(low * length), int(high * length), endpoint=True)), 1)
  if height > width:
    return new, max(int(width * new / height + 0.5), 1)
  return max(int(height * new / width + 0.5), 1), new


def factor_of_two_ranges(
  size: Size, rng: np.random.Generator, scales: tuple[float, ...], base: int
) -> Size:
  """Factor uniform in (low, 1) or in (1, high), either with probability 1/2 (U2PL); truncated.

  Of scales = (low, ..., high).  A side that is a multiple of 64 takes the nearest k/64 of the
  factor, as in `factor_and_aspect`.
  """
  low, high = scales[0], scales[-1]
  scale = rng.uniform(low, 1) if rng.random() < 0.5 else rng.uniform(1, high)
  return _side(size[0], scale), _side(size[1], scale)


def factor_and_aspect(
  size: Size, rng: np.random.Generator, scales: tuple[float, ...], base: int
) -> Size:
  """Factor s uniform in scales = (low, high), aspect a uniform in ASPECT (ContrastiveSeg).

  The width is multiplied by s sqrt(a), the height by s / sqrt(a), truncated. A side that is a
  multiple of 64 takes the nearest k/64 of the factor, so that a crop of a large picture needs a
  part of it only; the published code has no such grid.
  """
  scale, aspect = rng.uniform(*scales), rng.uniform(*ASPECT)
  return _side(size[0], scale / aspect**0.5), _side(size[1], scale * aspect**0.5)


def _side(pixels: int, factor: float) -> int:
  if pixels % STEPS:
    return max(int(pixels * factor), 1)
  return max(round(factor * STEPS), 1) * (pixels // STEPS)
