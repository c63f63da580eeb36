"""Mesh, placements and the rows of a process, on one device; test_devices.py has four."""

import types

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from semiseg_jax import sharding
from semiseg_jax.errors import ConfigError


def _mesh(replica, data):
  """Only the shape: what does not need real devices."""
  return types.SimpleNamespace(shape={"replica": replica, "data": data})


def test_the_mesh_has_both_axes_and_is_automatic():
  mesh = sharding.make_mesh()
  assert dict(mesh.shape) == {"replica": 1, "data": jax.device_count()}
  assert mesh.axis_types == (AxisType.Auto, AxisType.Auto)


@pytest.mark.parametrize("replica", [0, -1, 3])
def test_a_replica_that_does_not_divide_the_devices_is_refused(replica):
  with pytest.raises(ConfigError, match=f"runtime.replica={replica} does not divide the 1 device"):
    sharding.make_mesh(replica)


def test_a_stack_lies_on_replica_where_the_copies_can_be_dealt_out():
  cases = {(1, 1): True, (2, 2): True, (2, 4): True, (2, 1): False, (2, 3): False, (4, 2): False}
  for (replica, n), held in cases.items():
    assert sharding.holds_stack(_mesh(replica, 2), n) == held, (replica, n)


def test_placements():
  mesh = sharding.make_mesh()
  assert sharding.stack_sharding(mesh, 3) == NamedSharding(mesh, P("replica"))
  assert sharding.batch_sharding(mesh) == NamedSharding(mesh, P("data"))
  assert sharding.replicated(mesh) == NamedSharding(mesh, P())


def test_one_process_reads_every_row():
  assert sharding.process_rows(sharding.make_mesh(), 6) == slice(0, 6)


def test_a_batch_that_cannot_be_dealt_out_is_refused():
  with pytest.raises(ConfigError) as error:
    sharding.process_rows(_mesh(1, 4), 6)
  for text in ("6 rows", "4 devices", "multiple of 4", "train.batch_labeled", "runtime.replica"):
    assert text in str(error.value)


def test_rows_follow_from_the_coordinates_on_data(monkeypatch):
  """A process that holds the second and third quarter of `data` on both rows of `replica`."""
  held = {f"device {r}{d}": (slice(d * 2, d * 2 + 2),) for r in range(2) for d in (1, 2)}
  fake = types.SimpleNamespace(addressable_devices_indices_map=lambda shape: held)
  monkeypatch.setattr(sharding, "batch_sharding", lambda mesh: fake)
  assert sharding.process_rows(_mesh(2, 4), 8) == slice(2, 6)


def test_put_batch_places_every_array_of_every_stream():
  mesh: Mesh = sharding.make_mesh()
  batch = {
    "labeled": {"image": np.arange(24, dtype=np.uint8).reshape(2, 2, 2, 3), "index": np.arange(2)},
    "unlabeled": {"index": np.arange(4, dtype=np.int32)},
  }
  placed = sharding.put_batch(mesh, batch)
  assert {name: set(stream) for name, stream in placed.items()} == {
    "labeled": {"image", "index"},
    "unlabeled": {"index"},
  }
  for found, given in zip(jax.tree.leaves(placed), jax.tree.leaves(batch)):
    assert found.sharding == sharding.batch_sharding(mesh)
    np.testing.assert_array_equal(found, given)
  assert placed["labeled"]["image"].dtype == np.uint8
