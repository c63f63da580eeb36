"""Numbers that no trained network has: they are named, and nothing is written."""

from collections.abc import Mapping, Sequence

import numpy as np

from data_prep.weights.matching import Match, listed
from semiseg_jax.errors import WeightsError

_LARGEST = 1e30  # their squares and sums are infinite in float32
_SMALLEST = np.finfo(np.float32).tiny  # below it a number is taken as 0 by most devices


def check(state: Mapping[str, np.ndarray], matches: Sequence[Match]) -> None:
  """Looks at the tensors that networks take.

  Raises:
    WeightsError: NaN or infinity, numbers beyond 1e30, variances below 0, variances or kernels of
      zeros alone; with all names.  Some channels of variance 0 are usual.
  """
  taken = [name for match in matches for name in match.names.values()]
  variances = [name for name in taken if name.endswith("running_var")]
  faults = {
    "NaN or infinity": [name for name in taken if not np.isfinite(state[name]).all()],
    f"numbers beyond {_LARGEST:.0e}": [
      name
      for name in taken
      if ((size := np.abs(state[name])) > _LARGEST).any() and (size < np.inf).all()
    ],
    "variances below 0": [name for name in variances if (state[name] < 0).any()],
    "zeros alone, where variances should be": [name for name in variances if not state[name].any()],
    "zeros alone, where a kernel should be": [
      name
      for name in taken
      if name.endswith("weight")
      and state[name].ndim > 1
      and not (np.abs(state[name]) >= _SMALLEST).any()
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
