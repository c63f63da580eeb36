"""Anchors and contrast loss against the reference's own functions, and what they crash on."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semiseg_jax.labels import IGNORE
from semiseg_jax.ops.contrast import contrast_loss, sample_anchors
from semiseg_jax.ops.contrast_pools import contrast_of_pools
from semiseg_jax.ops.losses import cross_entropy, weighted_cross_entropy
from semiseg_jax.ops.resize import resize_bilinear, resize_nearest
from tests.golden_files import golden


class Case:
  """One case of the golden file, in our layout."""

  def __init__(self, name):
    self.name, self.file = name, golden("pixel_contrast_loss")
    if f"{name}_feats" not in self.file:
      pytest.skip(f"pixel_contrast_loss has no case {name}")
    self.E = np.moveaxis(self["feats"], 1, -1)
    self.P = np.moveaxis(self["seg"], 1, -1)
    ids = lambda x: np.where(x < 0, IGNORE, x).astype(np.uint8)
    self.labels, self.low = ids(self["labels"]), ids(self["labels_low"])
    self.max_samples, self.max_views = int(self["max_samples"]), int(self["max_views"])

  def __getitem__(self, key):
    return self.file[f"{self.name}_{key}"]

  def __contains__(self, key):
    return f"{self.name}_{key}" in self.file

  @property
  def u(self):
    """Random numbers of which the smallest are the picks, in their order."""
    u = np.full(self.low.shape, 1e6, np.float32)
    flat = u.reshape(len(u), -1)
    for image, picks in zip(self["anchor_image"], self["index"]):
      flat[image, picks] = np.arange(len(picks))
    return u

  def anchors(self):
    return sample_anchors(
      jnp.asarray(self.low),
      self.P.argmax(-1),
      self.u,
      num_classes=self.P.shape[-1],
      max_samples=self.max_samples,
      max_views=self.max_views,
    )

  def memory(self):
    if "segment_queue" not in self:
      return None
    return {"region": self["segment_queue"][None], "pixel": self["pixel_queue"][None]}

  def term(self, E, memory, reference=False):
    loss, count = contrast_of_pools(
      self.P[None],
      E[None],
      self.low[None],
      self.u[None],
      memory,
      groups=1,
      max_samples=self.max_samples,
      max_views=self.max_views,
      temperature=float(self["temperature"]),
      base_temperature=float(self["base_temperature"]),
      reference=reference,
    )
    assert loss.shape == count.shape == (1,)
    return loss[0]


@pytest.fixture(params="ABCDE", scope="module")
def case(request):
  return Case(request.param)


def test_labels_and_predictions(case):
  found = resize_nearest(jnp.asarray(case.labels), case.low.shape[1:])
  np.testing.assert_array_equal(found, case.low)
  np.testing.assert_array_equal(case.P.argmax(-1), case["predict"])


def test_the_anchors_are_those_of_the_reference(case):
  found, (T, V) = case.anchors(), case["index"].shape
  np.testing.assert_array_equal(found.valid, np.arange(len(found.valid)) < T * V)
  assert V == case["n_view"] and T * V <= len(found.valid) <= case.max_samples
  rows = slice(0, T * V)
  pixels = case.low[0].size
  expected = case["anchor_image"][:, None] * pixels + case["index"]
  np.testing.assert_array_equal(found.pixel[rows], expected.ravel())
  np.testing.assert_array_equal(found.label[rows], np.repeat(case["anchor_class"], V))
  x = case.E.reshape(-1, case.E.shape[-1])[np.asarray(found.pixel[rows])]
  np.testing.assert_array_equal(x.reshape(case["anchors"].shape), case["anchors"])
  order = np.arange(T * V).reshape(V, T).T
  np.testing.assert_array_equal(found.view_major[rows], order.ravel())


# Title -> with memory, as published.
VARIANTS = {
  "": (False, False),
  "_no_queue": (False, False),
  "_fixed": (True, False),
  "_reference": (True, True),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_contrast_and_its_gradient(case, variant):
  if f"contrast{variant}" not in case:
    pytest.skip("the case has no such variant")
  with_memory, reference = VARIANTS[variant]
  memory = case.memory() if with_memory else None
  value, gradient = jax.jit(jax.value_and_grad(lambda E: case.term(E, memory, reference)))(case.E)
  np.testing.assert_allclose(value, case[f"contrast{variant}"], atol=1e-5, rtol=1e-5)
  picked = [
    np.asarray(gradient).reshape(len(case.E), -1, case.E.shape[-1])[image, index]
    for image, index in zip(case["anchor_image"], case["index"])
  ]
  np.testing.assert_allclose(picked, case[f"grad_anchors{variant}"], atol=1e-5)


def test_the_whole_criterion(case):
  """CE of the enlarged logits + lambda contrast, its gradients; with the reference's memory."""
  memory = case.memory()
  labels, weight = jnp.asarray(case.labels), float(case["loss_weight"])

  def total(P, E):
    z = resize_bilinear(P, labels.shape[1:], align_corners=True)[None]
    if "ce_weight" in case:
      ce, _ = weighted_cross_entropy(z, labels, tuple(case["ce_weight"].tolist()))
    else:
      ce, _ = cross_entropy(z, labels[None])
    return ce[0] + weight * case.term(E, memory, reference=memory is not None), ce[0]

  run = jax.jit(jax.value_and_grad(total, (0, 1), has_aux=True))
  (value, ce), (to_P, to_E) = run(case.P, case.E)
  np.testing.assert_allclose(ce, case["ce"], rtol=1e-5)
  np.testing.assert_allclose(ce, case["total_warmup"], rtol=1e-5)
  np.testing.assert_allclose(value, case["total_embed"], rtol=1e-5)
  np.testing.assert_allclose(np.moveaxis(to_P, -1, 1), case["grad_seg"], atol=1e-5)
  np.testing.assert_allclose(np.moveaxis(to_E, -1, 1), case["grad_feats"], atol=1e-5)


def _sampled(labels, predictions, views=3, samples=20, classes=3, seed=0):
  u = np.random.default_rng(seed).random(labels.shape, np.float32)
  return sample_anchors(
    jnp.asarray(labels),
    predictions,
    u,
    num_classes=classes,
    max_samples=samples,
    max_views=views,
  )


def test_no_pair_no_anchor_no_loss():
  labels = np.full((2, 4, 4), IGNORE, np.uint8)
  labels[0, 0, :3] = 1  # as many pixels as views: not more
  found = _sampled(labels, np.zeros(labels.shape, int))
  assert not found.valid.any()
  value, gradient = jax.value_and_grad(_self_contrast)(_unit((len(found.valid), 4)), found)
  assert value == 0 and not np.any(gradient)


def _unit(shape, seed=0):
  x = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
  return jnp.asarray(x / np.linalg.norm(x, axis=-1, keepdims=True))


def _self_contrast(x, found, temperature=0.1):
  return contrast_loss(
    x,
    found.label,
    found.valid,
    x[None],
    jnp.where(found.valid, found.label, -1)[None],
    jnp.arange(len(x)),
    temperature=temperature,
    base_temperature=0.07,
  )


def test_an_anchor_without_positives_is_left_out():
  """Class 2 has one anchor: no positive.  The mean is that of the others."""
  labels = np.array([0, 0, 1, 1, 2])
  x = _unit((5, 4))
  found = types.SimpleNamespace(label=jnp.asarray(labels), valid=jnp.ones(5, bool))
  value, gradient = jax.value_and_grad(_self_contrast)(x, found)
  assert np.isfinite(gradient).all()
  s = np.float64(x) @ np.float64(x).T / 0.1
  each = []
  for r in range(4):
    Z = np.exp(s[r, labels != labels[r]]).sum()
    (k,) = (k for k in range(5) if k != r and labels[k] == labels[r])
    each.append(-0.1 / 0.07 * (s[r, k] - np.log(np.exp(s[r, k]) + Z)))
  np.testing.assert_allclose(value, np.mean(each), rtol=1e-5)


def test_one_class_alone_and_a_cold_temperature_stay_finite():
  found = types.SimpleNamespace(label=jnp.zeros(5, int), valid=jnp.ones(5, bool))
  value, gradient = jax.value_and_grad(_self_contrast)(_unit((5, 4)), found)
  assert abs(value) < 1e-5 and np.isfinite(gradient).all()
  found.label = jnp.asarray([0, 0, 1, 1, 1])
  value, gradient = jax.value_and_grad(_self_contrast)(_unit((5, 4)), found, 1e-3)
  assert np.isfinite(value) and np.isfinite(gradient).all()


def test_picks_are_spread_and_never_twice():
  rng = np.random.default_rng(0)
  labels = rng.integers(0, 3, (2, 12, 12), dtype=np.uint8)
  predictions = rng.integers(0, 3, labels.shape)
  taken = []
  for seed in range(20):
    found = _sampled(labels, predictions, views=6, samples=30, seed=seed)
    T, V = 6, 5
    assert found.valid.sum() == T * V and len(np.unique(found.pixel[:30])) == 30
    wrong = (labels != predictions).ravel()[np.asarray(found.pixel[:30])].reshape(T, V)
    np.testing.assert_array_equal(wrong, [[True] * 2 + [False] * 3] * T)
    taken.append(np.asarray(found.pixel))
  assert len(np.unique(taken)) > 150, "only some pixels are ever drawn"
