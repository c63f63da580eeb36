"""FixMatch, UniMatch and UniMatch V2 on stored logits against the step code of their authors."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semiseg_jax.config import schema
from semiseg_jax.methods import contract
from semiseg_jax.methods.passes import Features
from semiseg_jax.methods.step import Step
from semiseg_jax.methods.weak_to_strong import PARTNER, WEAK
from semiseg_jax.ops import confidence
from tests.golden_files import golden


class StoredLogits(Step):
  """A step whose passes give what is stored, by the names of the streams; its features are none."""

  def __init__(self, c, logits, g):
    self.c, self.t, self._part = c, jnp.int32(0), (c.method.name, contract.find(c.method.name))
    self.logits, self.g = logits, g
    self.metrics, self.shown, self.taught, self.asked = {}, {}, {}, set()
    self._method, self._owners, self._class_weights = self._part, {}, ()

  def x(self, stream, strong=0):
    name = {WEAK: "img_u_s1", PARTNER: "img_u_s1_mix"}.get(stream, "img_u_s1")
    return jnp.moveaxis(jnp.asarray(self.g[name]), 1, -1)

  def y(self, stream):
    return jnp.asarray(self.g["mask_x"].astype(np.uint8))

  def inside(self, stream, unless=""):
    return jnp.asarray(self.g["ignore_mask_mix" if stream == PARTNER else "ignore_mask"] != 255)

  def single_box(self, stream, use):
    return jnp.asarray(self.g[f"cutmix_box{use}"] == 1)

  def copies(self, name):
    return 1

  def u(self, use, stream, shape, copies=0):
    return jnp.ones((1, len(self.g["mask_x"]), *shape))

  def net(self, name, streams, **options):
    self.asked.add(name)
    return {stream: self.logits[stream] for stream in streams}

  def encode(self, name, streams, **options):
    return {stream: Features(({},), (1, 1)) for stream in streams}

  def decode(self, name, features, **options):
    return self.net(name, features)


@pytest.fixture(scope="module")
def g():
  return golden("unimatch_losses")


def _variants(g, method):
  pattern = re.compile(rf"{method}\.(ce|ohem)\.t([\d.]+)\.loss")
  found = sorted(m.groups() for m in map(pattern.fullmatch, g) if m)
  assert {kind for kind, _ in found} == {"ce", "ohem"}
  return found


def _config(g, method, kind, threshold):
  c = schema.default()
  c.method.name, c.method.networks, c.method.weight = method, 1, 1.0
  c.method.threshold, c.method.supervised_loss = float(threshold), kind
  c.method.ohem_threshold = float(g["ohem_thresh"])
  c.method.ohem_kept_fraction = float(g["ohem_min_kept"] / g["mask_x"].size)
  if method == "unimatch_v2":
    c.method.box_partner = "reversed"
  return c


STORED = {
  "labeled": "pred_x",
  WEAK: "pred_u_w",
  PARTNER: "pred_u_w_mix",
  "strong": "pred_u_s1",
  "strong_1": "pred_u_s1",
  "strong_2": "pred_u_s2",
  f"{WEAK}_fp": "pred_u_w_fp",
  "labeled_fp": "pred_x",
}


def _run(g, method, kind, threshold):
  """(loss, gradients by the name of the stored logits, the step)."""
  c, steps = _config(g, method, kind, threshold), []
  stored = {k: jnp.moveaxis(jnp.asarray(g[k]), 1, -1)[None] for k in set(STORED.values())}

  def loss(stored):
    steps.append(StoredLogits(c, {name: stored[k] for name, k in STORED.items()}, g))
    return contract.find(method).loss(c, steps[-1])

  total, gradient = jax.value_and_grad(loss)(stored)
  return total, gradient, steps[-1]


def _mean(step, name):
  total, count = step.metrics[name]
  return np.asarray(jax.lax.stop_gradient(total)) / np.asarray(count)


@pytest.mark.parametrize("method", ["fixmatch", "unimatch", "unimatch_v2"])
def test_losses(g, method):
  for kind, threshold in _variants(g, method):
    name = f"{method}.{kind}.t{threshold}"
    total, *_ = _run(g, method, kind, threshold)
    np.testing.assert_allclose(total, g[f"{name}.loss"], rtol=1e-5, err_msg=name)


@pytest.mark.parametrize("method", ["fixmatch", "unimatch", "unimatch_v2"])
def test_terms(g, method):
  for kind, threshold in _variants(g, method):
    name, c = f"{method}.{kind}.t{threshold}", _config(g, method, kind, threshold)
    logits = {k: jnp.moveaxis(jnp.asarray(g[s]), 1, -1)[None] for k, s in STORED.items()}
    step = StoredLogits(c, logits, g)
    contract.find(method).loss(c, step)
    expected = {"supervised_0": g[f"{name}.loss_x"]}
    if method == "fixmatch":
      expected["strong"] = g[f"{name}.loss_u_s"]
    else:
      expected["strong"] = (g[f"{name}.loss_u_s1"] + g[f"{name}.loss_u_s2"]) / 2
    if method == "unimatch":
      expected["features"] = g[f"{name}.loss_u_w_fp"]
      expected["confident"] = g[f"{name}.mask_ratio"]
    for metric, value in expected.items():
      np.testing.assert_allclose(_mean(step, metric), value, rtol=1e-5, err_msg=f"{name} {metric}")
    assert ("teacher" in step.asked) == (method == "unimatch_v2")


def test_gradients(g):
  _, gradient, _ = _run(g, "unimatch", "ce", "0.95")
  graded = {name.removeprefix("grad.") for name in g if name.startswith("grad.")}
  assert graded
  for name, found in gradient.items():
    found = np.moveaxis(np.asarray(found[0]), -1, 1)
    expected = g[f"grad.{name}"] if name in graded else np.zeros_like(found)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6, err_msg=name)


def test_the_maps_of_boxes(g):
  taught = lambda pred, ignored: confidence.taught(
    jnp.moveaxis(jnp.asarray(g[pred]), 1, -1)[None], jnp.asarray(g[ignored] != 255)
  )
  own, theirs = taught("pred_u_w", "ignore_mask"), taught("pred_u_w_mix", "ignore_mask_mix")
  np.testing.assert_array_equal(own.m[0], g["mask_u_w"])
  np.testing.assert_allclose(own.c[0], g["conf_u_w"], rtol=1e-5)
  for k in (1, 2):
    m, c, inside = confidence.pasted(jnp.asarray(g[f"cutmix_box{k}"] == 1), theirs, own)
    np.testing.assert_array_equal(m[0], g[f"mask_u_w_cutmixed{k}"])
    np.testing.assert_allclose(c[0], g[f"conf_u_w_cutmixed{k}"], rtol=1e-5)
    np.testing.assert_array_equal(~inside[0], g[f"ignore_mask_cutmixed{k}"] == 255)
  theirs = confidence.Taught(*(confidence.reversed_rows(x, 1, 1) for x in own))
  m, _, inside = confidence.pasted(jnp.asarray(g["cutmix_box1"] == 1), theirs, own)
  np.testing.assert_array_equal(m[0], g["v2.mask_u_w_cutmixed1"])
  np.testing.assert_array_equal(~inside[0], g["v2.ignore_mask_cutmixed1"] == 255)


@pytest.mark.parametrize(
  "method, mixed", [("unimatch", "mixed_img_u_s1"), ("unimatch_v2", "mixed_v2_img_u_s1")]
)
def test_mixed_pictures(g, method, mixed):
  *_, step = _run(g, method, "ce", "0.95")
  np.testing.assert_array_equal(np.moveaxis(np.asarray(step.shown["strong 1"]), -1, 1), g[mixed])
