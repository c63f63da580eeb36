"""Run by test_contract.py in a process of its own, on four simulated devices; prints a JSON.

The cases named on the command line, in float64 on one device and on two by two, in their last
phase: losses, and sums over the final state.
"""

import json
import sys

import jax
import jax.numpy as jnp
import numpy as np

from semiseg_jax import sharding
from semiseg_jax.training.train_step import make_train_step
from tests import four_devices
from tests.methods import cases

STEPS = 3


def run(case, mesh):
  method, optimizer, state = cases.build(case, mesh)
  wide = lambda x: x.astype(jnp.float64) if jnp.issubdtype(x.dtype, jnp.floating) else x
  state = jax.tree.map(lambda x: jax.device_put(wide(np.asarray(x)), x.sharding), state)
  placed = jax.tree.map(lambda leaf: leaf.sharding, state)
  step = make_train_step(method, optimizer, seed=0, accumulate=1)
  step = jax.jit(step, static_argnums=2, out_shardings=(placed, None))
  losses = []
  for t in range(STEPS):
    batch = sharding.put_batch(mesh, cases.batch(method, t))
    state, metrics = step(state, batch, method.phase(cases.STEPS - 1))
    losses.append(float(metrics["loss"][0]))
  trees = (state.params, state.stats, state.memory)
  return {"losses": losses, "sums": [float(np.abs(x).sum()) for x in jax.tree.leaves(trees)]}


def main():
  meshes = {name: mesh for name, mesh in four_devices.meshes().items() if name != "4"}
  with jax.enable_x64(True):
    found = {case: {k: run(case, mesh) for k, mesh in meshes.items()} for case in sys.argv[1:]}
  print(json.dumps(found))


if __name__ == "__main__":
  main()
