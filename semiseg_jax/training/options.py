"""Keys of a run as a whole, and of the blocks `train` and `runtime`."""

import dataclasses

from semiseg_jax.options import key


@dataclasses.dataclass(frozen=True)
class Run:
  """Keys that lie in no block."""

  name: str = key("", "for people; in logs and on pictures", free=True)
  seed: int = key(0, "of weights, order, crops and every other draw", at_least=0, at_most=2**32 - 1)
  profile_steps: tuple[int, ...] = key(
    (),
    "(first, last): these steps, counted from 0, are traced into WORKDIR/profile; () = none",
    at_least=0,
    length=(0, 2),
    rises=True,
    free=True,
  )
  derived: tuple[str, ...] = key(
    (),
    "'KEY=VALUE: REASON' of what the config file derived from the data set and the device",
    free=True,
  )
  init_from: str = key(
    "", "a workdir: its networks are the start of these (other class counts too)", free=True
  )


@dataclasses.dataclass(frozen=True)
class Train:
  """The config block `train`."""

  steps: int = key(0, "updates of the whole run", at_least=1, required=True)
  batch_labeled: int = key(8, "labeled pictures a step, over all devices", at_least=1)
  batch_unlabeled: int = key(8, "unlabeled pictures a step, over all devices", at_least=1)
  accumulate: int = key(
    1, "parts of a batch, run one after the other: less memory, same rows", at_least=1
  )
  bn_group: int = key(
    0,
    "images of a stream that share batch statistics, 0 = the global batch",
    at_least=0,
    when={"frozen_statistics": (False,)},
  )
  frozen_statistics: bool = key(
    False,
    "segmentation networks normalize with the running statistics they start with, in training too; "
    "optimizer.frozen_norms keeps scales and biases as well",
  )
  baseline: bool = key(
    False,
    "first trains labels alone in WORKDIR/supervised, at equal steps and labeled batches; the end "
    "of the run prints and draws both",
    free=True,
  )
  log_every: int = key(50, "steps between two rows of metrics", at_least=1, free=True)


@dataclasses.dataclass(frozen=True)
class Runtime:
  """The config block `runtime`."""

  replica: int = key(
    1, "devices over which the networks of a stack are dealt out", at_least=1, free=True
  )
  compilation_cache: str = key(
    "", "folder, '' = WORKDIR/compilation_cache, 'off' = none", free=True
  )
  track: str = key(
    "",
    "experiment trackers that are told what metrics.jsonl is: wandb, mlflow; '' = none",
    one_of=("", "wandb", "mlflow", "wandb+mlflow"),
    free=True,
  )
  cpu_xla_flags: str = key("", "added to XLA_FLAGS where only a CPU is present", free=True)
