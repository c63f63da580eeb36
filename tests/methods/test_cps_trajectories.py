"""Eight training steps of two ResNet-50 branches against the reference's own code."""

import functools
import gc
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from semiseg_jax import sharding
from semiseg_jax.config import schema
from semiseg_jax.models.torch import torch_names
from semiseg_jax.state import TrainState
from semiseg_jax.training import experiment, optimizers
from semiseg_jax.training.train_step import make_train_step
from tests.golden_files import golden, golden_params
from tests.methods import given_masks

pytestmark = pytest.mark.slow

LOSS_BOUNDS = (1e-5, 2e-4, 2e-3, 4e-3, 1e-2, 2e-2, 3e-2, 3e-2)


@pytest.fixture(scope="module")
def branches():
  """Returns network -> the first variables of both branches; drawn once, they take seconds."""

  @functools.cache
  def drawn(network):
    found = [golden_params(network, f"branch{k}.", damp_bn3=True) for k in (1, 2)]
    return jax.tree.map(lambda *x: np.stack(x), *found)

  return drawn


@pytest.mark.parametrize("name", ["cps_trajectory", "cps_cutmix_trajectory"])
def test_trajectory(name, branches, monkeypatch):
  gc.collect()  # what is left of the run before: states of gigabytes
  given_masks.use(monkeypatch)
  g = golden(name)
  hparams = json.loads(str(g["hparams"]))
  with jax.default_matmul_precision("highest"):
    run = _Run(g, hparams, branches, cutmix="masks_u8" in g)
    run.train()
  run.check_first_gradient()
  run.check()


class _Run:
  def __init__(self, g, hparams, branches, cutmix):
    self.g, self.hparams = g, hparams
    c = schema.default()
    c.method.cutmix = cutmix
    c.method.weight = float(hparams["cps_weight"])
    c.optimizer.learning_rate = hparams["base_lr"]
    c.optimizer.power = hparams["lr_power"]
    c.optimizer.momentum = hparams["momentum"]
    c.optimizer.weight_decay = hparams["weight_decay"]
    c.train.steps = hparams["total_iterations"]
    self.config = c
    mesh = sharding.make_mesh()
    self.method = experiment.make_method(c, mesh, classes=hparams["num_classes"], channels=3)
    self.network = self.method.stacks["networks"].network
    params, stats = jax.tree.map(jnp.array, branches(self.network))
    optimizer = experiment.make_optimizer(c, self.method)
    state = TrainState(
      jnp.zeros((), jnp.int32),
      {"networks": params},
      {"networks": stats},
      {},
      optimizer.init({"networks": params}),
    )
    self.initial = jax.tree.map(np.array, state)
    placed = sharding.replicated(mesh)  # from the start: else the step compiles twice
    self.state = jax.device_put(state, placed)
    plain = make_train_step(self.method, optimizer, seed=0, accumulate=1)
    self.step = jax.jit(plain, static_argnums=2, donate_argnums=0, out_shardings=(placed, placed))
    self.names = [str(n) for n in g["tensor_names"]]

  def batch(self, t):
    k = t % self.hparams["batches"]
    names = {"labeled": "labeled_u8"}
    if self.config.method.cutmix:
      names |= {"unlabeled": "unlabeled0_u8", "unlabeled_mix": "unlabeled1_u8"}
    else:
      names |= {"unlabeled": "unlabeled_u8"}
    batch = {}
    for stream, key in names.items():
      images = self.g[key][k]
      b, h, w, _ = images.shape
      labels = self.g["labels_u8"][k] if stream == "labeled" else np.full((b, h, w), 255, np.uint8)
      batch[stream] = {
        "image": images,
        "label": labels,
        "valid": np.tile(np.array([0, 0, h, w], np.int32), (b, 1)),
        "index": np.arange(b, dtype=np.int32),
      }
    if self.config.method.cutmix:
      batch["unlabeled"]["mask"] = self.g["masks_u8"][t][:, 0].astype(bool)
    return jax.tree.map(jnp.asarray, batch)

  def tensors(self, state):
    """Values of the compared tensors, by the reference's names; None for absent ones."""
    params, stats = state.params["networks"], state.stats["networks"]
    names = torch_names.network_names(self.network)
    flat = {**traverse_util.flatten_dict(params), **traverse_util.flatten_dict(stats)}
    by_name = {names[path]: leaf for path, leaf in flat.items()}
    found = {}
    for full in self.names:
      branch, rest = full.split(".", 1)
      found[full] = np.asarray(by_name[rest])[int(branch[-1]) - 1].astype(np.float64)
    return found

  def check_first_gradient(self):
    """The first velocity is the gradient plus the decay term: no second program to compile."""
    decay = self.config.optimizer.weight_decay
    (velocity,) = [s.trace for s in self.first.opt_state if hasattr(s, "trace")]
    grads = jax.tree.map(
      lambda v, theta, decayed: v - decay * theta if decayed else v,
      velocity,
      self.initial.params,
      optimizers.decay_mask(self.initial.params, "kernels"),
    )
    fake = TrainState(None, grads, self.state.stats, {}, None)
    for (name, value), l2 in zip(self.tensors(fake).items(), self.g["step0/grad_l2_f64"]):
      if not np.isnan(l2):
        np.testing.assert_allclose(np.linalg.norm(value), l2, rtol=5e-3, err_msg=name)

  def train(self):
    self.metrics = []
    self.after = []
    for t in range(self.hparams["steps"]):
      self.state, metrics = self.step(self.state, self.batch(t), frozenset())
      if t == 0:
        self.first = jax.tree.map(np.array, self.state)
      self.metrics.append({k: np.asarray(v[0] / v[1]) for k, v in metrics.items()})
      self.after.append(self.tensors(self.state) if t in (0, self.hparams["steps"] - 1) else None)

  def check(self):
    keys = {
      "loss_sup_l": "supervised_0",
      "loss_sup_r": "supervised_1",
      "loss_cps_unweighted": "cps",
      "loss_cps_weighted": "cps_weighted",
      "total": "loss",
    }
    for golden_key, key in keys.items():
      for t, bound in enumerate(LOSS_BOUNDS[: self.hparams["steps"]]):
        expected = self.g[f"{golden_key}_f64"][t]
        np.testing.assert_allclose(
          self.metrics[t][key], expected, rtol=bound, err_msg=f"{golden_key} at step {t}"
        )
    o, steps = self.config.optimizer, self.config.train.steps
    lr = [optimizers.poly(o.learning_rate, o.power, steps, t) for t in range(self.hparams["steps"])]
    np.testing.assert_allclose(lr, self.g["lr_f64"], rtol=1e-9)
    initial = self.tensors(self.initial)
    for when, tensors in (("after1", self.after[0]), ("final", self.after[-1])):
      l2 = np.array([np.linalg.norm(x) for x in tensors.values()])
      delta = np.array([np.linalg.norm(x - initial[name]) for name, x in tensors.items()])
      expected = self.g[f"{when}/delta_l2_f64"]
      off = np.abs(delta - expected) / np.abs(expected)
      if when == "after1":
        np.testing.assert_allclose(l2, self.g["after1/l2_f64"], rtol=1e-5)
        assert off.max() < 5e-3, dict(zip(self.names, off))
      else:
        assert np.median(off) < 5e-3 and off.max() < 1e-1, dict(zip(self.names, off))
