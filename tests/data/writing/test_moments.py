"""Means that no order of pictures changes."""

import numpy as np
import pytest

from semiseg_jax.data.writing import moments
from semiseg_jax.data.writing.moments import Moments

rng = np.random.default_rng(0)


@pytest.mark.parametrize("channels", [1, 3, 7])
def test_mean_and_std_of_all_pixels_with_data(channels):
  pictures = [rng.integers(0, 256, (h, 9, channels), dtype=np.uint8) for h in (4, 11, 6)]
  valid = [None, rng.random((11, 9)) < 0.5, np.zeros((6, 9), bool)]
  parts = [Moments.of(x, v) for x, v in zip(pictures, valid)]
  found = moments.statistics(parts)
  pixels = np.concatenate([pictures[0].reshape(-1, channels), pictures[1][valid[1]]]) / 255
  np.testing.assert_allclose(found["mean"], pixels.mean(0), atol=1e-6)
  np.testing.assert_allclose(found["std"], pixels.std(0), atol=1e-6)
  assert (found["pixels"], found["pictures"]) == (len(pixels), 2)
  assert moments.statistics(parts[::-1]) == found


def test_a_picture_read_in_blocks_is_the_same(monkeypatch):
  picture = rng.integers(0, 256, (13, 9, 3), dtype=np.uint8)
  whole = Moments.of(picture)
  monkeypatch.setattr(moments, "_AT_ONCE", 10)
  assert Moments.of(picture) == whole


def test_what_is_the_same_everywhere_can_be_divided_by():
  found = moments.statistics([Moments.of(np.full((2, 2, 1), 51, np.uint8))])
  assert found["mean"] == [0.2] and found["std"] == [1 / 255]
  assert moments.statistics([]) is None
