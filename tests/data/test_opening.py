import pytest

from semiseg_jax.config import schema
from semiseg_jax.data import opening
from semiseg_jax.errors import DataError


@pytest.mark.parametrize("there", [False, True])
def test_a_dataset_that_was_moved_is_asked_for_by_the_option_that_takes_it(tmp_path, there):
  data = schema.default().data
  data.root = str(tmp_path / "gone")
  if there:
    (tmp_path / "gone").mkdir()
  with pytest.raises(DataError, match="gone .* say where it is now with --config.data.root=FOLDER"):
    opening.open_dataset(data)
  with pytest.raises(DataError, match="now with root=FOLDER"):
    opening.open_dataset(data, option="root=FOLDER")
  data.unlabeled_root = data.root
  with pytest.raises(DataError, match="gone .* now with --config.data.unlabeled_root=FOLDER"):
    opening.open_pool(data, None)
  with pytest.raises(DataError, match="that the run was trained on, .* --data_root=FOLDER"):
    opening.open_again(data, None)
