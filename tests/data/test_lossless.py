import io

import numpy as np
import pytest
from PIL import Image

from semiseg_jax.data import lossless

IDS = np.random.default_rng(0).integers(0, 4, (20, 24), dtype=np.uint8)


def _stream(kind, **options):
  file = io.BytesIO()
  Image.fromarray(np.dstack([IDS] * 3)).save(file, kind, **options)
  return file.getvalue()


@pytest.mark.parametrize("compression,kind", [(50001, "WEBP"), (34712, "JPEG2000")])
def test_tiles_of_a_tiff_are_looked_into(compression, kind):
  lossy = {"irreversible": True} if kind == "JPEG2000" else {"quality": 80}
  exact = _stream(kind, **({"lossless": True} if kind == "WEBP" else {}))
  other = _stream(kind, **lossy)
  tags = {259: (compression,), 324: (0, len(exact)), 325: (len(exact), len(other))}
  assert not lossless.tiff_is_exact(tags, exact + other)
  assert lossless.tiff_is_exact(tags | {325: (len(exact),) * 2}, exact + exact)
  assert not lossless.tiff_is_exact({259: compression}, exact)  # nothing to look into


@pytest.mark.parametrize("compression,exact", [(1, True), (5, True), (50000, True), (7, False)])
def test_compressions_of_tiff(compression, exact):
  assert lossless.tiff_is_exact({259: compression}, b"") == exact


def test_a_stream_of_jpeg_2000_that_was_cut_off_is_not_exact():
  """The wavelet of integers alone does not say that nothing was lost."""
  whole, cut = _stream("JPEG2000"), _stream("JPEG2000", quality_layers=[8])
  assert (np.asarray(Image.open(io.BytesIO(cut)))[..., 0] != IDS).any()
  assert lossless.is_exact("JPEG2000", whole) and not lossless.is_exact("JPEG2000", cut)
  assert not lossless.is_exact("JPEG2000", whole[:60]) and not lossless.is_exact("AVIF", whole)
