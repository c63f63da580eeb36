"""U2PL's and ReCo's losses against the functions of their authors, every array of the file."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semiseg_jax.labels import IGNORE
from semiseg_jax.ops import class_sets, regional_contrast, reliability
from semiseg_jax.ops.losses import supervised_loss
from semiseg_jax.ops.resize import resize_bilinear
from tests.golden_files import golden

last = lambda x: jnp.moveaxis(jnp.asarray(x), 1, -1)


@pytest.fixture(scope="module")
def g():
  return golden("u2pl_reco_losses")


def _target(labels):
  return jnp.asarray(np.where((labels < 0) | (labels == 255), IGNORE, labels).astype(np.uint8))


def test_logits_of_the_teacher_at_full_size(g):
  size = g["u_target"].shape[1:]
  found = resize_bilinear(last(g["u_teacher_logits_low"]), size, align_corners=True)
  np.testing.assert_allclose(found, last(g["u_teacher_logits"]), atol=1e-5)


def _entropy(g):
  return reliability.entropy(last(g["u_teacher_logits"]))[None], _target(g["u_target"])[None]


def test_entropies_and_their_percentiles(g):
  H, Y = _entropy(g)
  np.testing.assert_allclose(H[0], g["u_entropy"], rtol=1e-5, atol=1e-6)
  shares = sorted(float(k.removeprefix("u_low_thresh_")) for k in g if "u_low_thresh_" in k)
  assert shares
  percents = [q for share in shares for q in (share, 100 - share)]
  bounds = reliability.entropy_bounds(H, Y, percents, 1)
  for share, low, high in zip(shares, bounds[::2], bounds[1::2]):
    for name, bound in (("low", low), ("high", high)):
      expected = g[f"u_{name}_thresh_{share:g}"]
      np.testing.assert_allclose(bound, np.full(bound.shape, expected), rtol=1e-5)


def test_unsupervised_loss_of_u2pl(g):
  H, Y = _entropy(g)
  P, found = last(g["u_student_logits"])[None], 0
  run = jax.jit(lambda P, q: reliability.reliable_loss(
    P, Y, H, reliability.entropy_bounds(H, Y, [q], 1)[0], 1
  )[0])  # fmt: skip
  for name in (k for k in g if k.startswith("u_unsup_loss_")):
    q = float(name.removeprefix("u_unsup_loss_"))
    np.testing.assert_allclose(run(P, q), g[name][None], rtol=1e-5)
    found += 1
  assert found


def test_hard_pixels_of_u2pl(g):
  P, y = last(g["u_student_logits"])[None], _target(g["u_target"])
  options = {"kind": "ohem", "group": 0, "ohem_threshold": 0.7}
  kept = [int(k.removeprefix("u_ohem_")) for k in g if k.removeprefix("u_ohem_").isdigit()]
  assert kept
  for k in kept:
    loss, _ = supervised_loss(P, y, ohem_kept_fraction=k / y.size, **options)
    np.testing.assert_allclose(loss[0], g[f"u_ohem_{k}"], rtol=1e-5)
  loss, _ = supervised_loss(P, y, ohem_kept_fraction=1.0, **options)
  np.testing.assert_allclose(loss[0], g["u_ohem_all"], rtol=1e-5)


@pytest.mark.parametrize("positive", [True, False])
def test_unsupervised_loss_of_reco(g, positive):
  """Ours is a mean over labeled pixels; as published those of a cross entropy of 0 are left out."""
  P, Y = last(g["r_student_logits"])[None], _target(g["r_target"])[None]
  q, found = jnp.asarray(g["r_confidence"])[None], 0
  for name in (k for k in g if k.startswith("r_unsup_loss_")):
    digits = name.removeprefix("r_unsup_loss_")
    strong = float(f"0.{digits[1:]}")
    loss = regional_contrast.weighted_loss(P, Y, q, strong, positive)
    mean, undecided = _mean_over_labeled(g, strong)
    expected, more = (g[name], undecided) if positive else (mean, 0)
    np.testing.assert_allclose(loss, [expected], rtol=1e-5 + more)
    found += 1
  assert found


def _mean_over_labeled(g, strong):
  """sum_b w_b sum CE / labeled pixels, in float64; and the share of pixels which may be 0 or not.

  log(1 + t) is 0 in float32 below t = 2^-24, and up to C times that in some orders of the sum.
  """
  logits, y = np.moveaxis(g["r_student_logits"], 1, -1).astype(np.float64), g["r_target"]
  labeled = (y >= 0) & (y != 255)
  z = logits - logits.max(-1, keepdims=True)
  z_y = np.take_along_axis(z, np.where(labeled, y, 0)[..., None].astype(int), -1)[..., 0]
  ce = np.where(labeled, np.log(np.exp(z).sum(-1)) - z_y, 0)
  w = (g["r_confidence"] >= strong).sum((1, 2)) / np.maximum(labeled.sum((1, 2)), 1)
  undecided = (0.99 * 2**-24 < ce) & (ce < logits.shape[-1] * 2**-24)
  return (w[:, None, None] * ce).sum() / labeled.sum(), undecided.sum() / labeled.sum()


@pytest.fixture(scope="module")
def contrast(g):
  """Arguments of `regional_contrast` with the recorded picks as pixels."""
  C, D = g["c_prob"].shape[1], g["c_rep"].shape[1]
  y, valid = g["c_label"].ravel(), (g["c_mask"][:, 0] > 0).ravel() & (g["c_label"] >= 0).ravel()
  p = np.moveaxis(g["c_prob"], 1, -1).reshape(-1, C)
  own = p[np.arange(len(y)), np.maximum(y, 0)]
  every = {c: np.flatnonzero(valid & (y == c)) for c in range(C) if (valid & (y == c)).any()}
  queries = np.zeros((C, *g["c_query_index"].shape[1:]), np.int32)
  keys = np.zeros((C, *g["c_negative_index"].shape[1:]), np.int32)
  hard = {c: np.flatnonzero(valid & (y == c) & (own < g["c_strong"])) for c in every}
  recorded = [c for c in every if len(hard[c])]  # a class without queries draws nothing
  for i, c in enumerate(recorded):
    queries[c] = hard[c][g["c_query_index"][i]]
    others = np.concatenate([every[d] for d in _others(every, c)])
    keys[c] = others[g["c_negative_index"][i]]
  E = np.moveaxis(g["c_rep"], 1, -1).reshape(-1, D)
  labels = np.where(y < 0, IGNORE, y).astype(np.uint8)
  picks = lambda c, *_: (jnp.asarray(queries)[c], jnp.asarray(keys)[c])
  return list(every), recorded, E, labels, valid, p, picks


def _others(present, c):
  """The other classes in the file's order: those after c, then those before."""
  return [d for d in present if d > c] + [d for d in present if d < c]


def test_shares_of_classes(g, contrast):
  present, recorded, E, y, valid, p, _ = contrast
  mu = class_sets.prototypes(E, y, valid, p.shape[1])
  is_present = np.isin(np.arange(p.shape[1]), present)
  shares = np.asarray(regional_contrast.class_shares(mu, is_present, float(g["c_temp"])))
  for i, c in enumerate(recorded):
    np.testing.assert_allclose(shares[c, _others(present, c)], g["c_class_probs"][i], rtol=1e-5)
    assert abs(shares[c].sum() - 1) < 1e-5


def test_loss_and_gradient_of_reco(g, contrast):
  *_, E, y, valid, p, picks = contrast
  options = {"strong": float(g["c_strong"]), "temperature": float(g["c_temp"])}
  run = lambda E: regional_contrast.regional_contrast(E, y, valid, p, picks, **options)[0]
  loss, gradient = jax.jit(jax.value_and_grad(run))(E)
  np.testing.assert_allclose(loss, g["c_loss"], rtol=1e-5)
  expected = np.moveaxis(g["c_grad_rep"], 1, -1).reshape(E.shape)
  np.testing.assert_allclose(gradient, expected, atol=1e-5 * np.abs(expected).max() + 1e-7)
