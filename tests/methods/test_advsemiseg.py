"""AdvSemiSeg against the authors' own losses and six iterations of their training loop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from configs import adversarial
from semiseg_jax.config import schema
from semiseg_jax.labels import IGNORE
from semiseg_jax.methods import advsemiseg
from semiseg_jax.methods.step import Step
from semiseg_jax.models.critics.discriminators import PixelDiscriminator
from semiseg_jax.models.critics.single import Single
from semiseg_jax.models.layers import Mode
from semiseg_jax.models.torch import torch_names
from semiseg_jax.ops.adversarial import mean_bce, one_hot_map
from semiseg_jax.ops.losses import cross_entropy
from semiseg_jax.ops.resize import resize_bilinear
from tests.golden_files import golden, golden_params
from tests.methods.adversarial_trajectory import Trajectory, last


@pytest.fixture(scope="module")
def g():
  return golden("advsemiseg_losses")


class Judge:
  """The golden discriminator: low logits [B,h,w,C] -> maps at full size, one network."""

  def __init__(self, g):
    self.g, self.size = g, g["label"].shape[1:]
    self.D = Single(PixelDiscriminator(), g["lab_logits"].shape[1])
    self.params, _ = golden_params(self.D)

  def up(self, x):
    return resize_bilinear(x, self.size, align_corners=True)

  def raw(self, maps, params=None):
    out, _ = self.D.decode(params or self.params, {"module": {}}, {"maps": maps}, Mode("eval"))
    return out["logits"]

  def __call__(self, maps, params=None):
    return self.up(self.raw(maps, params))[None, ..., 0]

  def of_logits(self, logits, params=None):
    return self(jax.nn.softmax(self.up(logits)), params)


@pytest.fixture(scope="module")
def judge(g):
  return Judge(g)


def _check_loss(value_and_gradient, value, gradient, rtol=1e-5):
  np.testing.assert_allclose(value_and_gradient[0], value, rtol=rtol)
  expected = last(gradient)
  np.testing.assert_allclose(value_and_gradient[1], expected, atol=1e-3 * np.abs(expected).max())


def test_supervised(g, judge):
  loss = lambda z: cross_entropy(judge.up(z)[None], jnp.asarray(g["label"])[None])[0][0]
  found = jax.jit(jax.value_and_grad(loss))(last(g["lab_logits"]))
  _check_loss(found, g["loss_seg"], g["grad_seg"])


@pytest.mark.parametrize("which", ["adv_pred", "semi_adv"])
def test_fooling_the_discriminator(g, judge, which):
  logits = last(g["lab_logits" if which == "adv_pred" else "unl_logits"])
  label = g["label"] if which == "adv_pred" else np.zeros_like(g["label"])
  loss = lambda z: mean_bce([(judge.of_logits(z), jnp.asarray(label != IGNORE))], 1)[0]
  found = jax.jit(jax.value_and_grad(loss))(logits)
  _check_loss(found, g[f"loss_{which}"], g[f"grad_{which}"])


def _unlabeled(g, judge, phase, *, compat=(), **changes):
  """The method's own function on the golden logits: loss and gradient, metrics."""
  c = schema.default()
  c.method.compat = compat
  c.method.advsemiseg.update(changes)
  inside = jnp.ones(g["label"].shape, bool)
  stream = {
    "image": np.zeros((*inside.shape, 3)),
    "label": g["label"],
    "row": np.arange(len(inside)),
  }

  def terms(z):
    s = Step(
      c,
      members={},
      params={},
      stats={},
      memory={},
      batch={"unlabeled": stream},
      sources={"unlabeled": "unlabeled"},
      key=jax.random.key(0),
      t=jnp.int32(0),
      phase=frozenset(phase),
      part=("advsemiseg", advsemiseg),
    )
    P = judge.up(z)[None]
    found = advsemiseg.on_unlabeled(c, s, P, judge.of_logits(z), inside)
    return found[0], s.metrics

  return jax.jit(jax.value_and_grad(terms, has_aux=True))(last(g["unl_logits"]))


SEMI, BOTH = ("semi",), ("adversarial", "semi")


def test_self_training(g, judge):
  T = float(g["mask_T"])
  (value, metrics), gradient = _unlabeled(g, judge, SEMI, weight_semi=1.0, threshold=T)
  kept, pixels = metrics["pseudo/kept"]
  np.testing.assert_allclose(kept / pixels, g["semi_ratio"], atol=2e-3)
  _check_loss((value, gradient), g["loss_semi"], g["grad_semi"], rtol=1e-3)
  keep = jax.nn.sigmoid(judge.of_logits(last(g["unl_logits"])))[0] >= T
  Y = np.where(keep, judge.up(last(g["unl_logits"])).argmax(-1), IGNORE)
  assert np.mean(Y != g["semi_gt"]) <= 2e-3


def test_both_terms_are_weighted_and_one_may_be_dropped(g, judge):
  adversarial = float(g["loss_semi_adv"])
  one = {"weight_unlabeled": 0.25, "weight_semi": 0.5, "threshold": float(g["mask_T"])}
  (value, _), _ = _unlabeled(g, judge, BOTH, **one)
  np.testing.assert_allclose(value, 0.25 * adversarial + 0.5 * g["loss_semi"], rtol=1e-3)
  none = one | {"threshold": 0.9999}
  (value, metrics), gradient = _unlabeled(g, judge, BOTH, **none)
  assert metrics["pseudo/kept"][0] == 0
  np.testing.assert_allclose(value, 0.25 * adversarial, rtol=1e-5)
  assert np.any(gradient)
  (value, _), gradient = _unlabeled(g, judge, BOTH, **none, compat=("drop_adversarial",))
  assert value == 0 and not np.any(gradient)


def test_the_discriminators_loss(g, judge):
  lab, unl = (last(g[f"{k}_logits"]) for k in ("lab", "unl"))
  np.testing.assert_allclose(
    judge.raw(jax.nn.softmax(judge.up(lab))), last(g["D_out_lab"]), atol=1e-5
  )
  valid, everything = jnp.asarray(g["label"] != IGNORE), jnp.ones(g["label"].shape, bool)
  truth = jnp.asarray(g["gt_label"])

  def fake(params, both=True):
    parts = [(judge.of_logits(lab, params), valid)]
    parts += [(judge.of_logits(unl, params), everything)] if both else []
    return mean_bce(parts, 0)[0] / 2

  def real(params):
    maps = one_hot_map(truth, lab.shape[-1], jnp.float32)
    return mean_bce([(judge(maps, params), truth != IGNORE)], 1)[0] / 2

  maps = np.asarray(one_hot_map(truth, lab.shape[-1], jnp.float32))
  assert maps[g["gt_label"] == IGNORE].sum() == g["onehot_ignored_sum"] == 0
  np.testing.assert_allclose(
    fake(judge.params, both=False), g["loss_D_fake_labeled_only"], rtol=1e-5
  )
  names = torch_names.network_names(judge.D)
  for which, loss in (("fake", fake), ("real", real)):
    value, gradient = jax.jit(jax.value_and_grad(loss))(judge.params)
    np.testing.assert_allclose(value, g[f"loss_D_{which}"], rtol=1e-5)
    by_name = {names[k]: v for k, v in traverse_util.flatten_dict(gradient).items()}
    norms = [np.linalg.norm(by_name[str(name)]) for name in g["D_param_names"]]
    np.testing.assert_allclose(norms, g[f"gradnorm_D_{which}"], rtol=1e-3)
    expected = g[f"grad_D_{which}_classifier_weight"]
    found = np.transpose(by_name["classifier.weight"], (3, 2, 0, 1))[:, : expected.shape[1]]
    np.testing.assert_allclose(found, expected, atol=1e-3 * np.abs(expected).max())


def test_binary_cross_entropy(g):
  z, target = (jnp.asarray(g[f"bce_{k}"][:, 0]) for k in ("logits", "target"))

  def loss(z):
    found = [mean_bce([(z[None], target == t)], t)[0] * (target == t).sum() for t in (0, 1)]
    return sum(found) / (target != IGNORE).sum()

  value, gradient = jax.value_and_grad(loss)(z)
  np.testing.assert_allclose(value, g["bce_loss"], rtol=1e-5)
  np.testing.assert_allclose(gradient, g["bce_grad"][:, 0], atol=1e-6)
  assert mean_bce([(z[None], jnp.zeros(z.shape, bool))], 1)[0] == 0


class Run(Trajectory):
  """The golden trajectory through the step that every run takes."""

  file = "advsemiseg_trajectory"

  def published(self, c, s):
    adversarial.advsemiseg(c)
    o = c.method.advsemiseg
    o.weight_labeled, o.weight_unlabeled = s["--lambda-adv-pred"], s["--lambda-semi-adv"]
    o.weight_semi, o.threshold = s["--lambda-semi"], s["--mask-T"]
    o.semi_start = int(s["--semi-start"])
    o.adversarial_start = int(s.get("--semi-start-adv", 0))
    o.learning_rate = s["--learning-rate-D"]

  def batch(self, t):
    return {
      "labeled": self.stream(t, "lab_image", "lab_label"),
      "unlabeled": self.stream(t, "unl_image", None),
      "ground_truth": self.stream(t, None, "gt_label"),
    }

  def check_losses(self, t, metrics):
    losses = {
      "loss_seg": "supervised_0",
      "loss_adv_pred": "adversarial_labeled",
      "loss_semi_adv": "adversarial_unlabeled",
      "loss_D": "discriminator",
      "loss_semi": "semi",
    }
    start = self.config.method.advsemiseg.semi_start
    for theirs, ours in losses.items():
      if ours != "semi" or t >= start:
        self.check_loss(t, theirs, metrics[ours])
    assert ("semi" in metrics) == (t >= start)
    if t >= start:
      ratio = self.expected("semi_ratio")[t - start]
      np.testing.assert_allclose(metrics["pseudo/kept"], ratio, atol=5e-3)


@pytest.mark.slow
@pytest.mark.parametrize("variant, summed", [("fixed", 0), ("dedup", 2)])
def test_trajectory(variant, summed):
  with jax.default_matmul_precision("highest"):
    Run(variant, summed).train()
