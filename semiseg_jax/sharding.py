"""The device mesh and what lies where on it.

Axes: `replica` (the N networks of a stack) and `data` (rows of the batch).  Outside the network
call everything is written in the global view and sharded by the compiler.
"""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from semiseg_jax.errors import ConfigError


def make_mesh(replica: int = 1) -> Mesh:
  """Returns the mesh (`replica`, `data`) over all devices of all processes.

  Raises:
    ConfigError: `replica` does not divide the number of devices.
  """
  devices = jax.device_count()
  if replica < 1 or devices % replica:
    raise ConfigError(
      f"runtime.replica={replica} does not divide the {devices} devices of this run; set it to 1 "
      "(every device holds every network) or to a divisor."
    )
  return jax.make_mesh(
    (replica, devices // replica), ("replica", "data"), axis_types=(AxisType.Auto,) * 2
  )


def holds_stack(mesh: Mesh, n: int) -> bool:
  """Whether the n copies of a stack are dealt out over `replica` (else they are replicated)."""
  return n % mesh.shape["replica"] == 0


def stack_sharding(mesh: Mesh, n: int) -> NamedSharding:
  """The placement of every parameter and statistic [n, ...] of a stack of n copies."""
  return NamedSharding(mesh, P("replica") if holds_stack(mesh, n) else P())


def replicated(mesh: Mesh) -> NamedSharding:
  """The placement of scalars and small arrays: a copy on each device."""
  return NamedSharding(mesh, P())


def in_host_memory(tree: Any) -> bool:
  """Whether numpy reads all arrays where they are: on CPU devices of this process.

  There a few lines of numpy are faster than to compile a program.
  """
  return all(
    isinstance(x, np.ndarray)
    or (x.is_fully_addressable and all(device.platform == "cpu" for device in x.devices()))
    for x in jax.tree.leaves(tree)
  )


def gathered(x: Any) -> np.ndarray:
  """Returns a whole array in host memory; all processes call it, for arrays that are dealt out."""
  if isinstance(x, np.ndarray | np.generic) or x.is_fully_addressable:
    return np.asarray(x)
  if x.is_fully_replicated:
    return np.asarray(x.addressable_data(0))
  return multihost_utils.process_allgather(x, tiled=True)


def placed_as(x: np.ndarray, like: jax.Array) -> jax.Array:
  """Returns an array that each process has whole, placed as `like`."""
  return jax.make_array_from_callback(x.shape, like.sharding, lambda index: np.asarray(x)[index])


def batch_sharding(mesh: Mesh) -> NamedSharding:
  """The placement of every batch array [B, ...]: rows over `data`."""
  return NamedSharding(mesh, P("data"))


def process_rows(mesh: Mesh, batch: int) -> slice:
  """The rows of a global batch that this process reads.

  They follow from the coordinates of its devices on `data`, never from the process index: on some
  meshes several processes hold the same rows.

  Raises:
    ConfigError: the batch cannot be dealt out evenly over `data`.
  """
  parts = mesh.shape["data"]
  if batch % parts:
    raise ConfigError(
      f"A batch of {batch} rows cannot be dealt out over {parts} devices: make the batch a "
      f"multiple of {parts} (train.batch_labeled, train.batch_unlabeled; train.accumulate cuts "
      "them into parts), or raise runtime.replica so that fewer devices share the rows."
    )
  index_map = batch_sharding(mesh).addressable_devices_indices_map((batch,))
  spans = sorted({index[0].indices(batch)[:2] for index in index_map.values()})
  if any(stop != start for (_, stop), (start, _) in zip(spans, spans[1:])):
    raise ValueError(f"The devices of this process hold rows {spans} of the batch: not contiguous.")
  return slice(spans[0][0], spans[-1][1])


def put_batch(
  mesh: Mesh, batch: Mapping[str, Mapping[str, np.ndarray]], parts: int = 1
) -> dict[str, Any]:
  """Places this process's rows of every stream as global arrays, rows over `data`.

  With `parts` > 1 the arrays are [parts, rows, ...].
  """
  sharding = batch_sharding(mesh) if parts == 1 else NamedSharding(mesh, P(None, "data"))
  return jax.tree.map(
    lambda rows: jax.make_array_from_process_local_data(sharding, rows), dict(batch)
  )
