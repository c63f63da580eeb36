"""The memory of pixel contrast against the reference's queue, corrected and as published."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semiseg_jax.labels import IGNORE
from semiseg_jax.ops.memory import as_bank, draw_pixels, empty_memory, enqueue
from tests.golden_files import golden

NAMES = {
  "region": "segment_queue",
  "pixel": "pixel_queue",
  "region_at": "segment_ptr",
  "pixel_at": "pixel_ptr",
}


@pytest.mark.parametrize("rule", ["fixed", "reference"])
def test_queues_after_every_step(rule):
  g = golden("memory_queue_update")
  reference, stride = rule == "reference", int(g["stride"])
  memory = {ours: g[f"{theirs}_0"] for ours, theirs in NAMES.items()}
  run = jax.jit(enqueue, static_argnums=4)
  steps = [int(name.removeprefix("keys_")) for name in g if name.startswith("keys_")]
  assert steps
  for s in sorted(steps):
    E = np.moveaxis(g[f"keys_{s}"], 1, -1)
    y = g[f"labels_{s}"][:, ::stride, ::stride]
    y = np.where(y < 0, IGNORE, y).astype(np.uint8).reshape(len(E), -1)
    pixels = np.full((len(E), len(memory["region"]), g[f"picks_{s}"].shape[1]), -1, np.int32)
    for image, c, picks in zip(*(g[f"picks{x}_{s}"] for x in ("_image", "_class", ""))):
      found = picks[picks >= 0]
      pixels[image, c, : len(found)] = found if reference else np.nonzero(y[image] == c)[0][found]
    memory = run(memory, E.reshape(*y.shape, -1), y, pixels, reference)
    for ours, theirs in NAMES.items():
      expected = g[f"{theirs}_{rule}_{s}"]
      np.testing.assert_allclose(memory[ours], expected, atol=1e-6, err_msg=f"{ours} {s}")


def test_drawn_pixels_are_of_their_class_and_never_twice():
  rng = np.random.default_rng(0)
  labels = rng.choice([0, 1, 2, IGNORE], 60, p=[0.5, 0.4, 0.05, 0.05]).astype(np.uint8)
  labels[labels == 2] = 1
  labels[[7, 30]] = 2
  drawn = set()
  for seed in range(30):
    u = np.random.default_rng(seed).random(60, np.float32)
    found = np.asarray(draw_pixels(jnp.asarray(labels), u, 4, 5))
    assert found.shape == (4, 5)
    for c in range(4):
      own = found[c][found[c] >= 0]
      assert len(set(own)) == len(own) == min(5, (labels == c).sum())
      assert (labels[own] == c).all()
    assert set(found[2][:2]) == {7, 30} and (found[3] == -1).all()
    drawn |= set(found[0])
  assert drawn == set(np.nonzero(labels == 0)[0])


def test_published_picks_are_places_within_the_class():
  labels = jnp.asarray(np.array([3, 1, 3, 3, 1, 3, IGNORE, 3], np.uint8))
  u = np.array([5, 0, 1, 2, 0.5, 4, 0, 3], np.float32)
  np.testing.assert_array_equal(draw_pixels(labels, u, 4, 3)[3], [2, 3, 7])
  np.testing.assert_array_equal(draw_pixels(labels, u, 4, 3, True)[3], [1, 2, 4])
  np.testing.assert_array_equal(draw_pixels(labels, u, 4, 3, True)[1], [0, 1, -1])


def test_a_class_with_many_pictures_goes_around_the_ring():
  memory = empty_memory(2, 3, 4, (0,))
  assert np.allclose(np.linalg.norm(memory["pixel"], axis=-1), 1)
  assert not np.allclose(memory["pixel"], memory["region"])
  E = np.eye(4, dtype=np.float32)[np.array([[0, 0], [1, 1], [2, 2], [3, 3]])]
  y = np.zeros((4, 2), np.uint8)
  pixels = np.full((4, 2, 2), -1, np.int32)
  pixels[:, 0] = [0, 1]
  found = enqueue(memory, E, y, pixels)
  np.testing.assert_array_equal(found["region"][0], np.eye(4)[[3, 1, 2]])
  np.testing.assert_array_equal(found["pixel"][0], np.eye(4)[[3, 3, 2]])
  assert found["region_at"].tolist() == [1, 0] and found["pixel_at"].tolist() == [2, 0]
  np.testing.assert_array_equal(found["pixel"][1], memory["pixel"][1])


def test_no_gradient_enters():
  memory = empty_memory(2, 3, 4, (0,))
  y, pixels = np.zeros((1, 2), np.uint8), np.zeros((1, 2, 1), np.int32)

  def loss(E):
    bank, _ = as_bank(enqueue(memory, E, y, pixels))
    return bank.sum()

  assert not np.any(jax.grad(loss)(np.ones((1, 2, 4), np.float32)))
