import pytest

from data_prep.sources import folder_leaks


def test_a_picture_that_is_evaluated_and_trained_on_is_an_error():
  lists = {"val": ("a", "b", "c"), "train": ("b", "d", "c"), "labeled_1_8": ("d",), "other": ("a",)}
  (line,) = folder_leaks.shared_ids(lists)
  assert line.startswith("2 pictures are on the list 'train' and on 'val': 'b', 'c';")
  assert folder_leaks.shared_ids({"val": ("a",), "labeled": ("a",)})[0].startswith("1 picture is")
  assert not folder_leaks.shared_ids({"train": ("a",), "labeled": ("a",), "val": ("b",)})


@pytest.fixture
def paths(tmp_path):
  """'copy' has the bytes of 'a'; 'late' and 'end' only their sizes and first 64 KiB."""
  head = bytes(1 << 16)
  contents = {"a": b"one", "copy": b"one", "b": b"two", "late": head + b"1", "end": head + b"2"}
  for name, content in contents.items():
    (tmp_path / name).write_bytes(content)
  return {name: str(tmp_path / name) for name in contents}


@pytest.mark.parametrize("name", ["val", "test"])
def test_copies_of_what_is_trained_on_are_said(paths, name):
  said = []
  lists = {name: ("a", "late"), "train": ("b", "copy", "end")}
  folder_leaks.say_leaks(lists, paths, said.append)
  (line,) = said
  assert f"1 picture is on the list {name!r}, and byte for byte" in line
  assert f"{paths['a']} = {paths['copy']};" in line


def test_what_differs_is_not_said(paths):
  said = []
  folder_leaks.say_leaks({"val": ("a", "late"), "train": ("b", "end")}, paths, said.append)
  folder_leaks.say_leaks({"train": ("a", "copy")}, paths, said.append)
  folder_leaks.say_leaks({"val": ("a", "copy"), "train": ("b",)}, paths, said.append)
  assert not said


def test_pictures_of_test_that_are_trained_on_are_said(paths):
  said = []
  folder_leaks.say_leaks({"test": ("a",), "train": ("a", "b")}, paths, said.append)
  assert len(said) == 1 and "1 picture is on the list 'test' and trained on: 'a'" in said[0]
