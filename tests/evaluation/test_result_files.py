import json

import pytest

from semiseg_jax.evaluation import result_files

FIELDS = {
  "miou": 0.5,
  "iou": {"sky": 0.25, "car": None},
  "config": {"data": {"crop": [8, 8]}, "name": "a  [ 1,  2 ]"},
  "versions": {"jax": "1"},
  "confusion": [[1, 2], [3, 4]],
}


def test_numbers_come_first_and_the_rest_is_a_block_behind(tmp_path):
  written = result_files.text(FIELDS)
  assert list(json.loads(written)) == ["miou", "iou", "confusion", "provenance"]
  assert "[1, 2]" in written and '"a  [ 1,  2 ]"' not in written.partition("provenance")[0]
  (tmp_path / "a.json").write_text(written)
  assert result_files.read(tmp_path / "a.json") == FIELDS


def test_files_without_the_block_are_read(tmp_path):
  (tmp_path / "a.json").write_text(json.dumps(FIELDS))
  assert result_files.read(tmp_path / "a.json") == FIELDS


@pytest.mark.parametrize("content", ["[1]", '{"miou": 0.'])
def test_damaged_files_are_an_error(tmp_path, content):
  (tmp_path / "a.json").write_text(content)
  with pytest.raises(ValueError):
    result_files.read(tmp_path / "a.json")
