import numpy as np
import pytest

from semiseg_jax.data import value_ranges
from semiseg_jax.data.pictures import read_picture
from semiseg_jax.errors import DataError


@pytest.fixture
def files(tmp_path):
  """One picture of each kind of values, of which one range cannot be right for two."""
  arrays = {"uint8": 200, "uint16": 1000, "int32": 1000, "float32": 0.5}
  for name, value in arrays.items():
    np.save(tmp_path / f"{name}.npy", np.full((4, 5), value, name))
  return tmp_path


def test_a_range_is_for_one_kind_of_values(files):
  integers = read_picture(files / "uint16.npy", value_range=(0, 4000)).values
  assert integers == value_ranges.kind_of(np.dtype("int32"))
  how = {"value_range": (0, 4000), "values": integers}
  assert read_picture(files / "int32.npy", **how).pixels.max() == 64
  for name in ("uint8", "float32"):
    with pytest.raises(DataError, match=rf"{name}.npy: .*\({name}\).* is for integers of more"):
      read_picture(files / f"{name}.npy", **how)
  assert read_picture(files / "uint8.npy", value_range=(0, 4000)).pixels.max() == 200
