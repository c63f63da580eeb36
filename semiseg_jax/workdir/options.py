"""Keys of the block `checkpoint`: what of a run is kept."""

import dataclasses

from semiseg_jax.options import key


@dataclasses.dataclass(frozen=True)
class Options:
  """The config block `checkpoint`."""

  every: int = key(
    1000, "steps between two checkpoints, 0 = after evaluations only", at_least=0, free=True
  )
  keep: int = key(2, "newest ones that are kept; the best is kept beside", at_least=1, free=True)
  spaced: int = key(
    0,
    "so many more, equally spaced and the last step among them, are saved and kept",
    at_least=0,
  )
