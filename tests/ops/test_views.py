"""The mean over views against numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semiseg_jax.ops.views import mean_of_views
from tests.small_network import upsampled

ROW = np.arange(3.0)[None, None, None]


def _softmax(z):
  e = np.exp(z - z.max(-1, keepdims=True))
  return e / e.sum(-1, keepdims=True)


def _logits(x, pad):
  """Not symmetric: a pixel sees its left neighbor."""
  left = pad(x, ((0, 0), (0, 0), (1, 0), (0, 0)))[:, :, :-1]
  return (x - 2 * left) * (1 + ROW)


@pytest.mark.parametrize("scales", [(1.0,), (0.5, 1.0, 1.7)])
@pytest.mark.parametrize("flip", [False, True])
def test_mean_of_views(scales, flip):
  x = np.random.default_rng(0).normal(size=(2, 8, 11, 3))
  views = []
  for scale in scales:
    view = upsampled(x, (int(8 * scale), int(11 * scale)))
    views.append(upsampled(_softmax(_logits(view, np.pad)), (8, 11)))
    if flip:
      mirrored = _softmax(_logits(view[:, :, ::-1], np.pad))[:, :, ::-1]
      views.append(upsampled(mirrored, (8, 11)))
  run = jax.jit(
    lambda x: mean_of_views(lambda v: jax.nn.softmax(_logits(v, jnp.pad)), x, scales, flip)
  )
  np.testing.assert_allclose(run(x), np.mean(views, 0), rtol=1e-4, atol=1e-5)
