"""The pictures of a Step: photometry of a source, strong views, pairs, padding, stored targets."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semiseg_jax.config import schema
from semiseg_jax.methods.contract import Stream
from semiseg_jax.ops import photometry
from semiseg_jax.ops.cutmix import draw_single_box_masks
from semiseg_jax.ops.keys import example_keys
from tests import small_network
from tests.methods.one_step import CLASSES, KEY, ROWS, SIZE, run


def _views(config, batch, key=KEY, streams=("labeled", "unlabeled"), strong=()):
  names = [s.name if isinstance(s, Stream) else s for s in streams]
  extra = [f"{name}_2" for name in names if "image_2" in batch[name]]

  def loss(c, s):
    weak = {(name, 0): s.x(name) for name in (*names, *extra)}
    return weak | {(name, k): s.x(name, strong=k) for name, k in strong}

  # A mapping of tuples is no tree that jit returns: texts.
  text = lambda c, s: {f"{name}/{k}": x for (name, k), x in loss(c, s).items()}
  return run(text, batch, key=key, config=config, streams=streams)[0]


def _plain_normalization():
  c = schema.default()
  c.data.mean, c.data.std = (0.0,) * 3, (1 / 255,) * 3  # x is the pixel
  return c


def test_nothing_changes_a_picture_unasked():
  batch = small_network.batch(("labeled", "unlabeled"), classes=CLASSES)
  found = _views(_plain_normalization(), batch)
  for name, fields in batch.items():
    np.testing.assert_allclose(found[f"{name}/0"], fields["image"], atol=1e-3)


@pytest.mark.parametrize("source, stream", [("labeled", "labeled"), ("unlabeled", "pairs")])
def test_photometry_is_that_of_the_source(source, stream):
  config = _plain_normalization()
  config.data[f"{source}_photometry"] = "brightness"
  streams = ("labeled", Stream("pairs", "unlabeled", ROWS, view="pair"))
  batch = _pairs()
  found = _views(config, batch, streams=streams)
  images = {"labeled": batch["labeled"]["image"], "pairs": batch["pairs"]["image"]}
  images["pairs_2"] = batch["pairs"]["image_2"]
  shifts = {name: found[f"{name}/0"] - images[name] for name in images}
  assert {name for name, x in shifts.items() if np.abs(x).max() > 0.5} == (
    {"labeled"} if stream == "labeled" else {"pairs", "pairs_2"}
  )
  for name in ("labeled",) if stream == "labeled" else ("pairs", "pairs_2"):
    use = {"labeled": "labeled/image", "pairs": "pairs/image", "pairs_2": "pairs/image_2"}[name]
    keys = example_keys(KEY, use, jnp.arange(ROWS))
    expected = photometry.every_view(images[name], keys, "brightness", config)
    np.testing.assert_allclose(found[f"{name}/0"], expected, atol=1e-3)
  assert (shifts["pairs"] != shifts["pairs_2"]).any() == (stream == "pairs")


def _pairs():
  batch = small_network.batch(("labeled", "pairs", "second"), classes=CLASSES)
  second = batch.pop("second")
  geometry = np.arange(6 * ROWS, dtype=np.int32).reshape(ROWS, 6)
  batch["pairs"] |= {f"{k}_2": second[k] for k in ("image", "label", "valid")}
  batch["pairs"]["geometry"] = geometry
  for fields in batch.values():
    fields["image"] = np.clip(fields["image"], 20, 230)
  return batch


def test_pairs_are_two_streams_of_one_geometry():
  def loss(c, s):
    names = ("pairs", "pairs_2")
    return [(s.y(n), s.inside(n), s.geometry(n), s.u("drawn", n, ())) for n in names]

  batch = _pairs()
  batch["pairs"]["valid_2"][:, 2] -= 3
  streams = ("labeled", Stream("pairs", "unlabeled", ROWS, view="pair"))
  (first, second), _ = run(loss, batch, streams=streams)
  np.testing.assert_array_equal(first[0], batch["pairs"]["label"])
  np.testing.assert_array_equal(second[0], batch["pairs"]["label_2"])
  assert first[1].all() and second[1][:, :-3].all() and not second[1][:, -3:].any()
  np.testing.assert_array_equal(first[2], second[2])
  assert (first[3] != second[3]).all()  # each crop draws its own
  np.testing.assert_array_equal(first[2], batch["pairs"]["geometry"])


def test_a_part_of_the_batch_is_seen_as_in_the_whole():
  config = _plain_normalization()
  config.data.labeled_photometry = "brightness"
  batch = small_network.batch(("labeled", "unlabeled"), classes=CLASSES)
  asked = dict(strong=[("unlabeled", 1)])
  whole = _views(config, batch, **asked)
  part = _views(config, jax.tree.map(lambda x: x[1:], batch), **asked)
  for name, x in part.items():
    np.testing.assert_allclose(x, whole[name][1:], rtol=1e-5, atol=1e-3)


@pytest.mark.slow
def test_strong_views_differ_by_number_and_row_and_are_functions_of_the_key():
  config = _plain_normalization()
  config.data.strong.jitter_p = 1.0
  batch = small_network.batch(("labeled", "unlabeled"), classes=CLASSES)
  batch["unlabeled"]["image"][:] = batch["unlabeled"]["image"][:1]
  asked = [("unlabeled", k) for k in (1, 2)]
  found = _views(config, batch, strong=asked)
  first, second = found["unlabeled/1"], found["unlabeled/2"]
  apart = lambda a, b: np.abs(a - b).mean() > 1
  assert apart(first, found["unlabeled/0"]) and apart(first, second)
  assert apart(first[0], first[1]) and apart(second[0], second[1])
  small_network.close(_views(config, batch, strong=asked), found, rtol=0, atol=0)
  assert apart(_views(config, batch, key=jax.random.key(9), strong=asked)["unlabeled/1"], first)
  keys = example_keys(KEY, "unlabeled/strong_2", jnp.arange(ROWS))
  expected = photometry.strong_view(batch["unlabeled"]["image"], keys, config)
  np.testing.assert_allclose(second, expected, atol=1.01)  # rounded to whole values


def test_a_strong_view_is_made_of_the_weak_one():
  config = _plain_normalization()
  config.data.unlabeled_photometry = "brightness"
  config.data.strong.jitter_p = config.data.strong.gray_p = config.data.strong.blur_p = 0.0
  batch = _pairs()
  batch["unlabeled"] = batch.pop("pairs")
  for name in [k for k in batch["unlabeled"] if k.endswith("_2")]:
    del batch["unlabeled"][name]
  found = _views(config, batch, strong=[("unlabeled", 1)])
  np.testing.assert_allclose(found["unlabeled/1"], found["unlabeled/0"], atol=1e-3)
  assert np.abs(found["unlabeled/1"] - batch["unlabeled"]["image"]).max() > 0.5


@pytest.mark.parametrize("padding", ["mean", "black", "mean_pixel"])
def test_padding_before_or_after_normalization(padding):
  config = schema.default()
  config.data.padding = padding
  batch = small_network.batch(("labeled", "unlabeled"), size=(4, 6), rows=1, valid=(0, 0, 2, 3))
  image = batch["labeled"]["image"]
  image[:] = (124, 116, 104) if padding == "mean_pixel" else 0
  image[0, :2, :3] = 200
  x = _views(config, batch)["labeled/0"]
  mean, std = np.array(config.data.mean), np.array(config.data.std)
  np.testing.assert_allclose(x[0, :2, :3], np.tile((200 / 255 - mean) / std, (2, 3, 1)), rtol=1e-5)
  outside = np.concatenate([x[0, 2:].reshape(-1, 3), x[0, :2, 3:].reshape(-1, 3)])
  if padding == "mean":
    assert (outside == 0).all()
  elif padding == "black":
    np.testing.assert_allclose(outside, np.tile(-mean / std, (len(outside), 1)), rtol=1e-5)
  else:
    assert 0 < np.abs(outside).max() < 0.01


def test_stored_targets_and_their_confidence():
  batch = small_network.batch(("labeled", "unlabeled"), classes=CLASSES)
  target = np.full((ROWS, *SIZE), 2, np.uint8)
  batch["unlabeled"] |= {"target": target, "confidence": np.full_like(target, 51)}
  found, _ = run(lambda c, s: (s.target("unlabeled"), s.confidence("unlabeled")), batch)
  np.testing.assert_array_equal(found[0], target)
  np.testing.assert_allclose(found[1], 0.2, rtol=1e-6)


def _boxes(p, key=KEY, batch=None):
  config = schema.default()
  config.method.box_p = p
  loss = lambda c, s: {k: s.single_box("unlabeled", k) for k in (1, 2)}
  return run(loss, batch, key=key, config=config)[0]


@pytest.mark.slow
def test_single_boxes_are_functions_of_key_use_and_row():
  found = _boxes(1.0)
  keys = example_keys(KEY, "unlabeled/single_box_2", jnp.arange(ROWS))
  expected = draw_single_box_masks(keys, height=SIZE[0], width=SIZE[1], probability=1.0)
  np.testing.assert_array_equal(found[2], expected)
  assert found[1].shape == (ROWS, *SIZE) and found[1].dtype == bool
  different = lambda a, b: (np.asarray(a) != b).any()
  assert different(found[1], found[2]) and different(found[1][0], found[1][1])
  assert different(found[1], _boxes(1.0, jax.random.key(9))[1])
  assert not any(x.any() for x in _boxes(0.0).values())
  batch = small_network.batch(("labeled", "unlabeled"), classes=CLASSES)
  part = _boxes(1.0, batch=jax.tree.map(lambda x: x[1:], batch))
  np.testing.assert_array_equal(part[1], found[1][1:])


def test_pixels_without_data_teach_nothing_though_padding_may():
  batch = small_network.batch(("labeled", "unlabeled"), classes=CLASSES, valid=(1, 0, *SIZE))
  rng = np.random.default_rng(5)
  data = rng.random((ROWS, *SIZE)) < 0.6
  data[:, 0] = True  # in the padding
  batch["unlabeled"] |= {
    "has_data": data.astype(np.uint8),
    "target": rng.integers(0, CLASSES, (ROWS, *SIZE), dtype=np.uint8),
  }
  config = schema.default()
  config.method.compat = ("as_published",)

  def loss(c, s):
    Y = s.target("unlabeled")[None]
    hidden = [s.hide_padding("unlabeled", Y, unless=quirk) for quirk in ("", "as_published")]
    return Y[0], *hidden, s.inside("unlabeled"), s.inside("labeled"), s.unpadded("unlabeled")

  (target, hidden, quirk, inside, labeled, unpadded), _ = run(loss, batch, config=config)
  padded = np.zeros((ROWS, *SIZE), bool)
  padded[:, 0] = True
  np.testing.assert_array_equal(target, np.where(data, batch["unlabeled"]["target"], 255))
  np.testing.assert_array_equal(hidden[0], np.where(padded, 255, target))
  np.testing.assert_array_equal(quirk[0], target)
  np.testing.assert_array_equal(inside, data & ~padded)
  np.testing.assert_array_equal(labeled, ~padded)
  np.testing.assert_array_equal(unpadded, ~padded)
