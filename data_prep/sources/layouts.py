"""Which axis of an array holds the channels, where this is not as clear as in a photo."""

from semiseg_jax.errors import DataError

_FEW = 4  # channels, which even the narrowest pictures may have
_MANY = 16


def channels_of(path: str, shape: tuple[int, int, int]) -> int:
  """C of [H, W, C].

  Args:
    path: of the picture.
    shape: as it was read: the last axis of an array, or the pages of a TIFF, taken for channels.

  Raises:
    DataError: the picture has about as many channels as rows or columns, so that it may as well be
      [C, H, W], several pictures [N, H, W], or a TIFF with a page for each row.
  """
  height, width, channels = shape
  short = min(height, width)
  if channels <= _FEW or (channels < short and not (channels > _MANY and 2 * channels > short)):
    return channels
  raise DataError(
    f"{path}: read as [H, W, C], the shape {list(shape)} is a picture {height} high x {width} wide "
    f"of {channels} channels; if the channels come first, save it as [H, W, C] (numpy.moveaxis("
    f"array, 0, 2)); if it holds several pictures, save each by itself; if it is right, give "
    f"--channels {channels}"
  )
