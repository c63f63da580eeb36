"""The networks of CAC and UniMatch against their golden files (PyTorch, float32)."""

import functools
import json

import jax
import numpy as np
import pytest
from flax import traverse_util

from configs import networks
from semiseg_jax import sharding, stacks
from semiseg_jax.config import schema
from semiseg_jax.models.layers import Conv, Mode, average_pool
from semiseg_jax.models.network import build_network
from semiseg_jax.models.torch import torch_names
from semiseg_jax.ops.resize import resize_bilinear
from tests.golden_files import golden, golden_params, golden_path

pytestmark = pytest.mark.slow

EVAL = Mode("eval")
PRECISE = functools.partial(jax.default_matmul_precision, "highest")


def _network(name):
  """The network of a code base with as many classes as its golden file has."""
  shapes = json.loads(golden_path(f"deeplabv3plus_r50_{name}.params.json").read_text())
  classes = [shape[0] for entry, shape in shapes.items() if entry.startswith("classifier.")]
  model = schema.default().model
  networks.choose(model, name, 50)
  return build_network(model, num_classes=classes[0], in_channels=3)


@pytest.mark.parametrize("name", ["cac", "unimatch"])
def test_names_and_shapes_are_the_published_ones(name):
  network = _network(name)
  published = json.loads(golden_path(f"deeplabv3plus_r50_{name}.params.json").read_text())
  expected = {
    entry: tuple(shape)
    for entry, shape in published.items()
    if not entry.endswith("num_batches_tracked")
  }
  names = torch_names.network_names(network)
  leaves = {p: x for tree in network.shapes() for p, x in traverse_util.flatten_dict(tree).items()}
  ours = {names[path]: torch_names.torch_shape(leaf.shape) for path, leaf in leaves.items()}
  assert ours == expected and len(ours) == len(leaves)


def _last(array):
  """[B,C,H,W] -> [B,H,W,C]."""
  return np.moveaxis(array, 1, -1)


def _near(actual, expected, tolerance):
  assert actual.shape == expected.shape
  error = np.abs(np.asarray(actual) - expected).max() / np.abs(expected).max()
  assert error < tolerance


@functools.partial(jax.jit, static_argnums=0)
def _decode(network, params, stats, features):
  """Outputs, the ASPP's map and the projector before its normalization."""
  run = lambda part, inputs, wanted: network.parts[part].apply(
    {"params": params[part], "batch_stats": stats[part]},
    inputs,
    EVAL,
    capture_intermediates=lambda module, _: module.path == (wanted,),
    mutable=["intermediates"],
  )
  outputs, found = run("decoder", features, "aspp")
  embedding, projected = run("projection", {**features, **outputs}, "out")
  return {
    **outputs,
    "embedding": embedding,
    "aspp": found["intermediates"]["aspp"]["__call__"][0],
    "projector": projected["intermediates"]["out"]["__call__"][0],
  }


@pytest.fixture(scope="module")
def cac():
  """The golden arrays, channels last, our network, its variables, features and outputs."""
  arrays = {
    key: _last(x) if x.ndim == 4 else x for key, x in golden("deeplabv3plus_r50_cac").items()
  }
  network = _network("cac")
  params, stats = golden_params(network)
  with PRECISE():
    encode = jax.jit(functools.partial(network.encode, mode=EVAL))
    features, _ = encode(params, stats, arrays["image"])
    outputs = _decode(network, params, stats, features)
  return arrays, network, (params, stats), {**features, **outputs}


CAC_MAPS = {
  "c1": "low",
  "c4": "high",
  "aspp": "aspp",
  "decoder": "features",
  "logits_stride4": "logits",
  "logits_pooled": "logits_pooled",
  "projector": "projector",
  "projector_normalised": "embedding",
}


@pytest.mark.parametrize("name", CAC_MAPS)
def test_cac_maps(cac, name):
  arrays, _, _, ours = cac
  _near(ours[CAC_MAPS[name]], arrays[name], 1e-4)


def test_cac_full_size_logits(cac):
  arrays, network, _, ours = cac
  _near(average_pool(ours["features"], 2), arrays["pooled"], 1e-4)
  size = arrays["image"].shape[1:3]
  _near(resize_bilinear(ours["logits"], size, network.align_corners), arrays["logits_full"], 1e-4)


def test_cac_pooled_labels(cac):
  arrays, _, _, ours = cac
  logits = arrays["logits_pooled"]
  second, first = np.moveaxis(np.sort(logits, -1)[..., -2:], -1, 0)
  clear = first - second > 2e-4 * np.abs(logits).max()
  assert clear.mean() > 0.5
  labels = np.argmax(ours["logits_pooled"], -1)
  np.testing.assert_array_equal(labels[clear], arrays["label_pooled"][clear])


def test_cac_head_at_ordinary_magnitudes(cac):
  arrays, network, (params, stats), _ = cac
  rng = np.random.default_rng(int(arrays["head_seed"]))
  draw = lambda name: _last(
    np.maximum(rng.standard_normal(np.moveaxis(arrays[name], -1, 1).shape), 0).astype(np.float32)
  )
  high = draw("c4")
  with PRECISE():
    ours = _decode(network, params, stats, {"low": draw("c1"), "high": high})
  _near(ours["aspp"], arrays["head_aspp"], 1e-4)
  _near(ours["features"], arrays["head_decoder"], 1e-4)


def test_cac_classifier_and_projector_at_ordinary_magnitudes(cac):
  arrays, network, (params, _), _ = cac
  unit = arrays["head_unit"]
  blocks = unit.repeat(2, 1).repeat(2, 2)  # whose average over 2x2 pixels is `unit`
  classifier = Conv(network.num_classes, bias=True)
  with PRECISE():
    logits = classifier.apply({"params": params["decoder"]["classifier"]}, unit, EVAL)
    embedding, found = network.projection.apply(
      {"params": params["projection"]},
      {"features": blocks},
      EVAL,
      capture_intermediates=True,
      mutable=["intermediates"],
    )
  _near(logits, arrays["head_unit_logits"], 1e-4)
  projector = found["intermediates"]["out"]["__call__"][0]
  _near(projector, arrays["head_unit_projector"], 1e-4)
  _near(embedding, arrays["head_unit_projector_normalised"], 1e-4)


@functools.partial(jax.jit, static_argnums=0, static_argnames="bn")
def _perturbed(stack, params, stats, images, low, high, *, bn):
  """Logits of the clean and of the dropped features, decoded as one group; new statistics."""
  streams, stats = stacks.encode(stack, params, stats, {"clean": images}, bn=bn)
  clean = {name: streams["clean"][name] for name in ("low", "high")}
  dropped = {"low": clean["low"] * low, "high": clean["high"] * high}
  joined = {"clean": clean, "dropped": dropped}
  outputs, stats = stacks.decode(
    stack, params, stats, joined, bn=bn, groups=(("clean", "dropped"),)
  )
  resize = lambda x: resize_bilinear(x, images.shape[1:3], stack.network.align_corners)
  logits = {name: resize(output["logits"][0]) for name, output in outputs.items()}
  return logits, clean, outputs["clean"]["logits"][0], jax.tree.map(lambda x: x[0], stats)


@pytest.fixture(scope="module")
def unimatch():
  """The golden arrays, the network, and our runs in eval and in train mode."""
  arrays = golden("deeplabv3plus_r50_unimatch")
  network = _network("unimatch")
  stack = stacks.whole("network", 1, network, sharding.make_mesh())
  params, stats = jax.tree.map(lambda x: x[None], golden_params(network))
  mask = lambda name: arrays[name][None, :, None, None, :]
  run = lambda kind, bn: _perturbed(
    stack,
    params,
    stats,
    _last(arrays[f"{kind}x"]),
    mask(f"{kind}drop_c1"),
    mask(f"{kind}drop_c4"),
    bn=bn,
  )
  with PRECISE():
    return arrays, network, run("", "eval"), run("train_", "train")


def test_unimatch_eval(unimatch):
  arrays, _, (logits, clean, low_logits, _), _ = unimatch
  _near(logits["clean"], _last(arrays["logits"]), 1e-4)
  _near(logits["dropped"], _last(arrays["logits_fp"]), 1e-4)
  _near(low_logits, _last(arrays["logits_low"]), 1e-4)
  first = arrays["c1_n0"].shape[1]
  _near(clean["low"][0, ..., :first], _last(arrays["c1_n0"]), 1e-4)
  _near(clean["high"][0], _last(arrays["c4_n0"]), 1e-4)


def test_unimatch_train(unimatch):
  arrays, _, _, (logits, *_) = unimatch
  _near(logits["clean"], _last(arrays["train_logits"]), 3e-3)
  _near(logits["dropped"], _last(arrays["train_logits_fp"]), 3e-3)


def test_unimatch_running_statistics(unimatch):
  arrays, network, _, (*_, stats) = unimatch
  names = torch_names.network_names(network)
  flat = traverse_util.flatten_dict(stats)
  ours = {names[path]: leaf for path, leaf in flat.items()}
  prefix = "after_train."
  checked = [key.removeprefix(prefix) for key in arrays if key.startswith(prefix)]
  assert checked
  for name in checked:
    _near(ours[name], arrays[prefix + name], 1e-3)
