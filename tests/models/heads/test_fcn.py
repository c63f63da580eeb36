"""The FCN head in numpy, its variants, and on backbones of other strides."""

import itertools

import jax
import numpy as np
import pytest

from semiseg_jax.errors import ConfigError
from semiseg_jax.models.heads.fcn import FCN
from semiseg_jax.models.layers import Draws, Mode
from semiseg_jax.models.network import build_network
from tests.model_config import model_config
from tests.models import numpy_reference


def _variables(kernel, bias, width=4, classes=3):
  rng = np.random.default_rng(0)
  draw = lambda *shape: (
    (0.5 + rng.random(shape)).astype(np.float32) * rng.choice([-1, 1], shape[-1])
  )
  params = {
    "hidden": {
      "conv": {"kernel": draw(kernel, kernel, width, width), "bias": draw(width)},
      "bn": {"scale": draw(width), "bias": draw(width)},
    },
    "classifier": {"kernel": draw(1, 1, width, classes)}
    | ({"bias": draw(classes)} if bias else {}),
  }
  stats = {"hidden": {"bn": {"mean": draw(width), "var": np.abs(draw(width))}}}
  return params, stats


@pytest.mark.parametrize("variant, kernel, bias", [("contrast", 3, False), ("official", 1, True)])
def test_head_in_numpy(variant, kernel, bias):
  params, stats = _variables(kernel, bias)
  x = np.random.default_rng(1).standard_normal((2, 5, 4, 4)).astype(np.float32)
  outputs = FCN(3, variant).apply(
    {"params": params, "batch_stats": stats}, {"high": x}, Mode("eval")
  )
  conv, bn = params["hidden"]["conv"], params["hidden"]["bn"]
  y = conv["bias"] + numpy_reference.conv2d(
    x, conv["kernel"].transpose(3, 2, 0, 1), padding=kernel // 2
  )
  moments = stats["hidden"]["bn"]
  y = numpy_reference.batch_norm(y, bn["scale"], bn["bias"], moments["mean"], moments["var"])
  y = np.maximum(y, 0)
  last = params["classifier"]
  np.testing.assert_allclose(outputs["features"], y, atol=1e-4)
  expected = y @ last["kernel"][0, 0] + last.get("bias", np.zeros(3))
  np.testing.assert_allclose(outputs["logits"], expected, atol=1e-4)


def test_dropout_takes_whole_maps_at_the_published_rate_and_only_where_asked():
  params, stats = _variables(3, False)
  x = np.random.default_rng(1).standard_normal((2, 5, 4, 4)).astype(np.float32)
  keep = np.array([[1, 0, 1, 1], [0, 1, 1, 0]])[:, None, None]
  run = lambda variant, draws: FCN(3, variant).apply(
    {"params": params, "batch_stats": stats}, {"high": x}, Mode("eval", draws=draws)
  )
  dropped = run("contrast", Draws(masks={"dropout": keep}))
  kept = dropped["features"] * keep / 0.9
  expected = np.asarray(kept) @ params["classifier"]["kernel"][0, 0]
  np.testing.assert_allclose(dropped["logits"], expected, atol=1e-5)
  # By keys: one choice of whole maps explains every pixel of an image.
  drawn = run("contrast", Draws(keys=jax.random.split(jax.random.key(3), 2)))["logits"]
  assert not np.allclose(drawn, run("contrast", None)["logits"])
  features = np.asarray(dropped["features"]) / 0.9
  kernel = params["classifier"]["kernel"][0, 0]
  for image, maps in zip(np.asarray(drawn), features):
    choices = itertools.product((0, 1), repeat=maps.shape[-1])
    assert any(np.allclose((maps * choice) @ kernel, image, atol=1e-5) for choice in choices)


def test_official_variant_has_no_dropout():
  params, stats = _variables(1, True)
  x = np.random.default_rng(1).standard_normal((1, 3, 3, 4)).astype(np.float32)
  run = lambda draws: FCN(3, "official").apply(
    {"params": params, "batch_stats": stats}, {"high": x}, Mode("eval", draws=draws)
  )
  draws = Draws(keys=jax.random.split(jax.random.key(3), 1))
  np.testing.assert_array_equal(run(draws)["logits"], run(None)["logits"])


@pytest.mark.slow
@pytest.mark.parametrize("backbone, stride", [("tiny", 8), ("resnet18", 16), ("hrnet_w32", 4)])
def test_any_backbone_with_a_last_map_will_do(backbone, stride):
  network = build_network(model_config(backbone, "fcn"), num_classes=5, in_channels=3)
  mode = Mode("eval")

  def call(params, stats, images):
    features, stats = network.encode(params, stats, images, mode)
    return network.decode(params, stats, features, mode)[0]

  images = np.zeros((1, 64, 96, 3), np.float32)
  outputs = jax.eval_shape(call, *network.shapes(), images)
  assert outputs["logits"].shape == (1, 64 // stride, 96 // stride, 5)
  assert outputs["logits"].dtype == np.float32


def test_an_unknown_variant_names_the_possible_ones():
  with pytest.raises(ConfigError, match="model.fcn.variant is 'ocr'; possible: contrast, official"):
    build_network(model_config("tiny", "fcn", fcn={"variant": "ocr"}), num_classes=5, in_channels=3)
