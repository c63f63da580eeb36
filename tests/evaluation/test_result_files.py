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


@pytest.mark.parametrize(
  "change", [("0.5", "0.6"), ("[1, 2]", "[1, 3]"), ('"jax": "1"', '"jax": "2"'), ("sky", "ski")]
)
def test_what_was_changed_by_a_digit_is_an_error(tmp_path, change):
  written = result_files.text(FIELDS)
  assert change[0] in written
  (tmp_path / "a.json").write_text(written.replace(*change))
  with pytest.raises(ValueError, match="seal"):
    result_files.read(tmp_path / "a.json")
