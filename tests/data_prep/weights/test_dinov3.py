"""DINOv3 as its authors, timm and Hugging Face publish it: one tree, and clear refusals."""

import functools
import re

import jax
import numpy as np
import pytest
from flax import traverse_util

from data_prep import pretrained, published
from semiseg_jax.errors import WeightsError
from semiseg_jax.models.backbones.dinov3 import DinoV3
from semiseg_jax.models.heads.dpt import Dpt
from semiseg_jax.models.network import BACKBONES, Network
from semiseg_jax.models.torch import state_dicts

NAME, DEPTH = "dinov3_small", 4
# True widths of the small networks, of four blocks; the last as the 7B, which has no such biases.
FORMS = {
  "small": dict(width=384, heads=6),
  "small_plus": dict(width=384, heads=6, gated=1536),
  "7b": dict(width=64, heads=2, gated=128, biased=""),
}


@pytest.fixture(params=FORMS)
def form(request, monkeypatch):
  return _chosen(request.param, monkeypatch)


@pytest.fixture
def small(monkeypatch):
  return _chosen("small", monkeypatch)


def _chosen(name, monkeypatch):
  make = functools.partial(DinoV3, depth=DEPTH, levels=(0, 1, 2, 3), **FORMS[name])
  monkeypatch.setitem(BACKBONES, NAME, make)
  return FORMS[name]


def _authors(**form):
  return dict(_drawn(**form))


@functools.cache
def _drawn(width, heads, gated=0, biased="qv"):
  """The state dict of facebookresearch/dinov3, the periods rounded to bfloat16 as published."""
  shapes = {
    "cls_token": (1, 1, width),
    "storage_tokens": (1, 4, width),
    "mask_token": (1, width),
    "patch_embed.proj.weight": (width, 3, 16, 16),
    "patch_embed.proj.bias": (width,),
    "norm.weight": (width,),
    "norm.bias": (width,),
  }
  if gated:
    dense = {"mlp.w1": (gated, width), "mlp.w2": (gated, width), "mlp.w3": (width, gated)}
  else:
    dense = {"mlp.fc1": (4 * width, width), "mlp.fc2": (width, 4 * width)}
  dense |= {"attn.qkv": (3 * width, width), "attn.proj": (width, width)}
  for b in range(DEPTH):
    shapes |= {f"blocks.{b}.{n}.weight": shape for n, shape in dense.items()}
    shapes |= {f"blocks.{b}.{n}.bias": shape[:1] for n, shape in dense.items()}
    shapes |= {f"blocks.{b}.norm{i}.{n}": (width,) for i in (1, 2) for n in ("weight", "bias")}
    shapes |= {f"blocks.{b}.ls{i}.gamma": (width,) for i in (1, 2)}
    if not biased:
      del shapes[f"blocks.{b}.attn.qkv.bias"]
  rng = np.random.default_rng(0)
  state = {name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}
  size = width // heads
  periods = np.float32(100) ** (2 * np.arange(size // 4, dtype=np.float32) / (size // 2))
  state["rope_embed.periods"] = (periods.view(np.uint32) + 0x8000 & 0xFFFF0000).view(np.float32)
  if biased:
    mask = np.repeat(np.float32([1, 0, 1]), width)
    state |= {f"blocks.{b}.attn.qkv.bias_mask": mask for b in range(DEPTH)}
  return state


def _constants(state):
  return {name for name in state if name.endswith(("periods", "bias_mask"))}


def _timm(state, biases=True):
  """What timm makes of it: no mask token, no constants, no biases of keys."""
  found = {}
  for name, array in state.items():
    if name in _constants(state) or name == "mask_token":
      continue
    for ours, theirs in (
      ("storage_tokens", "reg_token"),
      ("ls1.gamma", "gamma_1"),
      ("ls2.gamma", "gamma_2"),
      ("mlp.w1", "mlp.fc1_g"),
      ("mlp.w2", "mlp.fc1_x"),
      ("mlp.w3", "mlp.fc2"),
    ):
      name = name.replace(ours, theirs)
    if name.endswith("qkv.bias"):
      if biases:
        q, _, v = np.split(array, 3)
        found |= {name.replace("qkv.bias", "q_bias"): q, name.replace("qkv.bias", "v_bias"): v}
      continue
    found[name] = array
  return found


def _face(state, layer="layer"):
  """What transformers make of it; version 5 puts `model` in front of the layers."""
  found = {}
  for name, array in state.items():
    if name in _constants(state):
      continue
    if name == "mask_token":
      array = array[None]
    if name.endswith("_token") or name == "storage_tokens":
      name = "embeddings." + name.replace("storage", "register")
    name = name.replace("patch_embed.proj", "embeddings.patch_embeddings")
    name = re.sub(r"^blocks", layer, name).replace(".attn.", ".attention.")
    name = re.sub(r"ls(\d).gamma", r"layer_scale\1.lambda1", name).replace("n.proj", "n.o_proj")
    for ours, theirs in (
      ("w1", "gate"),
      ("w2", "up"),
      ("fc1", "up"),
      ("w3", "down"),
      ("fc2", "down"),
    ):
      name = name.replace(f"mlp.{ours}", f"mlp.{theirs}_proj")
    if ".qkv." in name:
      for letter, part in zip("qkv", np.split(array, 3)):
        if letter != "k" or name.endswith("weight"):
          found[name.replace("qkv", f"{letter}_proj")] = part
      continue
    found[name] = array
  return found


def _converted(state):
  return pretrained.convert(state, NAME)


def test_the_authors_names_there_and_back(form):
  state = _authors(**form)
  found = _converted(state)
  assert found.match.describe() == "names as they are"
  assert found.unused == ["rope_embed.periods"]
  tree = traverse_util.unflatten_dict(
    {tuple(path.split("/")[1:]): array for path, array in found.arrays.items()}
  )
  network = Network(NAME, BACKBONES[NAME](), Dpt(2), 3, 2, np.float32)
  drawn, _ = network.init((0,))
  back = state_dicts.to_state_dict(network, {**drawn, "encoder": tree}, {})
  back = {n.removeprefix("backbone."): x for n, x in back.items() if n.startswith("backbone.")}
  assert back.keys() == state.keys()
  for name, array in state.items():
    if name.endswith("qkv.bias"):
      array = array * state[f"{name}_mask"]
    rtol = 2**-8 if name.endswith("periods") else 0
    np.testing.assert_allclose(back[name], array, rtol=rtol, err_msg=name)


def test_every_tensor_has_its_place(form):
  """Read off the arrays, not through our own way back."""
  state, width = _authors(**form), form["width"]
  arrays = _converted(_face(state)).arrays
  q, k, v = np.split(state["blocks.1.attn.qkv.weight"], 3)
  kernel = arrays["params/block1/attn/qkv/kernel"]
  for i, part in enumerate((q, k, v)):
    np.testing.assert_array_equal(kernel[:, i * width : (i + 1) * width], part.T)
  kernel = state["patch_embed.proj.weight"].transpose(2, 3, 1, 0)
  np.testing.assert_array_equal(arrays["params/patch_embed/kernel"], kernel)
  np.testing.assert_array_equal(arrays["params/storage_tokens"], state["storage_tokens"])
  np.testing.assert_array_equal(arrays["params/mask_token"], state["mask_token"].T)
  np.testing.assert_array_equal(arrays["params/block0/ls2/gamma"], state["blocks.0.ls2.gamma"])
  names = ("w1", "w2", "w3") if form.get("gated") else ("fc1", "fc2")
  for name in names:
    kernel = arrays[f"params/block0/mlp/{name}/kernel"]
    np.testing.assert_array_equal(kernel.T, state[f"blocks.0.mlp.{name}.weight"])


@pytest.mark.parametrize(
  "theirs, naming",
  [
    (_timm, "timm's names"),
    (_face, "Hugging Face's names"),
    (functools.partial(_face, layer="model.layer"), "Hugging Face's, version 5 names"),
  ],
)
def test_the_other_names_give_the_same_tree(form, theirs, naming):
  state, prefix = _authors(**form), "model.module.backbone."
  expected = _converted(state).arrays
  source = {prefix + name: array for name, array in theirs(state).items()}
  found = _converted(source)
  assert found.match.prefix == prefix and found.unused == []
  if theirs is _timm:
    if form.get("biased") == "":  # both of timm's namings are one without biases
      naming = "timm's names"
    expected = expected | {"params/mask_token": np.zeros((form["width"], 1), np.float32)}
  assert found.match.describe().startswith(naming)
  assert found.arrays.keys() == expected.keys()
  for path, array in expected.items():
    np.testing.assert_array_equal(found.arrays[path], array, err_msg=path)


def test_timms_files_without_biases_have_zeros(small):
  state = _authors(**small)
  found = _converted(_timm(state, biases=False))
  assert "no biases of query and value: zeros" in found.match.describe()
  assert not found.arrays["params/block1/attn/qkv/bias"].any()
  kernel = found.arrays["params/block1/attn/qkv/kernel"]
  np.testing.assert_array_equal(kernel.T, state["blocks.1.attn.qkv.weight"])


def _without(state, *names):
  return {name: array for name, array in state.items() if name not in names}


def _more(state, **arrays):
  return state | {name.replace("__", "."): array for name, array in arrays.items()}


@pytest.mark.parametrize(
  "change, said",
  [
    (
      lambda s: _without(_face(s), "layer.1.attention.k_proj.weight"),
      "lacks layer.1.attention.k_proj.weight, and has the others of layer.1.attention",
    ),
    (
      lambda s: _without(_face(s), "layer.1.attention.v_proj.bias"),
      "lacks layer.1.attention.v_proj.bias, and has the other bias",
    ),
    (
      lambda s: _without(_face(s), "layer.0.layer_scale2.lambda1"),
      "lacks 1 of the 62 tensors of dinov3_small: layer.0.layer_scale2.lambda1",
    ),
    (
      lambda s: _more(_face(s), layer__0__attention__k_proj__bias=np.ones(384, np.float32)),
      "that it does not have: layer.0.attention.k_proj.bias",
    ),
    (
      lambda s: _more(_face(s), layer__0__attention__k_proj__weight=np.ones((3, 4), np.float32)),
      "have different shapes",
    ),
    (lambda s: _without(_timm(s), "blocks.1.attn.q_bias"), "lacks blocks.1.attn.q_bias"),
    (lambda s: _without(_timm(s), "reg_token"), "lacks 1 of"),
    (
      lambda s: _without(s, "storage_tokens", "blocks.0.norm1.bias"),
      "lacks 2 of the 62 tensors of dinov3_small: blocks.0.norm1.bias, storage_tokens",
    ),
    (
      lambda s: s | {"blocks.1.attn.qkv.bias_mask": np.full(1152, np.nan, np.float32)},
      "blocks.1.attn.qkv.bias_mask is not 1 for queries, 0 for keys, 1 for values",
    ),
    (
      lambda s: s | {"blocks.1.attn.qkv.bias_mask": np.ones(1152, np.float32)},
      "blocks.1.attn.qkv.bias_mask is not 1",
    ),
    (
      lambda s: _without(s, "blocks.1.attn.qkv.bias_mask"),
      "blocks.1.attn.qkv.bias has a bias of keys and no mask",
    ),
    (
      lambda s: s | {"rope_embed.periods": s["rope_embed.periods"] ** 2},
      "rope_embed.periods are not the powers of 100 from 1 to 74.99",
    ),
    (
      lambda s: s | {"storage_tokens": np.zeros((1, 8, 384), np.float32)},
      r"storage_tokens: the source has shape \(1, 8, 384\), dinov3_small needs \(1, 4, 384\)",
    ),
    (
      lambda s: (
        s | {n.replace("s.3.", "s.4."): a for n, a in s.items() if n.startswith("blocks.3")}
      ),
      "more blocks than dinov3_small",
    ),
    (lambda s: _timm(_authors(**FORMS["small_plus"])), "lacks 8 of .*blocks.0.mlp.fc1.bias"),
  ],
)
def test_what_is_strange_is_refused_by_name(small, change, said):
  with pytest.raises(WeightsError, match=said):
    _converted(change(_authors(**small)))


def test_normalizations_of_class_tokens_are_left_over(small):
  """The 7B and the satellite weights have such."""
  state = _authors(**small)
  more = {f"local_cls_norm.{n}": np.ones(384, np.float32) for n in ("weight", "bias")}
  found = _converted(state | more)
  assert found.unused == ["local_cls_norm.bias", "local_cls_norm.weight", "rope_embed.periods"]


def test_the_license_is_told(small, tmp_path):
  np.savez(tmp_path / "source.npz", **_authors(**small))
  _, lines = pretrained.prepare(str(tmp_path / "source.npz"), NAME, str(tmp_path / "out"))
  assert "license" in lines[-1] and "Meta" in lines[-1]


def test_a_whole_network_there_and_back(small):
  network = Network(NAME, BACKBONES[NAME](), Dpt(2, 8, (4, 4, 8, 8)), 3, 2, np.float32)
  params, stats = network.init((0,))
  state = state_dicts.to_state_dict(network, params, stats)
  assert {"backbone.blocks.1.attn.qkv.bias_mask", "backbone.rope_embed.periods"} <= state.keys()
  found, _, _ = published.convert(state, network, 1)
  jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[0], b), found, params)
