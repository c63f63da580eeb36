"""What every method keeps to, whichever it is; `find` and its errors."""

import jax
import numpy as np
import pytest

from configs import presets
from semiseg_jax import sharding, stacks
from semiseg_jax.methods import contract
from tests import small_network

NAMES = ("cps", "supervised")
CASES = {
  "supervised": {"name": "supervised", "networks": 1},
  "supervised, two": {"name": "supervised", "networks": 2},
  "cps": {"name": "cps", "networks": 2},
  "cps, cutmix": {"name": "cps", "networks": 2, "cutmix": True},
}


def _build(**changes):
  c = presets.base()
  for key, value in changes.items():
    c.method[key] = value
  make_stack = small_network.make_stack(sharding.make_mesh())
  return contract.find(c.method.name).build(c, make_stack)


def test_find_gives_the_module():
  for name in NAMES:
    assert contract.find(name).__name__ == f"semiseg_jax.methods.{name}"


@pytest.mark.parametrize("name", ["mean_teacher", "health", "contract", "inputs", "", "../train"])
def test_find_refuses_what_is_no_method_and_lists_those_there_are(name):
  with pytest.raises(ValueError) as error:
    contract.find(name)
  assert repr(name) in str(error.value)
  assert str(error.value).endswith(f"there are: {', '.join(NAMES)}.")


@pytest.mark.parametrize("case", CASES)
def test_what_a_method_states_fits_together(case):
  method = _build(**CASES[case])
  assert len({s.name for s in method.streams}) == len(method.streams)
  assert {s.source for s in method.streams} <= {"labeled", "unlabeled"}
  assert all(s.batch > 0 for s in method.streams)
  assert set(method.trained) <= set(method.stacks) and method.evaluated in method.stacks
  assert all(stack.name == name for name, stack in method.stacks.items())
  assert isinstance(method.phase(0), int) and isinstance(method.extra_state(), dict)


@pytest.mark.parametrize("case", CASES)
def test_the_state_keeps_its_shapes_and_metrics_are_pairs(case):
  method = _build(**CASES[case])
  drawn = {name: stacks.init(stack, 0) for name, stack in method.stacks.items()}
  params = {name: p for name, (p, _) in drawn.items()}
  state = {
    "batch_stats": {name: s for name, (_, s) in drawn.items()},
    "own": np.zeros(3, np.float32),
  }
  batch = small_network.batch([s.name for s in method.streams])
  total, (new, _, metrics) = jax.eval_shape(
    lambda *args: method.loss(*args, 0), params, state, batch, jax.random.key(0), np.int32(0)
  )
  assert total.shape == () and total.dtype == np.float32
  describe = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype.name), tree)
  assert describe(new) == describe(state)
  for name, (sums, count) in metrics.items():
    assert np.shape(count) == () and len(np.shape(sums)) <= 1, name


def test_supervised_is_the_sum_over_the_networks_of_cross_entropy():
  method = _build(**CASES["supervised, two"])
  params, stats = stacks.init(method.stacks["networks"], 0)
  batch = small_network.batch(["labeled"])
  label = batch["labeled"]["label"]
  label[1, 2:] = 255
  total, (state, _, metrics) = jax.jit(lambda *args: method.loss(*args, 0))(
    {"networks": params}, {"batch_stats": {"networks": stats}}, batch, jax.random.key(0), 0
  )
  losses = []
  for k in range(2):
    p, s = (small_network.copy(tree, k) for tree in (params, stats))
    logits, s = small_network.forward(p, s, small_network.normalized(batch["labeled"]), "train")
    z = small_network.upsampled(logits, label.shape[1:])
    log_p = z - np.log(np.exp(z).sum(-1, keepdims=True))
    used = label != 255
    losses.append(-np.mean([log_p[i][label[i]] for i in zip(*np.nonzero(used))]))
    moved = small_network.copy(state["batch_stats"]["networks"], k)
    small_network.close(moved, s, rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose([metrics[f"supervised_{k}"][0] for k in range(2)], losses, rtol=1e-5)
  np.testing.assert_allclose(total, sum(losses), rtol=1e-5)
  assert metrics["supervised_pixels"] == (2 * used.sum(), 2 * used.size)
