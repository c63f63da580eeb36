"""What a run says at its start and at its end."""

import pathlib

import jax
import numpy as np
from clu import parameter_overview
from jax.sharding import Mesh
from ml_collections import ConfigDict

from semiseg_jax import sharding
from semiseg_jax.arguments import command
from semiseg_jax.data.dataset import Dataset
from semiseg_jax.data.joined import JoinedDataset
from semiseg_jax.data.splits import FEW, IdList, Split
from semiseg_jax.methods import contract
from semiseg_jax.methods.method import Method
from semiseg_jax.state import TrainState
from semiseg_jax.training import derived, experiment, optimizers
from semiseg_jax.training.normalization import Chosen
from semiseg_jax.training.validation import Scored
from semiseg_jax.wording import counted
from semiseg_jax.workdir import store
from semiseg_jax.workdir.writers import JSON_LINES

_FEW_STEPS = 3000  # from which on methods gain on the toy city, see methods/CARDS.md


def print_start(
  config: ConfigDict,
  dataset: Dataset | JoinedDataset,
  split: Split,
  val: IdList | None,
  method: Method,
  mesh: Mesh,
  normalization: Chosen,
) -> None:
  """Prints what is about to be trained, on what, and where."""
  if jax.process_index():
    return
  info, o = dataset.info, optimizers.Options(**config.optimizer)
  own = experiment.own_optimizers(method)
  parts = [f"{len(split.labeled.ids)} labeled ({split.labeled.title})"]
  if split.unlabeled.ids:
    parts.append(f"{len(split.unlabeled.ids)} unlabeled ({split.unlabeled.title})")
  parts.append(f"{len(val.ids)} evaluated ({val.title})" if val else "none evaluated")
  device = jax.devices()[0]
  shared = dataset.shared_ids if isinstance(dataset, JoinedDataset) else ()
  lines = [
    f"{config.name}: method {' + '.join((config.method.name, *config.method.add))}, seed "
    f"{config.seed}",
    f"  data       {info.name} at {dataset.root}, "
    f"{counted(len(info.classes), 'class', 'classes')}: {', '.join(parts)}",
    f"  recipe     {counted(config.train.steps, 'step')}, batch "
    + " + ".join(f"{s.batch} {s.name}" for s in method.streams)
    + f", crop {'x'.join(map(str, config.data.crop))}",
    f"  normalized {normalization}",
    f"  optimizer  {optimizers.describe(o, own, experiment.rates(method))}",
  ]
  lines += derived.lines(config)
  if shared:
    lines.append(
      f"  NOTE       {len(shared)} ids, such as {shared[0]!r}, are in both datasets and are taken "
      "for different pictures: make sure that none of them is evaluated"
    )
  lines += [f"  NOTE       {note}" for note in _doubts(split, val) + _few_steps(config, split)]
  for name, stack in method.stacks.items():
    shapes, _ = stack.network.shapes()
    count = sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(shapes))
    lines.append(f"  {name:<10} {stack.n} x {stack.network.name}, {count:,} parameters each")
  lines.append(
    f"  devices    {jax.device_count()} x {device.device_kind} in {jax.process_count()} "
    f"process(es), mesh {dict(mesh.shape)}"
  )
  print("\n".join(lines), flush=True)


def _doubts(split: Split, val: IdList | None) -> list[str]:
  """What lists are not, and what scores will suffer from: absent classes, few pictures."""
  notes = [note for ids in (*split.lists().values(), *([val] if val else [])) for note in ids.notes]
  if val is not None and len(val.ids) < FEW:
    notes.append(
      f"only {counted(len(val.ids), 'picture is', 'pictures are')} evaluated: scores on so few say "
      "little"
    )
  return notes


def _few_steps(config: ConfigDict, split: Split) -> list[str]:
  """What a run of few steps is told, where nothing shows what its unlabeled pictures are worth."""
  waits = bool(split.unlabeled.ids) and contract.teaches(config.method.name)
  if not waits or config.train.baseline or config.train.steps >= _FEW_STEPS:
    return []
  return [
    f"below {_FEW_STEPS} steps pseudo labels are often too wrong to help: after 1500 on the toy "
    "city most methods scored below labels alone; --config.train.baseline=True trains these beside"
  ]


def print_position(start: int, last: int) -> None:
  """Says where an earlier start of the run left off."""
  if start and not jax.process_index():
    done = "complete already, evaluated again" if start == last else f"goes on after step {start}"
    print(f"  resumed    {done}", flush=True)


def print_end(
  workdir: str, scored: Scored | None, *, seconds: float, steps: int, segments: bool = True
) -> None:
  """Prints the last evaluation and where everything lies, and what comes next.

  Args:
    workdir: of the run.
    scored: its last evaluation.
    seconds: since this start.
    steps: since this start.
    segments: whether its networks label pixels; otherwise they are the gate of others.
  """
  if jax.process_index():
    return
  path, workdir = store.named(pathlib.Path(workdir)), store.named(workdir)
  following = f"  predict      {command('semiseg_jax.predict')} --workdir={workdir}"
  following += " --images=DIR --out=DIR"
  evaluate = command("semiseg_jax.evaluate")
  if not segments:
    following = f"  gate         {evaluate} --workdir=OTHER --gate={workdir}"
  if scored is not None:
    print("\n" + store.named(scored.report))
  print(
    f"\nTrained {counted(steps, 'step')} in {seconds:.0f} s (this start).\n"
    f"  checkpoints  {path}/checkpoints\n"
    f"  metrics      {path}/{JSON_LINES}; tensorboard --logdir {path}\n"
    f"  evaluate     {evaluate} --workdir={workdir}\n" + following
  )


def write_parameters(workdir: str, state: TrainState) -> None:
  """Writes WORKDIR/parameters.txt: name, shape, mean and spread of every stacked parameter."""
  params = (
    jax.tree.map(sharding.gathered, state.params) if jax.process_count() > 1 else state.params
  )
  if jax.process_index() == 0:
    overview = parameter_overview.get_parameter_overview(params)
    (pathlib.Path(workdir) / "parameters.txt").write_text(overview + "\n")
