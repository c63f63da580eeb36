"""The values of pictures of more than 8 bits: which of them become 0 and 255, in each band."""

import math
from collections.abc import Sequence

import numpy as np

from semiseg_jax.errors import DataError
from semiseg_jax.wording import counted

EIGHT_BITS = "8 bits a channel"


def check(value_range: Sequence[float], flag: str = "--value_range") -> tuple[float, ...]:
  """The numbers as a tuple; DataError where they are no pairs of LOW below HIGH."""
  pairs = list(zip(value_range[::2], value_range[1::2]))
  given = " ".join(f"{value:g}" for value in value_range)
  if not value_range or len(value_range) % 2:
    raise DataError(f"{flag} {given}: give LOW HIGH for all bands, or a pair for each band")
  for low, high in pairs:
    if not -math.inf < low < high < math.inf:
      raise DataError(f"{flag} {low:g} {high:g}: LOW must be below HIGH, both finite")
  return tuple(map(float, value_range))


def kind_of(dtype: np.dtype) -> str:
  """What values of this type have in common: one range cannot be right for two kinds."""
  if dtype == np.uint8:
    return EIGHT_BITS
  return "floats" if np.issubdtype(dtype, np.floating) else "integers of more than 8 bits"


def check_kind(where: str, dtype: np.dtype, expected: str | None) -> None:
  """DataError for a picture of values of another kind than those that the range is for."""
  kind = kind_of(dtype)
  if expected not in (None, kind):
    taken = ", which would stay as they are" if kind == EIGHT_BITS else ""
    raise DataError(
      f"{where}: {kind} ({dtype}){taken}; the value range is for {expected}: convert the picture "
      "to these, take it out, or, in prediction, give --value_range for its own kind"
    )


def to_bytes(
  where: str,
  pixels: np.ndarray,
  value_range: Sequence[float] | None,
  valid: np.ndarray | None = None,
) -> np.ndarray:
  """uint8 [H, W, C] of numbers of any type: LOW and below become 0, HIGH and above 255.

  Args:
    where: names the picture in errors.
    pixels: [H, W, C].
    value_range: (low, high) of all bands, or (low, high, low, high, ...) of each.
    valid: bool [H, W], which pixels have data; the others become 0.

  Raises:
    DataError: no range is given, or one that cannot be or is of other bands; values that are no
      finite numbers.
  """
  if not np.issubdtype(pixels.dtype, np.number) or np.iscomplexobj(pixels):
    raise DataError(f"{where}: {pixels.dtype} values; save numbers")
  if valid is not None:
    pixels = np.where(valid[..., None], pixels, pixels.dtype.type(0))
  if not np.isfinite(pixels).all():
    raise DataError(f"{where}: values that are not finite; replace them")
  if value_range is None:
    raise DataError(
      f"{where}: {pixels.dtype} values from {_shown(pixels, np.min)} to {_shown(pixels, np.max)}; "
      "say which values become 0 and 255 (predict or data_prep.folder --value_range LOW HIGH, or a "
      "pair for each band) or convert to 8 bits"
    )
  limits, bands = np.array(check(value_range)).reshape(-1, 2), pixels.shape[2]
  if len(limits) not in (1, bands):
    raise DataError(
      f"{where}: {counted(bands, 'band')}, and the value range has {counted(len(limits), 'pair')} "
      "of LOW HIGH; give one "
      f"for all bands, or one for each (read as [H, W, C], its shape is {list(pixels.shape)})"
    )
  low, high = limits.T
  share = (pixels.astype(np.float64) - low) / (high - low)
  found = np.rint(np.clip(share, 0.0, 1.0) * 255.0).astype(np.uint8)
  return found if valid is None else np.where(valid[..., None], found, np.uint8(0))


def _shown(pixels: np.ndarray, of: np.ufunc) -> str:
  """The least or greatest value of all bands, or of each where there are few."""
  each = of(pixels, axis=(0, 1))
  if len(each) == 1 or len(each) > 16 or len(set(each.tolist())) == 1:
    return str(of(each))
  return f"{of(each)} (by band {', '.join(map(str, each.tolist()))})"
