"""What every method keeps to, whichever it is: `find`, and each case put through the real step.

For a method of your own: its file into semiseg_jax/methods, its settings into CASES (cases.py), and

  python -m pytest tests/methods/test_contract.py -k NAME
"""

import copy
import dataclasses
import functools
import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

from configs import cps_toy
from semiseg_jax import methods, sharding
from semiseg_jax.config import rules
from semiseg_jax.errors import ConfigError
from semiseg_jax.methods import contract
from semiseg_jax.models.critics.single import Single
from semiseg_jax.training import experiment
from semiseg_jax.training.train_step import make_train_step
from semiseg_jax.workdir import checkpoints
from tests import small_network
from tests.methods import cases, example_method, on_four_devices

pytestmark = pytest.mark.slow

NAMES = (
  "advsemiseg",
  "cac",
  "cct",
  "cpc",
  "cps",
  "fixmatch",
  "gct",
  "mean_teacher",
  "mlmt",
  "pixel_contrast",
  "prevmatch",
  "pseudoseg",
  "reco",
  "s4gan",
  "self_training",
  "supervised",
  "u2pl",
  "unimatch",
  "unimatch_v2",
)
# tests/test_devices.py puts these through more.
ELSEWHERE = ("supervised", "supervised, two", "cps", "cps, cutmix")
on_two_by_two = pytest.mark.parametrize("case", [c for c in cases.CASES if c not in ELSEWHERE])


def test_find_gives_the_module():
  for name in NAMES:
    assert contract.find(name).__name__ == f"semiseg_jax.methods.{name}"


@pytest.mark.parametrize("name", ["health", "contract", "step", "", "../train"])
def test_find_refuses_what_is_no_method_and_lists_those_there_are(name):
  with pytest.raises(ConfigError) as error:
    contract.find(name)
  assert repr(name) in str(error.value)
  assert str(error.value).endswith(f"there are: {', '.join(NAMES)}.")


def test_every_method_has_a_case():
  assert contract.modules().keys() <= {changes["name"] for changes in cases.CASES.values()}


def test_the_example_is_found_checked_and_built_by_its_file_alone(tmp_path, monkeypatch):
  text = pathlib.Path(example_method.__file__).read_text()
  (tmp_path / "entropy.py").write_text(text)
  monkeypatch.setattr(methods, "__path__", [*methods.__path__, str(tmp_path)])
  config = cps_toy.get_config("method=supervised")
  config.method.name, config.method.weight = "entropy", 0.1
  rules.validate(config)
  method = experiment.make_method(config, sharding.make_mesh(), classes=4, channels=3)
  assert [s.name for s in method.streams] == ["labeled", "unlabeled"]
  config.method.cutmix = True
  with pytest.raises(ConfigError, match="method.cutmix=True: method.name='entropy' does"):
    rules.validate(config)


class Run:
  """A case on one mesh with its jitted, counted step, as `train` jits it."""

  def __init__(self, case):
    self.method, self.optimizer, self.first = cases.build(case, sharding.make_mesh())
    self.traces, self.shown = [], {}
    plain = make_train_step(self._remembering(), self.optimizer, seed=0, accumulate=1)

    def counted(state, batch, phase):
      self.traces.append(phase)
      return plain(state, batch, phase)

    placed = jax.tree.map(lambda leaf: leaf.sharding, self.first)
    self.step = jax.jit(counted, static_argnums=2, out_shardings=(placed, None))

  def _remembering(self):
    """The method; when a phase is traced, shapes and types of what it shows come into `shown`."""
    method, loss = copy.copy(self.method), self.method.loss

    def remembered(*args):
      total, out = loss(*args)
      self.shown[args[-1]] = {k: (x.shape, x.dtype) for k, x in out.shown.items()}
      return total, out

    object.__setattr__(method, "loss", remembered)
    return method

  def go(self, state, steps):
    """The state after the steps, and the metrics and the parameters after each."""
    found, params = [], []
    for t in steps:
      batch = sharding.put_batch(sharding.make_mesh(), cases.batch(self.method, t))
      state, metrics = self.step(state, batch, self.method.phase(t))
      found.append(jax.device_get(metrics))
      params.append(jax.device_get(state.params))
    return state, found, params

  @functools.cached_property
  def whole(self):
    return self.go(self.first, range(cases.STEPS))


@functools.lru_cache(maxsize=1)  # tests are ordered by case
def _run(case):
  return Run(case)


@pytest.fixture(params=cases.CASES, scope="module")
def run(request):
  return _run(request.param)


def _describe(tree):
  return jax.tree.map(lambda x: (x.shape, x.dtype.name, x.sharding), tree)


def test_what_a_method_states_fits_together(run):
  method = run.method
  contract.check_nets(method.nets)
  assert len({s.name for s in method.streams}) == len(method.streams)
  assert {s.source for s in method.streams} <= {"labeled", "unlabeled"}
  assert all(s.batch > 0 for s in method.streams)
  assert len({net.name for net in method.nets}) == len(method.nets)
  assert {"networks"} <= set(method.trained) <= set(method.saved) <= set(method.stacks)
  for name in method.evaluated:
    assert not any(isinstance(m.stack.network, Single) for m in method.members[name])
  assert all(stack.name == name for name, stack in method.stacks.items())
  assert isinstance(method.phase(0), frozenset)
  assert run.first.memory.keys() <= method.modules.keys()


def test_the_state_keeps_its_shapes_and_places_and_metrics_are_pairs(run):
  state, metrics, _ = run.whole
  assert _describe(state) == _describe(run.first)
  for t, found in enumerate(metrics):
    assert found["finite"] == (1, 1), t
    for name, (total, count) in found.items():
      assert np.shape(count) == () and len(np.shape(total)) <= 1, name
      assert np.isfinite(total).all() and np.isfinite(count), name


def test_each_phase_is_traced_once(run):
  assert run.whole
  phases = [run.method.phase(t) for t in range(cases.STEPS)]
  assert len(run.traces) == len(set(phases)) and set(run.traces) == set(phases)


def _moved(before, after):
  """By path and number of the copy, whether an array of it is another one than before."""
  pairs = zip(jax.tree_util.tree_leaves_with_path(before), jax.tree.leaves(after), strict=True)
  return {
    (jax.tree_util.keystr(path), k): (np.asarray(a[k]) != np.asarray(b[k])).any()
    for (path, a), b in pairs
    for k in range(len(a))
  }


def test_every_copy_of_every_trained_stack_moves(run):
  """And all of it: no part is forgotten."""
  state = run.whole[0]
  for name in run.method.trained:
    moved = _moved(run.first.params[name], state.params[name])
    assert all(moved.values()), (name, moved)


def test_statistics_of_every_copy_move(run):
  state = run.whole[0]
  assert state.stats.keys() == set(run.method.saved)
  for name, stats in state.stats.items():
    moved = _moved(run.first.stats[name], stats)
    assert all(moved.values()), (name, moved)


def test_averages_follow_by_their_formula_and_nothing_else_moves_them(run):
  averages = [net for net in run.method.nets if net.role == "average"]
  assert {n for net in averages for n in _stacks(run, net)} == {
    name for name in run.method.saved if name not in run.method.trained
  }
  for net in averages:
    for to, of in zip(_stacks(run, net), _stacks(run, net.of)):
      before = jax.device_get(run.first.params)
      for t, after in enumerate(run.whole[2]):
        a = np.float64(net.decay(t))
        mean = lambda old, new, a=a: a * old + (1 - a) * new
        expected = jax.tree.map(mean, before[to], after[of])
        small_network.close(after[to], expected, rtol=1e-5, atol=1e-7)
        before = after


def _stacks(run, net):
  name = net if isinstance(net, str) else net.name
  return [member.stack.name for member in run.method.members[name]]


def test_only_ignored_labels_are_no_nan(run):
  batch = cases.batch(run.method, 0)
  for stream in batch.values():
    stream["label"][:] = 255
  batch = sharding.put_batch(sharding.make_mesh(), batch)
  state, metrics = run.step(run.first, batch, run.method.phase(cases.STEPS - 1))
  assert metrics["finite"] == (1, 1) and metrics["supervised_0"][0] == 0
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(jax.device_get(state)))


def test_the_supervised_loss_falls_on_a_fixed_batch(run):
  """With unlabeled pictures of padding alone, from which nothing is learned."""
  if run.method.config.method.name in ("cps", "mlmt"):
    pytest.skip("pseudo labels of labeled pictures, or padded pictures, teach as well")
  batch = cases.batch(run.method, 0)
  for name in _unlabeled(run):
    batch[name]["valid"][:] = 0
  batch = sharding.put_batch(sharding.make_mesh(), batch)
  state, losses = run.first, []
  for _ in range(cases.STEPS):
    state, metrics = run.step(state, batch, run.method.phase(cases.STEPS - 1))
    total, count = jax.device_get(metrics["supervised_0"])
    losses.append(total / count)
  assert min(losses[1:]) < losses[0], losses


def _unlabeled(run):
  return [stream.name for stream in run.method.streams if stream.source == "unlabeled"]


def test_unlabeled_pictures_alone_move_exactly_the_networks_that_learn_from_them(run):
  """Labels ignored: two steps that differ in unlabeled pictures differ in the parameters of these.

  What both have, decay of weights for instance, is no difference.
  """
  ends = []
  # Ramps are over, averages are no copies any more, and the rate is that of the first step.
  whole = {k: getattr(run.whole[0], k) for k in ("params", "stats", "memory")}
  late = dataclasses.replace(run.first, **whole, step=run.first.step + cases.STEPS - 1)
  for t in (0, 1):
    batch, other = (cases.batch(run.method, k) for k in (0, t))
    batch |= {name: other[name] for name in _unlabeled(run)}
    for stream in batch.values():
      stream["label"][:] = 255
    batch = sharding.put_batch(sharding.make_mesh(), batch)
    state, _ = run.step(late, batch, run.method.phase(cases.STEPS - 1))
    ends.append(jax.device_get(state.params))
  for name in run.method.trained:
    # PseudoSeg's attention teaches without a gradient, its classifier learns from image labels.
    learns = {"attention": False, "classifier": any(s.targets for s in run.method.streams)}
    moved = _moved(ends[0][name], ends[1][name])
    assert any(moved.values()) == learns.get(name, bool(_unlabeled(run))), name


def test_a_restored_run_ends_with_the_same_bits(run, tmp_path):
  expected = run.whole[0]
  half, *_ = run.go(run.first, range(cases.STEPS // 2))
  saved = checkpoints.Checkpoints(tmp_path, keep=1)
  try:
    saved.save(half, {"config": {}}, None)
    saved.wait()
    restored = saved.restore(run.first, lambda meta: None)
  finally:
    saved.close()
  assert int(restored.step) == cases.STEPS // 2
  found, *_ = run.go(restored, range(cases.STEPS // 2, cases.STEPS))
  for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
    assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def test_what_it_shows_of_a_batch_are_pictures_ids_or_masks(run):
  assert run.whole
  shown = run.shown[run.method.phase(cases.STEPS - 1)]
  for title, (shape, dtype) in shown.items():
    channels = (3,) if np.issubdtype(dtype, np.floating) else ()
    assert shape == (cases.ROWS, *cases.SIZE, *channels), title
  reads = any(stream.source == "unlabeled" for stream in run.method.streams)
  silent = not reads or run.method.config.method.name == "example"
  assert bool(shown) == (not silent)  # beside its streams


@pytest.fixture(scope="module", autouse=True)
def devices_process(request):
  """Computes that on the second core, while the tests before it run."""
  asked = [
    item.callspec.params["case"]
    for item in request.session.items
    if item.path == request.path and "devices" in item.fixturenames
  ]
  env = {
    **os.environ,
    "XLA_FLAGS": os.environ["XLA_FLAGS"] + " --xla_force_host_platform_device_count=4",
    "NPROC": "16",  # threads: four devices on two cores may wait for each other for ever
    "JAX_NUMPY_RANK_PROMOTION": "raise",
    "JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir,
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
  }
  command = [sys.executable, "-m", "tests.methods.on_four_devices", *asked]
  pipe = subprocess.PIPE
  with subprocess.Popen(command, env=env, stdout=pipe, stderr=pipe, text=True) as process:
    yield process
    process.kill()


@pytest.fixture(scope="module")
def devices(devices_process):
  """What the cases that were asked for give on one device and on two by two."""
  out, told = devices_process.communicate(timeout=900)
  assert devices_process.returncode == 0, told[-4000:]
  return json.loads(out.splitlines()[-1])


@on_two_by_two
def test_two_by_two_devices_equal_one_in_float64(devices, case):
  one, four = devices[case]["1"], devices[case]["2x2"]
  assert len(set(one["losses"])) == on_four_devices.STEPS
  np.testing.assert_allclose(four["losses"], one["losses"], rtol=0, atol=1e-9)
  np.testing.assert_allclose(four["sums"], one["sums"], rtol=1e-9, atol=1e-12)
