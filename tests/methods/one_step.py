"""A function of a Step as the loss of a method with two small networks, run once."""

import dataclasses
import types

import jax
import jax.numpy as jnp
from flax import linen as nn

from semiseg_jax import sharding
from semiseg_jax.config import schema
from semiseg_jax.methods import method as methods
from semiseg_jax.methods import shared
from semiseg_jax.methods.contract import Net, Stream
from semiseg_jax.models.layers import Dropout
from tests import small_network

CLASSES, ROWS, SIZE, WIDTH = 4, 3, (8, 6), 5
KEY = jax.random.key(3)


class Noisy(small_network.Decoder):
  """A head with dropout, to see whose masks are drawn when."""

  @nn.compact
  def __call__(self, features, mode):
    features = {"high": Dropout(0.5, name="dropout")(features["high"], mode)}
    return super().__call__(features, mode)


def module(loss, streams=("labeled", "unlabeled"), **more):
  """A method of this loss, with two networks."""
  return types.SimpleNamespace(
    Options=type("Options", (shared.Supervised,), {}),
    streams=lambda c: [s if isinstance(s, Stream) else Stream(s, s, ROWS) for s in streams],
    nets=lambda c: [Net("networks", 2)],
    loss=loss,
    **more,
  )


def assembled(loss, config=None, *, noisy=False, streams=("labeled", "unlabeled"), **more):
  family = small_network.family(CLASSES, WIDTH)
  if noisy:
    network = dataclasses.replace(family[0].network, decoder=Noisy(CLASSES))
    family = [dataclasses.replace(family[0], network=network)]
  config = config or schema.default()
  modules = {"tested": module(loss, streams, **more)}
  return methods.assemble(config, sharding.make_mesh(), family, modules=modules)


def run(loss, batch=None, *, key=KEY, t=0, variables=None, **options):
  """Runs a function (c, s) -> tree as the loss of a method; returns its tree and the Outcome."""
  found = {}

  def kept(c, s):
    found["tree"] = loss(c, s)
    return jnp.float32(0)

  method = assembled(kept, **options)
  params, stats = variables or small_network.variables(method)
  batch = batch or small_network.batch(("labeled", "unlabeled"), classes=CLASSES)

  @jax.jit
  def traced(params, stats, batch, key, t):
    _, out = method.loss(params, stats, {}, batch, key, t, frozenset())
    return found["tree"], out

  return jax.device_get(traced(params, stats, batch, key, jnp.int32(t)))
