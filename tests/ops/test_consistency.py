"""Averages, decays and distances of mean teachers against PixelSSL's own code, and in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semiseg_jax.ops.consistency import (
  cosine_distance,
  ema,
  ema_decay,
  pixel_distance,
  soft_distance,
  spread,
)
from semiseg_jax.training import optimizers
from tests.golden_files import golden, golden_tensor, published_shapes


@pytest.fixture(scope="module")
def g():
  return golden("mean_teacher")


def _limits(g):
  return [name.removeprefix("ema_decay_") for name in g if name.startswith("ema_decay_")]


def test_the_average_follows_the_student(g):
  shapes = published_shapes("mean_teacher")
  names = [str(name) for name in g["ema_param_names"]]
  student = lambda t: {name: golden_tensor(f"step{t}.{name}", shapes[name]) for name in names}
  assert _limits(g)
  for limit in _limits(g):
    teacher = {name: golden_tensor(name, shapes[name]) for name in names}
    for t, expected in enumerate(g[f"ema_{limit}"]):
      teacher = ema(teacher, student(t), ema_decay(t, float(limit)))
      found = np.concatenate([np.ravel(teacher[name]) for name in names])
      np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)
      if t == 0:
        first = np.concatenate([np.ravel(student(0)[name]) for name in names])
        np.testing.assert_array_equal(found, first)


def test_decays(g):
  for limit in _limits(g):
    found = [ema_decay(t, float(limit)) for t in g["ema_steps"]]
    np.testing.assert_allclose(found, g[f"ema_decay_{limit}"], rtol=1e-5)
    assert found[0].dtype == jnp.float32


def test_schedule(g):
  count = len(g["poly_lr"])
  lr = [optimizers.poly(g["poly_lr"][0], 0.9, count, t) for t in range(count)]
  np.testing.assert_allclose(lr, g["poly_lr"], rtol=1e-9)


@pytest.mark.parametrize(
  "kind, which", [("logit_mse", "unlabeled"), ("logit_mse", "all"), ("prob_mse", "prob_unlabeled")]
)
def test_distances_and_their_gradients(g, kind, which):
  first = 0 if which == "all" else int(g["labeled_batch"])
  student, teacher = (np.moveaxis(g[f"{who}_logits"], 1, -1) for who in ("student", "teacher"))
  loss = lambda s, t: pixel_distance(s[first:], t[first:], kind).mean()
  value, (to_student, to_teacher) = jax.value_and_grad(loss, (0, 1))(student, teacher)
  np.testing.assert_allclose(value, g[f"cons_{which}"], rtol=1e-5)
  expected = np.moveaxis(g[f"grad_cons_{which}"], 1, -1)
  np.testing.assert_allclose(to_student, expected, rtol=1e-4, atol=1e-5 * abs(expected).max())
  assert not np.any(to_teacher)


def test_the_sum_over_classes_is_c_times_the_mean():
  rng = np.random.default_rng(0)
  student, teacher = rng.normal(size=(2, 3, 4, 5)).astype(np.float32)
  np.testing.assert_allclose(
    pixel_distance(student, teacher, "prob_sse"),
    5 * pixel_distance(student, teacher, "prob_mse"),
    rtol=1e-5,
  )


def test_cosine_distance_by_hand():
  student = jnp.array([[3.0, 4.0], [1.0, 0.0], [-2.0, 0.0], [0.0, 0.0]])
  teacher = jnp.array([[8.0, 6.0], [0.0, 5.0], [3.0, 0.0], [1.0, 1.0]])
  np.testing.assert_allclose(cosine_distance(student, teacher), [0.04, 1, 2, 1], atol=1e-6)
  run = jax.grad(lambda s, t: cosine_distance(s, t).sum(), argnums=(0, 1))
  to_student, to_teacher = run(student, teacher)
  assert np.isfinite(to_student).all() and not np.any(to_teacher)
  # d(1 - cos) / ds = -(t / |t| - cos s / |s|) / |s|
  np.testing.assert_allclose(to_student[0], [-(0.8 - 0.96 * 0.6) / 5, -(0.6 - 0.96 * 0.8) / 5],
                             rtol=1e-4)  # fmt: skip


def test_js_is_the_textbook_one_and_finite_where_a_class_is_impossible():
  rng = np.random.default_rng(1)
  logits = rng.normal(size=(6, 5)).astype(np.float32)
  q = rng.dirichlet(np.ones(5), 6).astype(np.float32)
  q[0] = (1, 0, 0, 0, 0)
  p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
  m = (p + q) / 2
  kl = lambda a, b: np.where(a > 0, a * np.log(np.where(a > 0, a, 1) / b), 0).mean(-1)
  np.testing.assert_allclose(
    soft_distance(logits, q, "js"), (kl(p, m) + kl(q, m)) / 2, rtol=1e-4, atol=1e-7
  )
  gradient = jax.grad(lambda x: soft_distance(x, q, "js").sum())(jnp.asarray(logits))
  assert np.isfinite(gradient).all() and np.abs(gradient).max() > 1e-3
  with pytest.raises(ValueError, match="'l1': 'mse', 'kl', 'js' or 'js_reversed'"):
    soft_distance(logits, q, "l1")


def test_cosine_distance_of_mlmt():
  g = golden("s4gan_losses")
  student, teacher = g["mlmt_student_logits"], g["mlmt_teacher_logits"]
  loss = lambda s, t: cosine_distance(s, t).mean()
  value, found = jax.jit(jax.value_and_grad(loss, (0, 1)))(student, teacher)
  np.testing.assert_allclose(value, g["mlmt_cosine_loss"], rtol=1e-5)
  expected = g["mlmt_cosine_grad"]
  np.testing.assert_allclose(found[0], expected, rtol=0, atol=1e-4 * np.abs(expected).max())
  assert not found[1].any()


def test_pairwise_term_of_cct():
  g = golden("cct_perturbations")
  x, order = g["l_inputs"], g["l_pairwise_perm"]
  # Of seven outputs made so, the first five of the order.
  outputs = [x + 0.3 * j * np.roll(x, j + 1, axis=-1) for j in range(len(order))]
  P = jax.nn.softmax(jnp.stack([np.moveaxis(outputs[j], 1, -1) for j in order[:5]]))
  found = spread(P.sum(0), jnp.square(P).sum(0), 5).mean()
  np.testing.assert_allclose(found, g["l_pairwise"], rtol=1e-5)
