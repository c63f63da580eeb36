"""AdvSemiSeg against the authors' own losses and six iterations of their training loop."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from configs import networks, presets
from semiseg_jax import sharding
from semiseg_jax.config import schema
from semiseg_jax.labels import IGNORE
from semiseg_jax.methods import advsemiseg
from semiseg_jax.methods import method as methods
from semiseg_jax.methods.step import Step
from semiseg_jax.models.critics.discriminators import PixelDiscriminator
from semiseg_jax.models.critics.single import Single
from semiseg_jax.models.layers import Mode
from semiseg_jax.models.torch import torch_names
from semiseg_jax.ops.adversarial import mean_bce, one_hot_map
from semiseg_jax.ops.losses import cross_entropy
from semiseg_jax.ops.resize import resize_bilinear
from semiseg_jax.state import TrainState
from semiseg_jax.training import experiment
from semiseg_jax.training.train_step import make_train_step
from tests.golden_files import golden, golden_params, golden_path

last = lambda x: np.moveaxis(x, -3, -1)


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


# The authors' options that the file's list may leave out.
DEFAULTS = {
  "--momentum": 0.9,
  "--weight-decay": 0.0005,
  "--power": 0.9,
  "--semi-start-adv": 0,
}


class Run:
  """The golden trajectory through the step that every run takes."""

  def __init__(self, g, variant, summed):
    self.g, self.variant = g, variant
    words = [str(x) for x in g["settings"]]
    s = DEFAULTS | {name: float(x) for name, x in zip(words[::2], words[1::2])}
    c = schema.default()
    networks.choose(c.model, "advsemiseg", 101)
    presets.augment_advsemiseg(c, published=True)
    presets.adversarial(c)
    c.model.deeplabv2.summed = summed
    o = c.method.advsemiseg
    o.weight_labeled, o.weight_unlabeled = s["--lambda-adv-pred"], s["--lambda-semi-adv"]
    o.weight_semi, o.threshold = s["--lambda-semi"], s["--mask-T"]
    o.semi_start, o.adversarial_start = int(s["--semi-start"]), int(s["--semi-start-adv"])
    o.learning_rate = s["--learning-rate-D"]
    c.optimizer.learning_rate = s["--learning-rate"]
    c.optimizer.power, c.optimizer.momentum = s["--power"], s["--momentum"]
    c.optimizer.weight_decay, c.optimizer.decayed = s["--weight-decay"], "all"
    c.optimizer.head_multiplier, c.optimizer.frozen_norms = 10.0, True
    c.train.steps = int(s["--num-steps"])
    self.config, self.method = c, self._method(c)
    golden_of = {name: golden_params(k.network) for name, k in self.method.stacks.items()}
    stacked = lambda i: {k: jax.tree.map(lambda x: x[None], v[i]) for k, v in golden_of.items()}
    optimizer = experiment.make_optimizer(c, self.method)
    params, stats = stacked(0), stacked(1)
    opt_state = optimizer.init(params)
    state = TrainState(jnp.zeros((), jnp.int32), params, stats, {}, opt_state)
    placed = sharding.replicated(sharding.make_mesh())  # from the start: else it compiles twice
    self.state = jax.device_put(state, placed)
    self.initial = self.tensors()
    plain = make_train_step(self.method, optimizer, seed=0, accumulate=1)
    self.step = jax.jit(plain, static_argnums=2, out_shardings=(placed, placed))

  def _method(self, c):
    """On the network of the file: one block in each layer."""
    names = [str(name) for name in self.g[f"{self.variant}/G_names"]]
    depth = 1 + max(int(name.split(".")[1]) for name in names if name.startswith("layer3."))
    (kind,) = experiment.architectures(c, classes=self._classes(), channels=3)
    encoder = kind.network.encoder.clone(depths=(depth,) * 4)
    network = dataclasses.replace(kind.network, encoder=encoder)
    family = [dataclasses.replace(kind, network=network)]
    return methods.assemble(c, sharding.make_mesh(), family)

  def _classes(self):
    text = golden_path("advsemiseg_trajectory.params.json").read_text()
    return json.loads(text)["segmentation_network"]["layer5.conv2d_list.0.bias"][0]

  def batch(self, t):
    streams = {
      "labeled": ("lab_image", "lab_label"),
      "unlabeled": ("unl_image", None),
      "ground_truth": (None, "gt_label"),
    }
    batch = {}
    for name, (image, label) in streams.items():
      shape = self.g["gt_label"][t].shape
      batch[name] = {
        "image": last(self.g[image][t]) if image else np.zeros((*shape, 3), np.uint8),
        "label": self.g[label][t] if label else np.full(shape, IGNORE, np.uint8),
        "valid": np.tile(np.array([0, 0, *shape[1:]], np.int32), (shape[0], 1)),
        "index": np.arange(shape[0], dtype=np.int32),
      }
    return batch

  def tensors(self):
    """{'G' or 'D': {name in the reference: value}}."""
    found = {}
    for key, name in (("G", "networks"), ("D", "discriminator")):
      trees = (self.state.params[name], self.state.stats[name])
      names = torch_names.network_names(self.method.stacks[name].network)
      flat = {k: v for tree in trees for k, v in traverse_util.flatten_dict(tree).items()}
      found[key] = {names[k]: np.asarray(v[0], np.float64) for k, v in flat.items()}
    return found

  def train(self):
    for t in range(self.config.train.steps):
      self.state, metrics = self.step(self.state, self.batch(t), self.method.phase(t))
      self.check(t, {k: float(s / n) for k, (s, n) in metrics.items() if np.size(s) == 1})

  def check(self, t, metrics):
    expected = lambda name: self.g[f"{self.variant}/{name}"]
    bound = 1e-3 if t < 3 else 5e-3
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
        np.testing.assert_allclose(metrics[ours], expected(theirs)[t], rtol=bound, err_msg=ours)
    assert ("semi" in metrics) == (t >= start)
    if t >= start:
      np.testing.assert_allclose(
        metrics["pseudo/kept"], expected("semi_ratio")[t - start], atol=5e-3
      )
    moved, off = self.tensors(), []
    for key in ("G", "D"):
      for name, sums in zip(expected(f"{key}_names"), expected(f"{key}_checksums")[t]):
        now, before = moved[key][str(name)], self.initial[key][str(name)]
        update = np.linalg.norm(now - before)
        if sums[3] == 0:
          assert update == 0, f"{name} must not move"
        elif sums[3] > 1e-4:
          off.append(abs(update / sums[3] - 1))
          assert off[-1] < 1e-2, (t, str(name), update, sums[3])
    assert np.median(off) < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("variant, summed", [("fixed", 0), ("dedup", 2)])
def test_trajectory(variant, summed):
  with jax.default_matmul_precision("highest"):
    Run(golden("advsemiseg_trajectory"), variant, summed).train()
