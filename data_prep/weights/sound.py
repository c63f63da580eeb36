"""Numbers that no trained network has: they are named, and nothing is written."""

from collections.abc import Mapping, Sequence

import numpy as np

from data_prep.weights.matching import Match, listed
from semiseg_jax.errors import WeightsError


def check(state: Mapping[str, np.ndarray], matches: Sequence[Match]) -> None:
  """Looks at the tensors that networks take.

  Raises:
    WeightsError: NaN or infinity, variances below 0, or kernels of zeros alone; with all names.
  """
  taken = [name for match in matches for name in match.names.values()]
  faults = {
    "NaN or infinity": [name for name in taken if not np.isfinite(state[name]).all()],
    "variances below 0": [
      name for name in taken if name.endswith("running_var") and (state[name] < 0).any()
    ],
    "zeros alone, where a kernel should be": [
      name
      for name in taken
      if name.endswith("weight") and state[name].ndim > 1 and not state[name].any()
    ],
  }
  lines = [f"{what}: {listed(names)}" for what, names in faults.items() if names]
  if lines:
    raise WeightsError(
      "The source has numbers that no trained network has:\n  "
      + "\n  ".join(lines)
      + "\nThe training of the file diverged or was never begun, or the file is damaged; nothing "
      "was written."
    )
