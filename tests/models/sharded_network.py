"""Run by test_sharded_network.py in a process of its own, on four simulated devices.

Two streams (4 and 8 images), one network, float64: joined inside shard_map on four devices, and on
one.  Prints a JSON of the largest relative differences of outputs, statistics and gradients.
"""

import json

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from semiseg_jax.models.layers import Mode
from semiseg_jax.models.network import build_network
from tests.model_config import model_config


def main():
  network = build_network(
    model_config("tiny"),
    num_classes=5,
    in_channels=3,
  )
  rng = np.random.default_rng(0)
  params, batch_stats = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), network.init((0,)))
  a, b = (jnp.asarray(rng.standard_normal((size, 32, 24, 3))) for size in (4, 8))
  weights = jnp.asarray(rng.standard_normal((12, 8, 6, 5)))

  def call(mode, params, batch_stats, a, b):
    features, stats = network.encode(params, batch_stats, jnp.concatenate([a, b]), mode)
    outputs, stats = network.decode(params, stats, features, mode)
    return outputs["logits"][: len(a)], outputs["logits"][len(a) :], stats

  def gradient(apply):
    def loss(params):
      first, second, stats = apply(params, batch_stats, a, b)
      logits = jnp.concatenate([first, second])
      return jnp.sum(logits * weights), (logits, stats)

    gradient, (logits, stats) = jax.jit(jax.grad(loss, has_aux=True))(params)
    return {"gradient": gradient, "logits": logits, "stats": stats}

  expected = gradient(lambda *args: call(Mode("train", (4, 8)), *args))
  errors = {}
  for shape, axes in (((1, 4), ("data",)), ((2, 2), ("replica", "data"))):
    mesh = jax.make_mesh(shape, ("replica", "data"), axis_types=(AxisType.Auto,) * 2)
    mode = Mode("train", (1, 2), axes)
    actual = gradient(
      jax.shard_map(
        lambda *args, mode=mode: call(mode, *args),
        mesh=mesh,
        in_specs=(P(), P(), P(axes), P(axes)),
        out_specs=(P(axes), P(axes), P()),
        check_vma=True,
      )
    )
    for name in expected:
      pairs = zip(jax.tree.leaves(actual[name]), jax.tree.leaves(expected[name]))
      scale = max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(expected[name]))
      errors[f"{name} {shape}"] = max(float(np.abs(x - y).max()) for x, y in pairs) / scale
  print(json.dumps(errors))


if __name__ == "__main__":
  main()
