"""What `data.labeled_photometry` and `data.padding` do to the pictures that a method gets."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from semiseg_jax.methods.inputs import images_of

from semiseg_jax.config import schema
from semiseg_jax.errors import ConfigError
from semiseg_jax.methods import contract
from semiseg_jax.methods.contract import Method, Stream
from semiseg_jax.ops import photometry
from semiseg_jax.ops.keys import example_keys
from semiseg_jax.training import experiment


def _method():
  def loss(params, state, batch, key, step, phase):
    return jnp.float32(0), (batch, None, {})

  streams = (
    Stream("labeled", "labeled", 3, order="labeled"),
    Stream("pairs", "unlabeled", 3, order="unlabeled", view="pair"),
  )
  return Method(streams=streams, stacks={}, trained=(), evaluated="", loss=loss)


def _batch(rows=3):
  rng = np.random.default_rng(0)

  def image():
    return jnp.asarray(rng.integers(20, 230, (rows, 8, 8, 3), np.uint8))

  row = jnp.arange(rows)
  label = jnp.zeros((rows, 8, 8), jnp.uint8)
  return {
    "labeled": {"image": image(), "label": label, "row": row},
    "pairs": {"image": image(), "image_2": image(), "label": label, "row": row},
  }


def _seen(config, batch, key):
  method = experiment.with_photometry(config, _method())
  _, (seen, _, _) = method.loss({}, {}, batch, key, 0, 0)
  return seen


def test_nothing_is_wrapped_without_photometry():
  method = _method()
  assert experiment.with_photometry(schema.default(), method) is method


@pytest.mark.parametrize("source, stream", [("labeled", "labeled"), ("unlabeled", "pairs")])
def test_each_source_has_its_own(source, stream):
  config, batch, key = schema.default(), _batch(), jax.random.key(3)
  config.data[f"{source}_photometry"] = "brightness"
  seen = _seen(config, batch, key)
  for name, fields in batch.items():
    for field, value in fields.items():
      changed = name == stream and field.startswith("image")
      assert np.array_equal(seen[name][field], value) != changed, (name, field)
  keys = example_keys(key, f"{stream}/image", jnp.arange(3))
  expected = photometry.every_view(batch[stream]["image"], keys, "brightness", config)
  np.testing.assert_array_equal(seen[stream]["image"], expected)
  if stream == "pairs":
    shifts = [
      seen[stream][f].astype(int) - batch[stream][f].astype(int) for f in ("image", "image_2")
    ]
    assert (shifts[0] != shifts[1]).any()


def test_a_part_of_the_batch_gets_what_it_gets_in_the_whole():
  config, batch, key = schema.default(), _batch(), jax.random.key(3)
  config.data.labeled_photometry = "brightness"
  whole = _seen(config, batch, key)["labeled"]["image"]
  part = jax.tree.map(lambda x: x[1:], batch)
  np.testing.assert_array_equal(_seen(config, part, key)["labeled"]["image"], whole[1:])


@pytest.mark.parametrize("padding", ["mean", "black", "mean_pixel"])
def test_padding_before_or_after_normalisation(padding):
  config = schema.default()
  config.data.padding = padding
  image = np.zeros((1, 4, 5, 3), np.uint8)
  image[0, :2, :3] = 200
  if padding == "mean_pixel":
    image[0, 2:] = image[0, :, 3:] = (124, 116, 104)
  stream = {"image": jnp.asarray(image), "valid": jnp.asarray([[0, 0, 2, 3]])}
  x = np.asarray(images_of(config, stream))
  mean, std = np.array(config.data.mean), np.array(config.data.std)
  np.testing.assert_allclose(x[0, :2, :3], np.tile((200 / 255 - mean) / std, (2, 3, 1)), rtol=1e-5)
  outside = np.concatenate([x[0, 2:].reshape(-1, 3), x[0, :2, 3:].reshape(-1, 3)])
  if padding == "mean":
    assert (outside == 0).all()
  elif padding == "black":
    np.testing.assert_allclose(outside, np.tile(-mean / std, (len(outside), 1)), rtol=1e-5)
  else:
    assert 0 < np.abs(outside).max() < 0.01


def test_streams_default_to_one_crop():
  assert Stream("labeled", "labeled", 1, order="labeled").view == "single"


def test_a_view_that_the_family_lacks_is_a_wrong_config(monkeypatch):
  module = types.SimpleNamespace(build=lambda config, make_stack: _method())
  monkeypatch.setattr(contract, "find", lambda name: module)
  monkeypatch.setattr(experiment, "stack_maker", lambda *args, **kwargs: None)
  config = schema.default()
  with pytest.raises(ConfigError, match="data.augment='cps' knows no pairs"):
    experiment.make_method(config, None, classes=3, channels=3)
  config.data.augment = "cac"
  assert experiment.make_method(config, None, classes=3, channels=3).streams[1].view == "pair"
