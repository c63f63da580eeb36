import pytest

from data_prep.sources import layouts
from semiseg_jax.errors import DataError


@pytest.mark.parametrize(
  "shape", [(3, 32, 40), (1, 32, 40), (6, 32, 40), (100, 64, 48), (32, 32, 32), (145, 145, 200)]
)
def test_arrays_that_can_be_read_in_two_ways_are_refused(shape):
  with pytest.raises(DataError, match=f"a.npy: .* give --channels {shape[2]}$"):
    layouts.channels_of("a.npy", shape)


@pytest.mark.parametrize(
  "shape", [(32, 40, 3), (2, 40, 3), (1, 1, 4), (9, 11, 5), (512, 614, 176), (40, 32, 1)]
)
def test_others_have_their_channels_last(shape):
  assert layouts.channels_of("a.npy", shape) == shape[2]
