"""Sums at the resolution of the network give the labels of sums of whole windows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semiseg_jax.errors import NonFiniteError
from semiseg_jax.evaluation import bands, windows
from semiseg_jax.evaluation.low_sums import Low
from semiseg_jax.ops.resize import bilinear_matrix

K, SIDE, STRIDE = 5, 16, 4


def through_twice(low, side):
  """As a network that takes other sides does: three entries in some rows."""
  return bilinear_matrix(side - 3, side, True) @ bilinear_matrix(low, side - 3, False)


def once(low, side):
  return bilinear_matrix(low, side, True)


def networks(matrix):
  """The network as a whole and before its upsampling."""

  @jax.jit
  def low(images, valid):
    x = images[:, ::STRIDE, ::STRIDE, :1].astype(jnp.float32) / 20
    return jnp.sin(x * jnp.arange(1, K + 1, dtype=jnp.float32)[None, None, None])

  def full(images, valid):
    m = matrix(SIDE // STRIDE, SIDE)
    return jnp.einsum("oh,bhwk,pw->bopk", m, low(images, valid), m).astype(jnp.float32)

  return full, Low(low, matrix)


class Gate:
  rule = "softmax_zero"

  def __call__(self, image):
    return jnp.asarray([False, True, True, False, True])


@pytest.mark.parametrize(
  "matrix, how", [(once, {}), (through_twice, {"gate": Gate()}), (once, {"border": "padded"})]
)
def test_labels_are_those_of_sums_of_whole_windows(matrix, how):
  rng = np.random.default_rng(0)
  pictures = [rng.integers(0, 256, (*size, 1), np.uint8) for size in [(16, 16), (20, 37), (9, 30)]]
  full, low = networks(matrix)
  segment = lambda **more: windows.Segmenter(
    full, window=(SIDE, SIDE), stride=7, batch=3, num_classes=K, **how, **more
  )
  expected = list(segment().segment_many(pictures))
  found = list(segment(low=low).segment_many(pictures))
  assert len({*np.concatenate([x.ravel() for x in found])}) == (3 if "gate" in how else K)
  for a, b in zip(found, expected, strict=True):
    assert (a == b).mean() > 0.999  # but for ties


def test_large_pictures_have_a_band(monkeypatch):
  monkeypatch.setattr(bands, "_CANVAS_BYTES", 0)
  full, low = networks(once)
  calls = []
  forward = lambda images, valid: calls.append(1) or full(images, valid)
  segment = windows.Segmenter(forward, window=(SIDE, SIDE), num_classes=K, low=low)
  segment(np.zeros((SIDE + 1, SIDE, 1), np.uint8))
  assert len(calls) == 2


def test_what_is_not_finite_stops():
  full, _ = networks(once)
  low = Low(lambda images, valid: jnp.full((1, 4, 4, K), jnp.nan), once)
  segment = windows.Segmenter(full, window=(SIDE, SIDE), num_classes=K, low=low)
  with pytest.raises(NonFiniteError, match="picture number 0"):
    segment(np.zeros((SIDE, SIDE, 1), np.uint8))
