"""Which pictures a list names."""

import pathlib

import pytest

from semiseg_jax.errors import DataError
from semiseg_jax.evaluation import chosen_files


def _files(root, *names):
  for name in names:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes(b"a picture")


def _list(path, *lines):
  path.write_text("\n".join(lines), encoding="utf-8")
  return str(path)


def test_lines_are_relative_to_the_list_or_to_the_folder(tmp_path):
  _files(tmp_path, "in/b.png", "in/deep/a 1.jpg", "in/.hidden.png", "in/b_mask.png")
  names = lambda chosen: [str(chosen.name(file)) for file in chosen.files]
  here = _list(tmp_path / "here.txt", "in/deep/a 1.jpg", "", "in/b.png")
  assert names(chosen_files.choose(None, here, tmp_path / "o")) == ["in/deep/a 1", "in/b"]
  there = _list(
    tmp_path / "there.txt", "deep/a 1", "b.png masks/b.png", ".hidden.png", "b_mask.png\tx.png"
  )
  found = names(chosen_files.choose(str(tmp_path / "in"), there, tmp_path / "o"))
  assert found == ["deep/a 1", "b", ".hidden", "b_mask"]  # what is named is a picture


def test_all_missing_pictures_are_named(tmp_path):
  _files(tmp_path, "a.png", "b.png", "b.jpg")
  listed = _list(tmp_path / "l.txt", "a.png", "nope.png", "c", "b")
  with pytest.raises(DataError) as caught:
    chosen_files.choose(None, listed, tmp_path / "o")
  text = str(caught.value)
  assert text.startswith("3 pictures of list") and "--images" in text
  assert "line 2: 'nope.png' is not there" in text and "line 3: 'c'" in text
  assert "line 4: 'b' could be b.jpg or b.png" in text


def test_pictures_from_elsewhere_and_named_twice(tmp_path, capsys):
  _files(tmp_path, "lists/a.png", "photos/b.png")
  listed = _list(tmp_path / "lists/l.txt", "a.png", str(tmp_path / "photos/b.png"), "a.png")
  chosen = chosen_files.choose(None, listed, tmp_path / "o")
  assert [str(chosen.name(file)) for file in chosen.files] == ["lists/a", "photos/b"]
  said = capsys.readouterr().out
  assert "1 line of" in said and f"results are named from {tmp_path} on" in said


@pytest.mark.parametrize(
  "images, lines, said",
  [
    (None, None, "--images, or a file with --list"),
    (None, [""], "names no pictures"),
    ("absent", ["a.png"], "absent is not a folder"),
    (None, ["a.png", "a.jpg"], "same name"),
    ("l.txt", None, "not a folder; .* --list"),
  ],
)
def test_what_cannot_be(tmp_path, images, lines, said):
  _files(tmp_path, "a.png", "a.jpg", "l.txt")
  listed = None if lines is None else _list(tmp_path / "l.txt", *lines)
  images = images and str(tmp_path / images)
  with pytest.raises(DataError, match=said):
    chosen_files.choose(images, listed, pathlib.Path(tmp_path / "o"))


def test_a_list_that_is_not_there(tmp_path):
  with pytest.raises(DataError, match="no.txt: .*correct the path"):
    chosen_files.choose(None, str(tmp_path / "no.txt"), tmp_path / "o")
