"""Losses against the golden files and against plain numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semiseg_jax.methods.cps import pseudo_labels
from semiseg_jax.ops.losses import (
  annealed_threshold,
  bootstrapped_cross_entropy,
  cross_entropy,
  cross_pseudo_pool,
  mean_of_pools,
  ohem_keep,
  supervised_loss,
)
from tests.golden_files import golden


def _logits(case, *names):
  return jnp.stack([jnp.asarray(case[n].transpose(0, 2, 3, 1)) for n in names])


def _numpy_nll(logits, labels):
  z = logits - logits.max(-1, keepdims=True)
  log_p = z - np.log(np.exp(z).sum(-1, keepdims=True))
  return -np.take_along_axis(log_p, np.where(labels == 255, 0, labels)[..., None], -1)[..., 0]


def test_golden_cases():
  arrays = golden("cps_losses")
  names = sorted({key.split("/")[0] for key in arrays})
  for name in names:
    case = {k.split("/", 1)[1]: v for k, v in arrays.items() if k.startswith(name + "/")}
    _check_case(name, case)


def _check_case(name, case):
  y = jnp.asarray(case["labels"])
  ohem = "ohem_min_kept" in case
  y2 = jnp.broadcast_to(y[None], (2, *y.shape))

  def total(sup, unsup):
    keep = None
    if ohem:
      keep = ohem_keep(
        sup,
        y2,
        threshold=float(case["ohem_thresh"]),
        min_kept=int(case["ohem_min_kept"]),
        group=0,
      )
    supervised, kept = cross_entropy(sup, y2, keep=keep)
    P = jnp.concatenate([sup, unsup], axis=1)
    cps = mean_of_pools([cross_pseudo_pool(x, pseudo_labels(x)) for x in (sup, unsup)])
    loss = supervised.sum() + float(case["cps_weight"]) * cps
    return loss, (supervised, kept, cps, pseudo_labels(P))

  sup, unsup = _logits(case, "sup_l", "sup_r"), _logits(case, "unsup_l", "unsup_r")
  (loss, (supervised, kept, cps, pseudo)), grads = jax.value_and_grad(
    total, argnums=(0, 1), has_aux=True
  )(sup, unsup)
  found = {
    "total": loss,
    "loss_sup_l": supervised[0],
    "loss_sup_r": supervised[1],
    "cps_unweighted": cps,
  }
  for key, value in found.items():
    np.testing.assert_allclose(value, case[key], rtol=1e-5, err_msg=f"{name} {key}")
  np.testing.assert_array_equal(pseudo[0], case["pseudo_l"])
  np.testing.assert_array_equal(pseudo[1], case["pseudo_r"])
  plain, count = cross_entropy(sup, y2)
  np.testing.assert_allclose(plain, [case["ce_plain_l"], case["ce_plain_r"]], rtol=1e-5)
  assert count.tolist() == [int(case["num_valid"])] * 2
  if ohem:
    assert kept.tolist() == [int(case["kept_sup_l"]), int(case["kept_sup_r"])]
  for grad, part in zip(grads, ("sup", "unsup")):
    for k, side in enumerate("lr"):
      golden_grad = case[f"grad_{part}_{side}"].transpose(0, 2, 3, 1)
      np.testing.assert_allclose(grad[k], golden_grad, atol=1e-6, rtol=0, err_msg=f"{name} {side}")


def _random(seed=0, n=2, b=4, h=5, w=6, c=7, ignored=0.3):
  rng = np.random.default_rng(seed)
  labels = rng.integers(0, c, (b, h, w)).astype(np.uint8)
  labels[rng.random((b, h, w)) < ignored] = 255
  return rng.normal(size=(n, b, h, w, c)).astype(np.float32), labels


def test_cross_pseudo_supervision_of_three_networks_against_numpy():
  P, _ = _random(n=3, b=2)
  Y = P.argmax(-1)
  Y[1, 0, :2] = 255  # another number of pixels per network
  pool = cross_pseudo_pool(jnp.asarray(P), jnp.asarray(Y, jnp.uint8))
  assert pool[0].shape == pool[1].shape == (2, 3, 1)
  expected = 0
  for k in range(3):
    for shift in (1, 2):
      labels = Y[(k + shift) % 3]
      nll = _numpy_nll(P[k], labels)[labels != 255]
      np.testing.assert_allclose(pool[0][shift - 1, k], nll.sum(), rtol=1e-5)
      assert pool[1][shift - 1, k] == len(nll.ravel())
      expected += nll.mean()
  np.testing.assert_allclose(mean_of_pools([pool]), expected, rtol=1e-5)


def test_pools_join_pixel_by_pixel_in_each_group():
  """Not mean by mean; a group without pixels counts 0."""
  rng = np.random.default_rng(0)
  sums, counts = rng.random((2, 5, 3)).astype(np.float32), rng.integers(1, 9, (2, 5, 3))
  counts[:, 0, 1] = sums[:, 0, 1] = 0
  found = mean_of_pools(list(zip(jnp.asarray(sums), jnp.asarray(counts))))
  expected = sum(
    np.mean([sums[:, k, g].sum() / max(counts[:, k, g].sum(), 1) for g in range(3)])
    for k in range(5)
  )
  np.testing.assert_allclose(found, expected, rtol=1e-6)


OHEM = {"ohem_threshold": 0.7, "ohem_kept_fraction": 50_000 / (800 * 800)}


@pytest.mark.parametrize("group", [0, 1, 2])
def test_group_means_against_numpy(group):
  logits, labels = _random()
  found, count = supervised_loss(
    jnp.asarray(logits), jnp.asarray(labels), kind="ce", group=group, **OHEM
  )
  k = group or 4
  for n in range(2):
    nll = _numpy_nll(logits[n], labels)
    means = [nll[i : i + k][labels[i : i + k] != 255].mean() for i in range(0, 4, k)]
    np.testing.assert_allclose(found[n], np.mean(means), rtol=1e-5)
  assert count.tolist() == [(labels != 255).sum()] * 2


def test_ohem_per_image_against_numpy():
  logits, labels = _random(seed=1)
  keep = ohem_keep(
    jnp.asarray(logits),
    jnp.asarray(np.broadcast_to(labels, (2, *labels.shape))),
    threshold=0.2,
    min_kept=12,
    group=1,
  )
  for n in range(2):
    for b in range(4):
      p = np.exp(-_numpy_nll(logits[n, b], labels[b]))
      valid = labels[b] != 255
      tau = max(0.2, np.sort(np.where(valid, p, 1).ravel())[11])
      np.testing.assert_array_equal(keep[n, b], valid & (p <= tau))


def test_nothing_valid_gives_zero_and_a_finite_gradient():
  logits, labels = _random()
  labels[:] = 255
  for kind in ("ce", "ohem"):
    value, grad = jax.value_and_grad(
      lambda x, kind=kind: supervised_loss(x, jnp.asarray(labels), kind=kind, group=0, **OHEM)[
        0
      ].sum()
    )(jnp.asarray(logits))
    assert value == 0 and (np.asarray(grad) == 0).all()


def test_errors_name_the_key():
  logits, labels = _random()
  with pytest.raises(ValueError, match="supervised_loss"):
    supervised_loss(jnp.asarray(logits), jnp.asarray(labels), kind="hinge", group=0, **OHEM)
  with pytest.raises(ValueError, match="loss_group=3"):
    supervised_loss(jnp.asarray(logits), jnp.asarray(labels), kind="ce", group=3, **OHEM)


def _number_of_hard_pixels(logits, labels, threshold):
  """Valid pixels whose class is less probable than max(threshold, the (B+1)-th smallest)."""
  p = np.sort(np.exp(-_numpy_nll(logits, labels))[labels != 255])
  return (p < max(threshold, p[len(labels)])).sum()


def test_annealed_cross_entropy_of_cct():
  g = golden("cct_perturbations")
  logits, labels = np.moveaxis(g["l_inputs"], 1, -1)[None], g["l_abce_target"]
  assert (labels == 255).any() and len(g["l_abce_epoch_iter_thresh_loss"])
  run = jax.jit(bootstrapped_cross_entropy)
  for epoch, t, expected, loss in g["l_abce_epoch_iter_thresh_loss"]:
    threshold = annealed_threshold(10 * epoch + t, round(0.4 * 8 * 10), logits.shape[-1])
    np.testing.assert_allclose(threshold, expected, rtol=1e-5)
    found, pixels = run(logits, labels, threshold)
    np.testing.assert_allclose(found, [loss], rtol=1e-5)
    assert pixels.tolist() == [_number_of_hard_pixels(logits[0], labels, expected)]
  at_half = cross_entropy(logits / 2, jnp.asarray(labels)[None])[0]
  np.testing.assert_allclose(at_half, [g["l_ce_temp2"]], rtol=1e-5)


def test_annealed_cross_entropy_by_hand():
  """Below a low threshold the hardest pixels stay, one of each picture of a group."""
  p = np.array([[[0.05, 0.2, 0.3, 0.4]], [[0.1, 0.6, 0.7, 0.8]]])  # of class 0
  logits = np.stack([np.log(p), np.log(1 - p)], -1)[None].astype(np.float32)
  labels = np.zeros((2, 1, 4), np.uint8)
  nll = -np.log(p)
  hard = {0: [nll[0, 0, :1].tolist() + nll[1, 0, :1].tolist()], 1: [nll[0, 0, :1], nll[1, 0, :1]]}
  for group, groups in hard.items():
    found, pixels = bootstrapped_cross_entropy(logits, labels, 0.01, group=group)
    np.testing.assert_allclose(found, [np.mean([np.mean(x) for x in groups])], rtol=1e-5)
    assert pixels[0] == 2
  labels[:] = 255
  found, pixels = bootstrapped_cross_entropy(logits, labels, 0.9)
  assert found[0] == pixels[0] == 0
