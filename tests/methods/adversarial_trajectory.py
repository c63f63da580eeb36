"""Six iterations of AdvSemiSeg's and s4GAN's own training loops through the step of every run.

A file holds, per variant, losses and checksums of every tensor after each iteration.
"""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from configs import augmentations, networks
from semiseg_jax import sharding
from semiseg_jax.config import schema
from semiseg_jax.labels import IGNORE
from semiseg_jax.methods import method as methods
from semiseg_jax.models.torch import torch_names
from semiseg_jax.state import TrainState
from semiseg_jax.training import experiment, optimizers
from semiseg_jax.training.train_step import make_train_step
from tests.golden_files import golden, golden_params, golden_path

# The authors' options that a file's list may leave out.
DEFAULTS = {"--momentum": 0.9, "--weight-decay": 0.0005, "--power": 0.9}


def last(x):
  """[...,C,H,W] -> [...,H,W,C]."""
  return np.moveaxis(x, -3, -1)


class Trajectory:
  """One variant of a file.

  A class of its own gives `file`, `published(c, s)`, which sets method and rates from the file's
  settings, `batch(t)` and `check_losses(t, metrics)`.
  """

  def __init__(self, variant, summed):
    self.g, self.variant = golden(self.file), variant
    words = [str(x) for x in self.g["settings"]]
    s = DEFAULTS | {name: float(x) for name, x in zip(words[::2], words[1::2])}
    c = schema.default()
    networks.choose(c.model, "advsemiseg", 101)
    augmentations.advsemiseg(c, published=True)
    c.model.deeplabv2.summed = summed
    c.optimizer.learning_rate = s["--learning-rate"]
    c.optimizer.power, c.optimizer.momentum = s["--power"], s["--momentum"]
    c.optimizer.weight_decay, c.optimizer.decayed = s["--weight-decay"], "all"
    c.optimizer.head_multiplier, c.optimizer.frozen_norms = 10.0, True
    c.train.steps = int(s["--num-steps"])
    self.published(c, s)
    self.config, self.method = c, self._method(c)
    self._start()

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
    text = golden_path(f"{self.file}.params.json").read_text()
    return json.loads(text)["segmentation_network"]["layer5.conv2d_list.0.bias"][0]

  def _start(self):
    golden_of = {name: golden_params(k.network) for name, k in self.method.stacks.items()}
    stacked = lambda i: {k: jax.tree.map(lambda x: x[None], v[i]) for k, v in golden_of.items()}
    optimizer = experiment.make_optimizer(self.config, self.method)
    params, stats = stacked(0), stacked(1)
    opt_state = optimizer.init(params)
    state = TrainState(jnp.zeros((), jnp.int32), params, stats, {}, opt_state)
    placed = sharding.replicated(sharding.make_mesh())  # from the start: else it compiles twice
    self.state = jax.device_put(state, placed)
    self.initial = self.tensors()
    plain = make_train_step(self.method, optimizer, seed=0, accumulate=1)
    self.step = jax.jit(plain, static_argnums=2, out_shardings=(placed, placed))

  def stream(self, t, image, label):
    """Fields of a stream at step t; None: black pictures, or ignored labels."""
    rows, _, *size = self.g["lab_image"][t].shape
    black, ignored = np.zeros((rows, *size, 3), np.uint8), np.full((rows, *size), IGNORE, np.uint8)
    return {
      "image": last(self.g[image][t]) if image else black,
      "label": self.g[label][t] if label else ignored,
      "valid": np.tile(np.array([0, 0, *size], np.int32), (rows, 1)),
      "index": np.arange(rows, dtype=np.int32),
    }

  def expected(self, name):
    """The array of this variant."""
    return self.g[f"{self.variant}/{name}"]

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
    """Every step, each compared with the file's."""
    for t in range(self.config.train.steps):
      self.state, metrics = self.step(self.state, self.batch(t), self.method.phase(t))
      self.check_losses(t, {k: float(s / n) for k, (s, n) in metrics.items() if np.size(s) == 1})
      self._check_tensors(t)
      self._check_rates(t)

  def check_loss(self, t, name, value):
    """Within the files' tolerance, which is wider from the fourth step on."""
    bound = 1e-3 if t < 3 else 5e-3
    np.testing.assert_allclose(value, self.expected(name)[t], rtol=bound, err_msg=name)

  def _check_rates(self, t):
    o, steps = self.config.optimizer, self.config.train.steps
    rate, critic = optimizers.rate(o, steps, t), self.config.method[self.config.method.name]
    of_critic = optimizers.schedule(o, critic.learning_rate, o.schedule, steps)
    expected = self.expected("lr")[t], self.expected("lr_D")[t]
    np.testing.assert_allclose((rate, rate * o.head_multiplier), expected[0], rtol=1e-6)
    np.testing.assert_allclose(of_critic(t), expected[1], rtol=1e-6)

  def _check_tensors(self, t):
    moved, off = self.tensors(), []
    for key in ("G", "D"):
      for name, sums in zip(self.expected(f"{key}_names"), self.expected(f"{key}_checksums")[t]):
        now, before = moved[key][str(name)], self.initial[key][str(name)]
        update = np.linalg.norm(now - before)
        if sums[3] == 0:
          assert update == 0, f"{name} must not move"
        elif sums[3] > 1e-4:
          off.append(abs(update / sums[3] - 1))
          assert off[-1] < 1e-2, (t, str(name), update, sums[3])
    assert np.median(off) < 1e-3
