"""Numbers that no trained network has."""

import numpy as np
import pytest

from data_prep.weights import sound
from data_prep.weights.matching import Match
from semiseg_jax.errors import WeightsError
from semiseg_jax.models.torch.files import read_state_dict

TAKEN = {
  "conv.weight": np.ones((2, 1, 3, 3), np.float32),
  "bn.weight": np.zeros(2, np.float32),
  "bn.running_mean": np.float32([0, -1]),
  "bn.running_var": np.float32([0, 1e-45]),
  "mask_token": np.zeros((1, 4), np.float32),
}


def _check(**changes):
  state = TAKEN | {name.replace("__", "."): np.float32(x) for name, x in changes.items()}
  sound.check(state, [Match({name: name for name in TAKEN}, "", "", ())])


def test_sound_numbers_pass():
  """Scales and tokens of zeros, denormal variances; what is not taken may be anything."""
  _check()
  _check(fc__weight=[[np.nan]])


@pytest.mark.parametrize(
  "changes, said",
  [
    ({"conv__weight": np.full((2, 1, 3, 3), np.nan)}, "NaN or infinity: conv.weight"),
    ({"bn__running_mean": [0, np.inf]}, "NaN or infinity: bn.running_mean"),
    ({"bn__running_var": [1, -1e-3]}, "variances below 0: bn.running_var"),
    ({"conv__weight": np.zeros((2, 1, 3, 3))}, "zeros alone, where a kernel should be: conv.weig"),
    ({"conv__weight": np.full((2, 1, 3, 3), 1e-45)}, "zeros alone, where a kernel .*: conv.weig"),
    ({"conv__weight": np.full((2, 1, 3, 3), -3e38)}, "numbers beyond 1e.30: conv.weight"),
    ({"bn__running_var": [1, 3e38]}, "numbers beyond 1e.30: bn.running_var"),
    ({"bn__running_var": [0, 0]}, "zeros alone, where variances should be: bn.running_var"),
    (
      {"bn__weight": [np.nan, 0], "bn__running_var": [-1, 0]},
      "(?s)infinity: bn.weight\n.*below 0: bn.running_var\n.*nothing was written",
    ),
  ],
)
def test_unsound_numbers_are_named(changes, said):
  with pytest.raises(WeightsError, match=said):
    _check(**changes)


@pytest.mark.filterwarnings("error")
def test_numbers_beyond_float32_are_infinite(tmp_path):
  np.savez(tmp_path / "x.npz", x=np.float64([1e300]))
  assert np.isinf(read_state_dict(tmp_path / "x.npz")["x"]).all()
