"""CCT's network, deep-stem ResNet-50 with pyramid pooling and main decoder, against its file."""

import functools

import jax
import numpy as np
import pytest

from configs import networks
from semiseg_jax.config import schema
from semiseg_jax.models.layers import Mode
from semiseg_jax.models.network import build_network
from tests.golden_files import golden, golden_params, published_shapes, torch_shapes

pytestmark = pytest.mark.slow

NAME, TOLERANCE = "cct_r50_psp", 1e-4


def _network():
  model = schema.default().model
  networks.choose(model, "cct", 50)
  classes = published_shapes(NAME)["main_decoder.upsample.0.weight"][0]
  return build_network(model, num_classes=classes, in_channels=3)


@functools.partial(jax.jit, static_argnums=0)
def _run(network, params, stats, x):
  features, found = network.encoder.apply(
    {"params": params["encoder"], "batch_stats": stats["encoder"]},
    x,
    Mode("eval"),
    capture_intermediates=lambda module, _: module.path == ("stem",),
    mutable=["intermediates"],
  )
  outputs, _ = network.decode(params, stats, features, Mode("eval"))
  return {
    "stem": found["intermediates"]["stem"]["__call__"][0],
    "c1": features["low"],
    "c4": features["high"],
    "enc": outputs["features"],
    "logits": outputs["logits"],
  }


@pytest.fixture(scope="module")
def runs():
  """The golden arrays and our maps by the same names."""
  arrays = golden(NAME)
  network = _network()
  params, stats = golden_params(network)
  rng = np.random.default_rng(int(arrays["head_seed"]))
  shape = (1, network.feature_info["high"][1], *arrays["c4"].shape[2:])
  high = np.maximum(rng.standard_normal(shape), 0).astype(np.float32)
  decode = jax.jit(functools.partial(network.decode, mode=Mode("eval")))
  with jax.default_matmul_precision("highest"):
    ours = _run(network, params, stats, np.moveaxis(arrays["image"], 1, -1).astype(np.float32))
    head, _ = decode(params, stats, {"high": np.moveaxis(high, 1, -1)})
  return arrays, {**ours, "head_enc": head["features"], "head_logits": head["logits"]}


def test_names_and_shapes_are_the_published_ones():
  assert torch_shapes(_network()) == published_shapes(NAME)


@pytest.mark.parametrize("name", ["stem", "c1", "c4", "enc", "logits", "head_enc", "head_logits"])
def test_maps(runs, name):
  arrays, ours = runs
  expected = np.moveaxis(arrays[name], 1, -1)
  actual = np.asarray(ours[name])[..., : expected.shape[-1]]
  assert actual.shape == expected.shape and actual.dtype == np.float32
  assert np.abs(actual - expected).max() < TOLERANCE * np.abs(expected).max()


def test_the_psp_encoder_of_cac_is_the_same(runs):
  """All but its classifier and projector has CCT's names, and pools to the same features."""
  model = schema.default().model
  networks.choose(model, "cac_psp", 50)
  classes = published_shapes(NAME)["main_decoder.upsample.0.weight"][0]
  network = build_network(model, num_classes=classes, in_channels=3)
  ours = torch_shapes(network)
  shared = {k: v for k, v in published_shapes(NAME).items() if k.startswith("encoder.")}
  width = model.pspnet.width
  assert ours == shared | {
    "classifier.weight": (classes, width, 1, 1),
    "classifier.bias": (classes,),
    "project.0.weight": (width, width, 1, 1),
    "project.0.bias": (width,),
    "project.2.weight": (128, width, 1, 1),
    "project.2.bias": (128,),
  }
  arrays, _ = runs
  params, stats = golden_params(network)
  rng = np.random.default_rng(int(arrays["head_seed"]))
  shape = (1, network.feature_info["high"][1], *arrays["c4"].shape[2:])
  high = np.moveaxis(np.maximum(rng.standard_normal(shape), 0).astype(np.float32), 1, -1)
  with jax.default_matmul_precision("highest"):
    found, _ = jax.jit(functools.partial(network.decode, mode=Mode("eval")))(
      params, stats, {"high": high}
    )
  expected = np.moveaxis(arrays["head_enc"], 1, -1)
  assert np.abs(found["features"] - expected).max() < TOLERANCE * np.abs(expected).max()
  assert found["logits"].shape == (*expected.shape[:3], classes)
  assert found["embedding"].shape == (*expected.shape[:3], 128)


@pytest.mark.parametrize("name", ["logits", "head_logits"])
def test_logits_are_never_negative(runs, name):
  assert np.min(runs[1][name]) == 0 < np.max(runs[1][name])
