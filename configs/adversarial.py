"""Parts of the recipes whose networks are judged by a discriminator: AdvSemiSeg and s4GAN."""

from ml_collections import ConfigDict

from configs import networks, presets
from semiseg_jax.methods.s4gan import COMPAT


def advsemiseg(c: ConfigDict) -> None:
  """AdvSemiSeg: one network; its loss weights are its own."""
  c.method.name, c.method.networks = "advsemiseg", 1


def s4gan(c: ConfigDict) -> None:
  """s4GAN: one network; its loss weights are its own."""
  c.method.name, c.method.networks = "s4gan", 1


def s4gan_as_published(c: ConfigDict, released: bool) -> None:
  """s4GAN with its authors' network, optimizer and length, whatever the data set.

  Args:
    c: with its data.
    released: with the quirks of the code, and the two branches that its head sums.
  """
  networks.choose(c.model, "advsemiseg", 101)
  c.model.pretrained = "data/weights/resnet101"
  s4gan(c)
  optimizer(c, repeats=3 if released else 1)
  if released:
    c.method.compat, c.model.deeplabv2.summed = COMPAT, 2
  c.train.steps, c.train.batch_labeled, c.train.batch_unlabeled = 40_000, 8, 8
  c.eval.every, c.eval.mode, c.eval.whole = 5000, "whole", "as_is"


def s4gan_baseline(c: ConfigDict) -> None:
  """The supervised baseline of s4GAN's authors, whose batches are larger."""
  presets.supervised(c)
  c.train.batch_labeled = 10


def optimizer(c: ConfigDict, repeats: int) -> None:
  """SGD of AdvSemiSeg and s4GAN; `repeats`: updates of a parameter of the backbone in a step."""
  c.optimizer.learning_rate = repeats * 2.5e-4
  c.optimizer.weight_decay = 5e-4
  c.optimizer.decayed = "all"
  c.optimizer.head_multiplier = 10.0 / repeats
  c.optimizer.frozen_norms = True
