"""Run by test_devices.py in a process of its own, on four simulated devices; prints a JSON.

The meshes: one of the four devices, all four on `data`, and two by two.
"""

import json
import pathlib
import re
import shutil
import tempfile

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType

from configs import cps_toy
from semiseg_jax import sharding, stacks
from semiseg_jax.evaluation import confusion, inference, protocol
from semiseg_jax.training import experiment
from semiseg_jax.training.train_step import make_train_step
from semiseg_jax.workdir.checkpoints import Checkpoints
from tests import small_city, small_network

STEPS = 10
SAVED = 7  # steps before the checkpoint
BATCH = 4
BN_GROUPS = (0, 1, 2)  # images that share batch statistics: all, one, two (of two devices)
KINDS = "all-gather|all-to-all|all-reduce|collective-permute|reduce-scatter"
COLLECTIVE = re.compile(rf" = (.*?) ({KINDS})(?:-start)?\(")
SHAPE = re.compile(r"(?:pred|[a-z]+(\d+))\[([\d,]*)\]")


def meshes():
  """One device (as a run on one would have it), four, and two by two."""
  one = jax.make_mesh(
    (1, 1), ("replica", "data"), axis_types=(AxisType.Auto,) * 2, devices=jax.devices()[:1]
  )
  return {"1": one, "4": sharding.make_mesh(), "2x2": sharding.make_mesh(2)}


def config():
  c = small_city.config("data", train__batch_labeled=BATCH, train__batch_unlabeled=BATCH)
  c.model = cps_toy.get_config().model  # the one of tests/collectives.json
  c.optimizer.learning_rate = 0.02
  c.train.steps = STEPS
  return c


def batches(seed=0):
  """Ten batches with ignored and padded pixels, other counts of them in every picture."""
  rng = np.random.default_rng(seed)
  for _ in range(STEPS):
    yield {name: _stream(rng) for name in ("labeled", "unlabeled", "unlabeled_mix")}


def _stream(rng):
  label = rng.integers(0, 3, (BATCH, 32, 32), dtype=np.uint8)
  for row in label:
    row[: rng.integers(0, 20)] = 255
  y1, x1 = rng.integers(20, 33, (2, BATCH))
  return {
    "image": rng.integers(0, 256, (BATCH, 32, 32, 3), dtype=np.uint8),
    "label": label,
    "valid": np.stack([0 * y1, 0 * x1, y1, x1], axis=1).astype(np.int32),
    "index": np.arange(BATCH, dtype=np.int32),
    "row": np.arange(BATCH, dtype=np.int32),
  }


class Run:
  """Cps with CutMix on one mesh: its method, first state and counted, jitted step."""

  def __init__(self, mesh):
    self.mesh, self.config = mesh, config()
    self.method = experiment.make_method(self.config, mesh, classes=3, channels=3)
    self.optimizer = experiment.make_optimizer(self.config, self.method)
    self.state = experiment.initial_state(self.config, self.method, self.optimizer)
    self.traces = 0

  def step(self):
    plain = make_train_step(self.method, self.optimizer, seed=0, accumulate=1)

    def counted(state, batch, phase):
      self.traces += 1
      return plain(state, batch, phase)

    placed = jax.tree.map(lambda leaf: leaf.sharding, self.state)
    return jax.jit(counted, static_argnums=2, donate_argnums=0, out_shardings=(placed, None))


def first_loss(mesh):
  """In float32: the loss of the first batch."""
  run = Run(mesh)
  key = jax.random.key(0)

  @jax.jit
  def loss(params, stats, batch):
    return run.method.loss(params, stats, {}, batch, key, 0, frozenset())[0]

  batch = sharding.put_batch(mesh, next(batches()))
  return float(loss(run.state.params, run.state.stats, batch))


def ten_steps(mesh, name, folder):
  """In float64: losses, sums over the final state, traces, and the collectives of the program.

  The state of the middle is saved; the last steps are taken again from what an earlier mesh saved.
  Returns that and the function that takes them.
  """
  run = Run(mesh)
  run.state = jax.tree.map(
    lambda x: jax.device_put(x.astype(jnp.float64), x.sharding) if x.ndim else x, run.state
  )
  like = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), run.state
  )
  step, state, losses = run.step(), run.state, []
  for t, batch in enumerate(batches()):
    state, metrics = step(state, sharding.put_batch(mesh, batch), frozenset())
    losses.append(float(metrics["loss"][0]))
    if t + 1 == SAVED:
      save(state, folder / name)

  def restored():
    others = [other for other in folder.iterdir() if other.name != name]
    return {other.name: steps_from(other, like, mesh, step) for other in others}

  params = jax.tree.leaves(state.params)
  found = {
    "losses": losses,
    "restored": restored(),
    "sums": [float(np.abs(x).sum()) for x in jax.tree.leaves((state.params, state.stats))],
    "traces": run.traces,
    "programs": step._cache_size(),
    "sharded": sum(not x.sharding.is_fully_replicated for x in params),
    "leaves": len(params),
  }
  if mesh.size > 1:
    text = step.lower(state, sharding.put_batch(mesh, batch), frozenset()).compile().as_text()
    found["collectives"] = collectives(text)
    # What a device holds: its networks' parameters, and the channels of their normalizations.
    local = [(path[-1].key, x.addressable_shards[0].data) for path, x in _leaves(state.params)]
    found["gradients"] = sum(x.nbytes for _, x in local)
    found["channels"] = sum(x.size for leaf, x in local if leaf == "scale")
    found["parameters"] = sorted({x[0].nbytes for x in params} | {x.nbytes for x in params})
  return found, restored


def save(state, folder):
  """Writes a checkpoint as a run does."""
  saved = Checkpoints(folder)
  saved.save(state, {"config": {}}, None)
  saved.close()


def steps_from(folder, like, mesh, step):
  """The losses of the steps after the checkpoint that another mesh saved."""
  saved = Checkpoints(folder, read_only=True)
  state, losses = saved.restore(like), []
  saved.close()
  for t, batch in enumerate(batches()):
    if t >= SAVED:
      state, metrics = step(state, sharding.put_batch(mesh, batch), frozenset())
      losses.append(float(metrics["loss"][0]))
  return losses


def _leaves(tree):
  return jax.tree_util.tree_leaves_with_path(tree)


def collectives(text):
  """Kind -> bytes of each of its results in a compiled program."""
  found = {}
  for results, kind in COLLECTIVE.findall(text):
    for bits, dims in SHAPE.findall(results):
      count = int(np.prod([int(d) for d in dims.split(",") if d]))
      found.setdefault(kind, []).append(count * int(bits or 8) // 8)
  return found


def gathering():
  """A program that does gather: what `collectives` must see."""
  mesh = sharding.make_mesh()
  x = jax.device_put(np.zeros((8, 100), np.float32), sharding.batch_sharding(mesh))
  gather = jax.jit(lambda x: x * 2, out_shardings=sharding.replicated(mesh))
  return collectives(gather.lower(x).compile().as_text())


def supervised(mesh, bn_group=0):
  """One network, which `replica` cannot deal out: loss, gradient and statistics."""
  c = config()
  c.method.name, c.method.networks = "supervised", 1
  c.train.bn_group = bn_group
  method = small_network.method(c, classes=3, mesh=mesh)
  stack = method.stacks["networks"]
  placed = sharding.stack_sharding(mesh, 1)
  params, stats = jax.device_put(stacks.init(stack, 0), placed)
  batch = sharding.put_batch(mesh, {"labeled": next(batches())["labeled"]})

  def loss(params):
    key, t = jax.random.key(0), jnp.int32(0)
    args = ({"networks": params}, {"networks": stats}, {}, batch, key, t)
    total, out = method.loss(*args, frozenset())
    return total, out.stats

  (total, stats), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
  leaves = jax.tree.leaves((total, gradient, stats))
  return [np.asarray(leaf).ravel().tolist() for leaf in leaves]


def evaluated(mesh):
  """Confusion of three pictures in six windows, four at a time."""
  c = config()
  method = small_network.method(c, classes=3, mesh=mesh)
  members = experiment.evaluated_members(c, method)
  variables = small_network.variables(method, scale=3.0)
  params, stats = jax.device_put(variables, sharding.stack_sharding(mesh, 2))
  how = protocol.from_config(c.eval, mode="slide", window=(16, 16), batch=4, network="mean")
  scores = inference.make_scores(c, members, how.network, **how.views())
  run = lambda x, valid: scores(params, stats, x, valid)
  segment, counts = how.segmenter(run, 3, devices=mesh.size), np.zeros((3, 3), int)
  rng = np.random.default_rng(0)
  pictures = [rng.integers(0, 256, (16, width, 3), np.uint8) for width in (16, 27, 38)]
  for image, label in zip(pictures, segment.segment_many(pictures), strict=True):
    counts += confusion.count_picture(image[..., 0] % 3, label, 3)
  return counts.tolist()


def main():
  found, go_on = {}, {}
  folder = pathlib.Path(tempfile.mkdtemp())
  for name, mesh in meshes().items():
    with jax.enable_x64(True):
      found[name], go_on[name] = ten_steps(mesh, name, folder)
    found[name]["float32"] = first_loss(mesh)
    found[name]["evaluated"] = evaluated(mesh)
    for k in BN_GROUPS:
      found[name][f"supervised_{k}"] = supervised(mesh, k)
  with jax.enable_x64(True):
    found["again"] = {"restored": go_on["1"]()}  # with what the others saved
  shutil.rmtree(folder)
  found["gathering"] = gathering()
  print(json.dumps(found))


if __name__ == "__main__":
  main()
