"""The device count does not change the recipe: one, four and two by two simulated devices."""

import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

from tests import four_devices

pytestmark = pytest.mark.slow

MESHES = ("4", "2x2")
# One byte for each pseudo label of two networks: activations are many times as large.
PSEUDO_LABELS = 2 * four_devices.BATCH * 32 * 32


@pytest.fixture(scope="module")
def found():
  env = {
    **os.environ,
    "JAX_PLATFORMS": "cpu",
    "XLA_FLAGS": os.environ["XLA_FLAGS"] + " --xla_force_host_platform_device_count=4",
    "NPROC": "16",  # threads: four devices on two cores may wait for each other for ever
    "JAX_NUMPY_RANK_PROMOTION": "raise",
    "JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir,
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
  }
  done = subprocess.run(
    [sys.executable, "-m", "tests.four_devices"],
    env=env,
    capture_output=True,
    text=True,
    timeout=500,
  )
  assert done.returncode == 0, done.stderr[-4000:]
  return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("mesh", MESHES)
def test_ten_steps_in_float64(found, mesh):
  losses = found[mesh]["losses"]
  assert len(losses) == 10 and len(set(losses)) == 10
  np.testing.assert_allclose(losses, found["1"]["losses"], rtol=0, atol=1e-9)
  np.testing.assert_allclose(found[mesh]["sums"], found["1"]["sums"], rtol=1e-9)


@pytest.mark.parametrize(
  "saved, mesh", [("1", "4"), ("1", "2x2"), ("4", "2x2"), ("4", "again"), ("2x2", "again")]
)
def test_a_checkpoint_of_another_mesh_goes_on(found, saved, mesh):
  last = found[mesh]["restored"][saved]
  np.testing.assert_allclose(last, found["1"]["losses"][four_devices.SAVED :], rtol=0, atol=1e-9)


@pytest.mark.parametrize("mesh", MESHES)
def test_the_first_loss_in_float32(found, mesh):
  np.testing.assert_allclose(found[mesh]["float32"], found["1"]["float32"], rtol=1e-5)


@pytest.mark.parametrize("mesh", ("1", *MESHES))
def test_the_step_is_traced_and_compiled_once(found, mesh):
  assert (found[mesh]["traces"], found[mesh]["programs"]) == (1, 1)


def test_the_networks_are_dealt_out_over_replica(found):
  assert found["1"]["sharded"] == found["4"]["sharded"] == 0
  assert found["2x2"]["sharded"] == found["2x2"]["leaves"]


@pytest.mark.parametrize("mesh", MESHES)
def test_no_activation_crosses_devices(found, mesh):
  """At most pseudo labels (8 KiB here) are gathered or exchanged."""
  assert found["gathering"] == {"all-gather": [3200]}, "the text is no longer understood"
  program = found[mesh]["collectives"]
  for kind in ("all-gather", "all-to-all", "collective-permute", "reduce-scatter"):
    assert max(program.get(kind, [0])) <= PSEUDO_LABELS, (kind, program[kind])
  large = {size for size in program["all-reduce"] if size > 4096}
  assert large and large <= set(found[mesh]["parameters"]), "more than gradients is reduced"


@pytest.mark.parametrize("mesh", MESHES)
def test_bytes_that_cross_devices_equal_theory(found, mesh):
  """In float64, of a step: one gradient, batch statistics, and labels for the other network.

  Statistics: mean and variance of two groups, in the pass that labels, and forward and backward in
  the pass that learns.  Labels (where `replica` deals the networks out): once for the loss, twice
  for the share of pixels on which the networks agree.
  """
  one = found[mesh]
  statistics = one["channels"] * 2 * 2 * 3 * 8
  moved = {kind: sum(sizes) for kind, sizes in one["collectives"].items()}
  np.testing.assert_allclose(moved["all-reduce"], one["gradients"] + statistics, rtol=0.05)
  labels = PSEUDO_LABELS // 4 if mesh == "2x2" else 0
  np.testing.assert_allclose(moved.get("collective-permute", 0), 3 * labels, rtol=0.05)


@pytest.mark.parametrize("mesh", MESHES)
def test_collectives_are_those_of_the_table(found, mesh):
  """kind -> [number, bytes] of a step of CPS with CutMix: a change of one is a decision."""
  table = json.loads((pathlib.Path(__file__).parent / "collectives.json").read_text())[mesh]
  kinds = found[mesh]["collectives"]
  measured = {kind: [len(sizes), sum(sizes)] for kind, sizes in kinds.items()}
  assert measured == table


@pytest.mark.parametrize("group", four_devices.BN_GROUPS)
@pytest.mark.parametrize("mesh", MESHES)
def test_one_network_runs_on_every_mesh(found, mesh, group):
  """Loss, gradient, statistics; on two by two the batch lies on both axes."""
  pairs = zip(found[mesh][f"supervised_{group}"], found["1"][f"supervised_{group}"], strict=True)
  for a, b in pairs:
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_groups_of_images_have_statistics_of_their_own(found):
  losses = [found["1"][f"supervised_{k}"][0][0] for k in four_devices.BN_GROUPS]
  assert len(set(losses)) == len(losses)


@pytest.mark.parametrize("mesh", MESHES)
def test_every_picture_is_evaluated_once_whatever_the_mesh(found, mesh):
  counts = np.array(found["1"]["evaluated"])
  assert counts.sum() == 16 * (16 + 27 + 38) and (counts.sum(0) > 0).all()
  assert found[mesh]["evaluated"] == counts.tolist()
