"""s4GAN against its authors' losses and iterations of their training loop, and against loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import adversarial
from semiseg_jax.config import rules, schema
from semiseg_jax.errors import ConfigError
from semiseg_jax.labels import IGNORE
from semiseg_jax.methods import s4gan
from semiseg_jax.methods.step import Step
from semiseg_jax.ops.adversarial import feature_matching, in_unit_range, mean_bce, one_hot_map
from semiseg_jax.ops.losses import cross_entropy
from tests import small_network
from tests.golden_files import golden
from tests.methods.adversarial_trajectory import Trajectory, last
from tests.methods.s4gan_loops import Twin

SELF_TRAINING = frozenset({"self_training"})


@pytest.fixture(scope="module")
def g():
  return golden("s4gan_losses")


def _step(c, streams, phase=SELF_TRAINING):
  """A Step of s4GAN without networks."""
  return Step(
    c,
    members={},
    params={},
    stats={},
    memory={},
    batch=streams,
    sources={name: "labeled" for name in streams},
    key=jax.random.key(0),
    t=jnp.int32(0),
    phase=phase,
    part=("s4gan", s4gan),
  )


def _logit(score):
  return np.log(score) - np.log1p(-score)


def _check(value, gradient, expected, expected_gradient):
  np.testing.assert_allclose(value, expected, rtol=1e-5)
  bound = 1e-4 * np.abs(expected_gradient).max()
  np.testing.assert_allclose(gradient, expected_gradient, rtol=0, atol=bound)


def _self_training(P, z, valid=None, *, phase=SELF_TRAINING, compat=(), **options):
  """The method's own function on logits [B,H,W,C] and z [B]: loss, gradient, metrics, labels."""
  c = schema.default()
  c.method.compat = compat
  c.method.s4gan.update(options)
  rows, *size = P.shape[:3]
  valid = np.array((0, 0, *size), np.int32) if valid is None else np.array(valid, np.int32)
  stream = {
    "image": np.zeros((rows, *size, 3), np.uint8),
    "label": np.zeros((rows, *size), np.uint8),
    "valid": np.tile(valid, (rows, 1)),
    "row": np.arange(rows),
  }

  def terms(P):
    s = _step(c, {"unlabeled": stream}, phase)
    loss = s4gan.self_training(c, s, P[None], z.reshape(1, -1, 1, 1))
    return loss[0], (s.metrics, s.shown)

  (value, (metrics, shown)), gradient = jax.jit(jax.value_and_grad(terms, has_aux=True))(P)
  return value, gradient, metrics, shown["pseudo 0"]


def test_whole_pictures_above_the_threshold_teach(g):
  P, z = last(g["pred_unl"]), _logit(np.float64(g["score"])).astype(np.float32)
  value, gradient, metrics, Y = _self_training(P, z, threshold=float(g["threshold"]))
  assert metrics["kept_pictures"] == (g["count"], len(P))
  np.testing.assert_allclose(metrics["score"][0], g["score"].sum(), rtol=1e-5)
  kept = g["score"][:, 0] > g["threshold"]
  np.testing.assert_array_equal(Y[kept], g["label_sel"])
  assert (Y[~kept] == IGNORE).all()
  _check(value, gradient, g["loss_st"], last(g["grad_st"]))


def test_without_a_kept_picture_nothing_is_taught(g):
  P, z = last(g["pred_unl"]), np.full(len(g["score"]), -9, np.float32)
  value, gradient, metrics, _ = _self_training(P, z)
  assert metrics["kept_pictures"][0] == value == 0 and not np.any(gradient)
  assert all(np.isfinite(x).all() for x in metrics["self_training"])


def test_before_its_start_pictures_are_counted_alone(g):
  P, z = last(g["pred_unl"]), np.full(len(g["score"]), 9, np.float32)
  value, gradient, metrics, _ = _self_training(P, z, phase=frozenset())
  assert metrics["kept_pictures"][0] == len(P)
  assert value == 0 and not np.any(gradient) and "self_training" not in metrics


def test_a_score_of_just_the_threshold_is_not_enough():
  P = np.random.default_rng(0).normal(size=(2, 4, 4, 3)).astype(np.float32)
  *_, metrics, _ = _self_training(P, np.zeros(2, np.float32), threshold=0.5)
  assert metrics["kept_pictures"][0] == 0


def test_padding_teaches_by_a_quirk_alone(g):
  P, z = last(g["pred_unl"]), np.full(len(g["score"]), 9, np.float32)
  height, width = P.shape[1:3]
  valid = (2, 0, height, width - 3)
  inside = np.zeros((height, width), bool)
  inside[valid[0] : valid[2], valid[1] : valid[3]] = True
  e = P.astype(np.float64) - P.max(-1, keepdims=True)
  pixel = np.log(np.exp(e).sum(-1))
  for compat, used in (((), inside), (("unlabeled_padding",), np.ones_like(inside))):
    value, gradient, _, Y = _self_training(P, z, valid, compat=compat)
    np.testing.assert_allclose(value, pixel[:, used].mean(), rtol=1e-5)
    assert (np.asarray(Y) != IGNORE).all(0).tolist() == used.tolist()
    assert np.any(gradient, (0, 3)).tolist() == used.tolist()


def test_cross_entropy_and_the_sum(g):
  P, y = last(g["pred_lab"]), jnp.asarray(g["label"])
  found = jax.jit(jax.value_and_grad(lambda P: cross_entropy(P[None], y[None])[0][0]))(P)
  _check(*found, g["loss_ce"], last(g["grad_ce"]))
  o = schema.default().method.s4gan
  total = g["loss_ce"] + o.weight_matching * g["loss_fm"] + o.weight_self_training * g["loss_st"]
  np.testing.assert_allclose(total, g["loss_S"], rtol=1e-6)
  classes = P.shape[-1]
  maps = one_hot_map(y, classes, jnp.float32)
  np.testing.assert_array_equal(maps.sum((1, 2)), g["onehot_sum"])


def test_matching_features(g):
  maps = {name: last(g[f"feat_{name}"])[None] for name in ("real", "fake")}
  loss = lambda fake: feature_matching(maps["real"], fake)[0]
  value, gradient = jax.jit(jax.value_and_grad(loss))(maps["fake"])
  _check(value, gradient[0], g["loss_fm"], last(g["grad_fm"]))


def test_the_discriminators_loss(g):
  scores = {name: np.float64(g[name][:, 0]) for name in ("score", "score_real")}
  z = {name: _logit(p).astype(np.float32).reshape(1, -1, 1, 1) for name, p in scores.items()}
  everywhere = jnp.ones(z["score"].shape[1:], bool)

  def loss(fake, real):
    terms = ((fake, 0), (real, 1))
    return sum(mean_bce([(z, everywhere)], target)[0] for z, target in terms) / 2

  value, gradients = jax.value_and_grad(loss, (0, 1))(z["score"], z["score_real"])
  for gradient, name, p in zip(gradients, ("fake", "real"), scores.values()):
    by_score = gradient.ravel() / (p * (1 - p))  # the file's are with respect to the probability
    _check(value, by_score, g["loss_D"], g[f"grad_D_{name}"][:, 0])


def test_pictures_in_the_unit_range(g):
  x, measured = last(g["image"]), last(g["image_ce"])
  for name, of in (("image_norm", x), ("image_real_norm_reference", measured)):
    found = in_unit_range(x, x.min(), of.max() - of.min())
    np.testing.assert_allclose(found, last(g[name]), rtol=0, atol=1e-6)
  assert not np.any(in_unit_range(jnp.ones(3), 1.0, jnp.zeros(())))


class GivenDropout(Step):
  """A Step in which the discriminator's masks are fields of a stream, `keep1` [B,pass,C], ..."""

  def _dropout(self, net, streams, bn, grad, given, whole=True):
    if net != "discriminator":
      return super()._dropout(net, streams, bn, grad, given, whole)
    found = {}
    for name in streams:
      n = self._drawn.get((net, name), 0)
      self._drawn[net, name] = n + 1
      keep = {k[4:]: x[:, n] for k, x in self._batch[name].items() if k.startswith("keep")}
      found[name] = {
        f"drop{i}": jnp.stack([k[:, None, None].astype(bool)] * self.copies(net))
        for i, k in keep.items()
      }
    return found


class Run(Trajectory):
  """The golden trajectory through the step that every run takes."""

  file = "s4gan_trajectory"
  scores = ()

  def published(self, c, s):
    adversarial.s4gan(c)
    c.method.compat = s4gan.COMPAT if self.variant == "reference" else ()
    o = c.method.s4gan
    o.threshold, o.learning_rate = s["--threshold-st"], s["--learning-rate-D"]
    o.weight_matching, o.weight_self_training = s["--lambda-fm"], s["--lambda-st"]

  def batch(self, t):
    streams = {
      "labeled": self.stream(t, "lab_image", "lab_label"),
      "unlabeled": self.stream(t, "unl_image", None),
      "real": self.stream(t, "gt_image", "gt_label"),
    }
    for name, passes in (("unlabeled", (0, 2)), ("real", (1, 3))):
      masks = {f"keep{i}": self.g[f"keep{i}"][t, passes].swapaxes(0, 1) for i in (1, 2, 3)}
      streams[name] |= masks
    return streams

  def check_losses(self, t, metrics):
    losses = {
      "loss_ce": "supervised_0",
      "loss_fm": "feature_matching",
      "loss_st": "self_training",
      "loss_D_fake": "discriminator_0",
      "loss_D_real": "discriminator_1",
    }
    for theirs, ours in losses.items():
      self.check_loss(t, theirs, metrics.get(ours, 0.0))
    assert ("self_training" in metrics) == (t > 0)
    o = self.config.method.s4gan
    L_S = metrics["supervised_0"] + o.weight_matching * metrics["feature_matching"]
    L_S += o.weight_self_training * metrics.get("self_training", 0.0)
    self.check_loss(t, "loss_S", L_S)
    L_D = (metrics["discriminator_0"] + metrics["discriminator_1"]) / 2
    np.testing.assert_allclose(metrics["loss"], L_S + L_D, rtol=1e-5)
    count, scores = self.expected("count")[t], self.expected("score_unl")[t]
    assert round(metrics["kept_pictures"] * len(scores)) == count
    np.testing.assert_allclose(self.scores, scores[:, 0], rtol=1e-3 if t < 3 else 5e-3)


@pytest.mark.slow
@pytest.mark.parametrize("variant, summed", [("fixed", 0), ("reference", 2)])
def test_trajectory(variant, summed, monkeypatch):
  def seen(c, s, P, z, plain=s4gan.self_training):
    jax.debug.callback(lambda p: setattr(Run, "scores", p), jax.nn.sigmoid(z)[0, :, 0, 0])
    return plain(c, s, P, z)

  monkeypatch.setattr(s4gan, "self_training", seen)
  monkeypatch.setattr("semiseg_jax.methods.method.Step", GivenDropout)
  with jax.default_matmul_precision("highest"):
    Run(variant, summed).train()


CLASSES, ROWS, SIZE, WIDTHS = 4, 3, (16, 12), (3, 4, 5)
# Title -> (keys of `method`, keys of `method.s4gan`).
CASES = {
  "default": ({}, {}),
  "data": ({}, {"picture_range": "data", "weight_matching": 0.0}),
  "quirks": ({"compat": s4gan.COMPAT}, {"weight_self_training": 2.0}),
}


def _config(changes, options):
  c = schema.default()
  c.data.mean, c.data.std = tuple(small_network.MEAN), tuple(small_network.STD)
  c.method.update({"name": "s4gan", "networks": 2, **changes})
  c.method.s4gan.update({"widths": WIDTHS, "weight_matching": 1.5, **options})
  return c


def _batch():
  b = small_network.batch(
    ("labeled", "unlabeled", "real"), size=SIZE, rows=ROWS, classes=CLASSES, valid=(1, 0, 16, 10)
  )
  rng = np.random.default_rng(5)
  for name in ("labeled", "real"):
    b[name]["label"][0, :3] = IGNORE
  for name in ("unlabeled", "real"):
    for i, width in enumerate(WIDTHS[:-1], 1):
      b[name][f"keep{i}"] = rng.random((ROWS, 2, width)) < 0.6
  return b


def _along(twin, name, direction, k, loss):
  """The change of a loss per step of the parameters of a stack along a direction, in float64."""
  base, values = twin.params[name], []
  for step in (1e-6, -1e-6):
    move = lambda x, v, step=step: x + step * v[k]
    twin.params[name] = jax.tree.map(move, base, direction)
    values.append(loss())
  twin.params[name] = base
  return (values[0] - values[1]) / 2e-6


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_losses_gradients_and_statistics(case, monkeypatch):
  monkeypatch.setattr("semiseg_jax.methods.method.Step", GivenDropout)
  c, b = _config(*CASES[case]), _batch()
  method = small_network.method(c, classes=CLASSES)
  params, stats = small_network.variables(method)
  twins = [Twin(c, params, stats, b, k) for k in range(2)]
  for twin in twins:
    twin.segmentation_loss()
  scores = np.sort([twin.scores for twin in twins], axis=None)
  c.method.s4gan.threshold = float(scores[1:3].mean())  # two of six pictures are left out
  args = (params, stats, {}, b, jax.random.key(0), 1, SELF_TRAINING)
  run = jax.jit(jax.value_and_grad(method.loss, has_aux=True), static_argnums=6)
  (total, out), gradient = run(*args)
  expected = sum(twin.segmentation_loss() + twin.discriminator_loss() for twin in twins)
  np.testing.assert_allclose(total, expected, rtol=1e-4)
  both = {
    "supervised_0": twins[0].L_ce,
    "feature_matching": np.mean([twin.L_fm for twin in twins]),
    "self_training": np.mean([twin.L_st for twin in twins]),
    "discriminator_0": np.mean([twin.L_D[0] for twin in twins]),
    "discriminator_1": np.mean([twin.L_D[1] for twin in twins]),
    "kept_pictures": 4 / 6,
    "score": scores.mean(),
  }
  for name, value in both.items():
    np.testing.assert_allclose(np.divide(*out.metrics[name]), value, rtol=1e-4, err_msg=name)
  moved = jax.tree.map(lambda *x: np.stack(x), *(twin.stats for twin in twins))
  small_network.close(out.stats, moved, rtol=1e-4, atol=1e-5)
  rng = np.random.default_rng(1)
  direction = jax.tree.map(lambda x: rng.normal(size=x.shape), params)
  for k, twin in enumerate(twins):
    for name, loss in (
      ("networks", twin.segmentation_loss),
      ("discriminator", twin.discriminator_loss),
    ):
      slope = sum(
        (np.float64(d[k]) * v[k]).sum()
        for d, v in zip(jax.tree.leaves(gradient[name]), jax.tree.leaves(direction[name]))
      )
      found = _along(twin, name, direction[name], k, loss)
      np.testing.assert_allclose(slope, found, rtol=2e-3, err_msg=name)


def test_each_of_the_four_passes_drops_other_channels(monkeypatch):
  c = _config({"networks": 1}, {"dropout": 0.5, "widths": (16, 16)})
  method, drawn = small_network.method(c, classes=CLASSES), []

  def given(self, net, streams, *args, plain=Step._dropout, **options):
    keys = plain(self, net, streams, *args, **options)
    drawn.extend(jax.random.key_data(k) for k in keys.values() if net == "discriminator")
    return keys

  monkeypatch.setattr(Step, "_dropout", given)
  params, stats = small_network.variables(method)
  b = {name: {k: x for k, x in f.items() if "keep" not in k} for name, f in _batch().items()}

  def keys(key):
    drawn.clear()
    method.loss(params, stats, {}, b, key, 1, SELF_TRAINING)
    return list(drawn)

  found = np.concatenate(jax.jit(keys)(jax.random.key(0)))
  assert found.shape[0] == 4 * ROWS and len(np.unique(found, axis=0)) == 4 * ROWS


def test_real_pictures_are_shuffled_on_their_own():
  labeled, unlabeled, real = s4gan.streams(schema.default())
  assert (labeled.source, unlabeled.source, real.source) == ("labeled", "unlabeled", "labeled")
  assert labeled.order != real.order and labeled.batch == real.batch


def test_when_own_labels_teach():
  c = _config({}, {})
  assert [s4gan.phase(c, t) for t in (0, 1)] == [frozenset(), SELF_TRAINING]
  c.method.s4gan.self_training_start = 7
  assert [s4gan.phase(c, t) for t in (6, 7)] == [frozenset(), SELF_TRAINING]
  c.method.s4gan.weight_self_training = 0.0
  assert s4gan.phase(c, 7) == frozenset()


@pytest.mark.parametrize(
  "changes, options, words",
  [
    ({"compat": ("any",)}, {}, "s4gan' knows labeled_extent, unlabeled_padding"),
    ({"compat": ("labeled_extent",)}, {"picture_range": "data"}, "'labeled_extent' needs"),
    ({}, {"picture_range": "image"}, "picture_range='image': one of 'batch', 'data'"),
    ({}, {"widths": (2,) * 7}, "data.crop=.64, 64.: .* 7 .*widths halves it; 128 or more"),
    ({}, {"threshold": 1.0}, "threshold=1.0: a number, 0 or more, below 1"),
  ],
)
def test_impossible_options(changes, options, words):
  c = _config(changes, options)
  c.data.root, c.data.labeled, c.data.crop, c.train.steps = "data/any", "labeled", (64, 64), 9
  with pytest.raises(ConfigError, match=words):
    rules.validate(c)
