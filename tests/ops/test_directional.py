"""The directional contrast against loops, and blocks against all scores at once."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semiseg_jax.ops import directional
from semiseg_jax.ops.directional import Pixels, directional_contrast, directional_nll
from semiseg_jax.ops.step_bank import empty_bank
from tests.ops import directional_loops

B, GRID, D, CLASSES, STEPS, NUMBER = 4, (3, 4), 6, 3, 2, 9
OPTIONS = {"temperature": 0.2, "threshold": 0.45}
GEOMETRY = np.array(
  [[8, 0, 24, 32, 0, 1], [-4, 8, 24, 32, 1, 0], [0, 0, 12, 32, 1, 1], [0, -28, 24, 32, 0, 0]]
)
STRIDE = 4  # of maps of 12x16 pixels


def _unit(z):
  return (z / np.linalg.norm(z, axis=-1, keepdims=True)).astype(np.float32)


def _crop(rng):
  z = _unit(rng.normal(size=(B, *GRID, D)))
  logits = 2 * rng.normal(size=(B, *GRID, CLASSES)).astype(np.float32)
  return z, logits


@pytest.fixture(scope="module")
def crops():
  rng = np.random.default_rng(0)
  bank = {k: x[0] for k, x in empty_bank(1, STEPS, 2 * B * NUMBER, D).items()}
  bank["keys"][1] = _unit(rng.normal(size=bank["keys"][1].shape))
  bank["labels"][1] = rng.integers(0, CLASSES, bank["labels"][1].shape)
  bank["held"][1, ::2] = True
  u = tuple(rng.random((B, *GRID), np.float32) for _ in range(2))
  return _crop(rng), _crop(rng), bank, u


@functools.partial(jax.jit, static_argnames=("groups", "number", "block"))
def _contrast(first, second, bank, u, geometry, groups, number, block):
  one, two = (directional.classified(*crop) for crop in (first, second))
  sizes = {"stride": STRIDE, "groups": groups, "number": number, "block": block}
  return directional_contrast(one, two, geometry, bank, u, **sizes, **OPTIONS)


def _softmax(x):
  e = np.exp(x - x.max(-1, keepdims=True))
  return e / e.sum(-1, keepdims=True)


@pytest.mark.parametrize("groups, block", [(1, 7), (2, 1000), (4, 16)])
def test_losses_equal_loops(crops, groups, block):
  first, second, bank, u = crops
  number = B // groups * NUMBER
  found = _contrast(first, second, bank, u, GEOMETRY, groups, number, block)
  keys = [bank["keys"][1][bank["held"][1]]]
  labels = [bank["labels"][1][bank["held"][1]]]
  wide = []
  for (z, logits), draws in zip((first, second), u):
    z, p = np.float64(z), _softmax(np.float64(logits))
    wide.append((z, p.argmax(-1), p.max(-1)))
    for g, order in enumerate(np.argsort(draws.reshape(groups, -1))):
      keys.append(z.reshape(groups, -1, D)[g][order[:number]])
      labels.append(wide[-1][1].reshape(groups, -1)[g][order[:number]])
  expected, counts = directional_loops.loss(
    *wide, GEOMETRY, np.concatenate(keys), np.concatenate(labels), stride=STRIDE, groups=groups,
    **OPTIONS,
  )  # fmt: skip
  assert min(counts) > 2
  np.testing.assert_allclose(found.loss, expected, rtol=1e-5)
  assert np.asarray(found.positives).sum((1, 2, 3)).tolist() == counts
  pairs = directional_loops.pairs(GEOMETRY, GRID, STRIDE)
  assert int(found.overlap.sum()) == len(list(pairs))
  np.testing.assert_array_equal(found.bank["keys"][0], bank["keys"][1])


@pytest.mark.slow
def test_a_gradient_reaches_the_less_sure_pixels_alone(crops):
  (z, logits), (z_2, logits_2), bank, u = crops

  def loss(z, z_2, k):
    return _contrast((z, logits), (z_2, logits_2), bank, u, GEOMETRY, 1, 36, 50).loss[k]

  for k in (0, 1):
    gradients = jax.grad(loss, (0, 1))(z, z_2, k)
    moved = [np.abs(x).max(-1) > 0 for x in gradients]
    found = _contrast((z, logits), (z_2, logits_2), bank, u, GEOMETRY, 1, 36, 50)
    assert moved[k].sum() == int(found.positives[k].sum()) and not moved[1 - k].any()


def test_without_a_sure_pixel_everything_is_0(crops):
  (z, logits), (z_2, _), bank, u = crops
  flat = np.zeros_like(logits)
  loss = lambda z: _contrast((z, flat), (z_2, flat), bank, u, GEOMETRY, 2, 18, 50).loss.sum()
  value, gradient = jax.value_and_grad(loss)(z)
  assert value == 0 and not np.asarray(gradient).any()


# Blocks of negatives.


def _plain(z, target, y, bank, temperature):
  """All scores at once."""
  keys, labels, held = (bank[k].reshape(-1, *bank[k].shape[2:]) for k in ("keys", "labels", "held"))
  s = (z * jax.lax.stop_gradient(target)).sum(-1) / temperature
  n = jnp.einsum("pd,md->pm", z, keys, precision="highest") / temperature
  m = jnp.maximum(s, jnp.where(held[None], n, -jnp.inf).max(1))
  w = held[None] & (labels[None] != y[:, None])
  e = jnp.exp(s - m)
  others = jnp.where(w, jnp.exp(n - m[:, None]), 0).sum(1)
  return -jnp.log(e / (e + others + 1e-8) + 1e-8)


def _anchors(pixels, rows, classes=CLASSES, seed=0):
  rng = np.random.default_rng(seed)
  bank = {k: x[0] for k, x in empty_bank(1, 2, rows, D).items()}
  bank["keys"][:] = _unit(rng.normal(size=bank["keys"].shape))
  bank["labels"][:] = rng.integers(0, classes, bank["labels"].shape)
  bank["held"][:] = rng.random(bank["held"].shape) < 0.7
  z, b = (_unit(rng.normal(size=(pixels, D))) for _ in range(2))
  return z, b, rng.integers(0, classes, pixels).astype(np.uint8), bank


@pytest.mark.parametrize("block", [1, 7, 64, 10_000])
@pytest.mark.parametrize("classes", [1, 3])
def test_blocks_change_neither_loss_nor_gradient(block, classes):
  """With one class no negative is left, and the epsilons and the largest score are all of it."""
  z, b, y, bank = _anchors(11, 20, classes)
  weights = np.random.default_rng(1).random(11, np.float32)
  blocks = functools.partial(directional_nll, block=block)
  found, expected = (
    jax.jit(
      jax.value_and_grad(lambda z, run=run: (weights * run(z, b, y, bank, temperature=0.05)).sum())
    )(z)
    for run in (blocks, _plain)
  )
  np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)
  size = np.abs(expected[1]).max()
  assert size > 1e-3
  np.testing.assert_allclose(found[1], expected[1], rtol=0, atol=1e-5 * size)


@pytest.mark.slow
def test_all_scores_are_never_in_memory():
  """Compiled, not run: the gradient needs a few blocks, the plain formula all scores and more."""
  pixels, rows, block = 1024, 16_384, 512
  args = jax.eval_shape(lambda: jax.tree.map(jnp.asarray, _anchors(pixels, rows)))

  def peak(run):
    loss = lambda z, b, y, bank: run(z, b, y, bank, temperature=0.1).sum()
    return jax.jit(jax.grad(loss)).lower(*args).compile().memory_analysis().temp_size_in_bytes

  scores = 4 * pixels * 2 * rows
  assert peak(_plain) > scores
  assert peak(functools.partial(directional_nll, block=block)) < scores / 8


def test_probabilities_near_1_are_told_apart():
  logits = np.array([[20.0, 0, 0], [16.0, 0, 0]], np.float32)
  assert np.diff(directional.classified(None, logits).p) < 0
  assert isinstance(directional.classified(None, logits), Pixels)
