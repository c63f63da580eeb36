"""Every published format of lists names the same pictures; what could be misread is refused."""

import re
import unicodedata

import numpy as np
import pytest

from semiseg_jax.data import list_files, splits
from semiseg_jax.errors import DataError

VOC = ("2007_000032", "2007_000039", "2011_003271")
CITY = ("aachen_000000_000019", "bremen_000003_000019", "zurich_000121_000019")


def _city(folder, ending):
  return [f"{folder}/train/{id_.split('_')[0]}/{id_}{ending}" for id_ in CITY]


def _pairs(first, second, separator=" "):
  return [f"{a}{separator}{b}" for a, b in zip(first, second)]


def _named(pattern, ids):
  return [pattern.format(id_) for id_ in ids]


FOLDERS = ("train/001", "train/002", "val/001", "x")
FORMATS = {
  "ids with folders": (FOLDERS, FOLDERS),
  "pictures with folders": (FOLDERS, [f"data/images/{id_}.png" for id_ in FOLDERS]),
  "pairs with folders": (FOLDERS, [f"i/{id_}.jpg m/{id_}.png" for id_ in FOLDERS]),
  "ids": (VOC, VOC),
  "TorchSemiSeg, Cityscapes": (
    CITY,
    _pairs(
      _named("/images/train/{}.png", CITY), _named("/segmentation/train/{}_gtFine.png", CITY), "\t"
    ),
  ),
  "UniMatch, VOC": (
    VOC,
    _pairs(_named("JPEGImages/{}.jpg", VOC), _named("SegmentationClass/{}.png", VOC)),
  ),
  "UniMatch and CAC, Cityscapes": (
    CITY,
    _pairs(_city("leftImg8bit", "_leftImg8bit.png"), _city("gtFine", "_gtFine_labelTrainIds.png")),
  ),
  "CAC and CCT, VOC": (
    VOC,
    _pairs(_named("/JPEGImages/{}.jpg", VOC), _named("/SegmentationClassAug/{}.png", VOC)),
  ),
  "U2PL, Cityscapes": (CITY, _city("leftImg8bit", "_leftImg8bit.png")),
  "Cityscapes label ids": (
    CITY,
    _pairs(_city("leftImg8bit", "_leftImg8bit.png"), _city("gtFine", "_gtFine_labelIds.png")),
  ),
  "UniMatch V2, train_extra": (
    CITY,
    _pairs(_city("leftImg8bit", "_leftImg8bit.png"), ("None",) * 3),
  ),
  "no label in a table": (VOC, [f"{VOC[0]}.jpg,nan", *_named("{0}.jpg,{0}.png", VOC[1:])]),
  "UniMatch, slices of volumes": (VOC, _named("data/slices/{}.h5", VOC)),
  "volumes and labels": (VOC, _pairs(_named("i/{}.nii.gz", VOC), _named("l/{}.nii.gz", VOC))),
  "labels alone": (CITY, _city("gtCoarse", "_gtCoarse_labelIds.png")),
  "PaddleSeg, bars": (
    VOC,
    _pairs(_named("my photos/{}.jpg", VOC), _named("my masks/{}_mask.png", VOC), "|"),
  ),
  "commas": (VOC, _pairs(_named("a/{}.jpg", VOC), _named("b/{}.png", VOC), ", ")),
  "semicolons": (VOC, _pairs(VOC, VOC, ";")),
  "several blanks": (VOC, _pairs(_named("{}.JPG", VOC), _named("{}.png", VOC), "   ")),
  "folders with blanks": (
    VOC,
    _pairs(_named("my photos/{}.jpg", VOC), _named("my masks/{}.png", VOC)),
  ),
  "backslashes": (VOC, _named("images\\train\\{}.jpg", VOC)),
  "prepared with Cityscapes endings": (_named("{}_leftImg8bit", CITY), CITY),
  "ids with blanks and other signs": (("a b", "c, d", "e;f|g"), ("a b", "c, d", "e;f|g")),
  "ids with file suffixes": (_named("{}.jpg", VOC), VOC),
}
ENCODINGS = {
  "plain": lambda lines: ("\n".join(lines) + "\n").encode(),
  "no final newline": lambda lines: "\n".join(lines).encode(),
  "CRLF and a mark": lambda lines: b"\xef\xbb\xbf" + ("\r\n".join(lines) + "\r\n").encode(),
  "UTF-16": lambda lines: "\r\n".join(lines).encode("utf-16"),
  "empty lines": lambda lines: ("\n\n  ".join(lines) + " \n \n\n").encode(),
}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("name", FORMATS)
def test_published_formats(tmp_path, name, encoding):
  ids, lines = FORMATS[name]
  (tmp_path / "list.txt").write_bytes(ENCODINGS[encoding](lines))
  assert splits.read_ids(tmp_path / "list.txt", frozenset(ids)) == tuple(ids)


def _problems(tmp_path, text, known=VOC, suffix=""):
  (tmp_path / "list.txt").write_text(text)
  with pytest.raises(DataError) as error:
    splits.read_ids(tmp_path / "list.txt", frozenset(known), suffix)
  _, *lines = str(error.value).splitlines()
  return lines


A, B, C = VOC
REFUSED = {
  "flags of an image set": (f"{A} 1\n{B} -1\n", ["'1' beside", "'-1' beside '2007_000039'"]),
  "the pair of another picture": (f"{A}.jpg {A}.png\n{B}.jpg {C}.png\n", ["line 2.*two pictures"]),
  "a third column": (f"{A}.jpg {A}.png 0 1 0\n", ["line 1: 5 columns separated by blanks"]),
  "three files": (f"{A}.jpg\t{A}.png\t{A}_edge.png\n", ["3 columns separated by tabs"]),
  "two pairs on a line": (f"{A}.jpg {A}.png {B}.jpg {B}.png\n", ["4 columns"]),
  "tabs and blanks": (
    f"{A}.jpg\t{A}.png\n{B}.jpg {B}.png\n{C}.jpg {C}.png\n",
    ["line 2: 2 columns separated by blanks, but line 1 has 2 columns separated by tabs"],
  ),
  "one and two columns": (
    f"{A}\n{B}.jpg {B}.png\n",
    ["line 2: 2 columns .* line 1 has one column"],
  ),
  "all at once": (
    f"{A}\nnobody\n{B}.jpg {A}.png\n{A}.png\n",
    ["line 2: 'nobody'", "line 3: .*two pictures", f"'{A}' 2 times"],
  ),
  "another number": (f"{A}.5\n", [f"'{A}.5' names no picture"]),
  "a heading": (f"image,label\n{A}.jpg,{A}.png\n", ["line 1: 'image' names no picture"]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_could_be_misread_is_refused(tmp_path, name):
  text, expected = REFUSED[name]
  found = _problems(tmp_path, text)
  assert len(found) == len(expected), found
  for line, pattern in zip(found, expected):
    assert re.search(pattern, line), line


def test_a_label_named_otherwise_is_fine(tmp_path):
  (tmp_path / "list.txt").write_text("photo_1.jpg,mask_1.png\nphoto_2.jpg,mask_2.png\n")
  ids = splits.read_ids(tmp_path / "list.txt", {"photo_1", "photo_2"})
  assert ids == ("photo_1", "photo_2")


def test_own_endings(tmp_path):
  (tmp_path / "list.txt").write_text("x/a_rgb.png x/a_L.png\n")
  assert splits.read_ids(tmp_path / "list.txt", {"a"}, suffix="_rgb") == ("a",)
  assert "names no picture" in _problems(tmp_path, "x/a_rgb.png\n", known=("a",))[0]


def test_two_ids_that_differ_by_their_ending_are_not_mixed():
  names = list_files.Names({"a_leftImg8bit", "a_gtFine", "b"})
  assert names.find("x/a_leftImg8bit.png") == "a_leftImg8bit"
  assert names.find("a") is None and names.find("b_gtFine_color.png") == "b"


DEFECTIVE = "leftImg8bit/train_extra/troisdorf/troisdorf_000000_000073_leftImg8bit.png"


@pytest.mark.parametrize("line", [f"{DEFECTIVE} None", DEFECTIVE, "troisdorf_000000_000073"])
def test_the_defective_picture_of_cityscapes_is_left_out_aloud(tmp_path, line):
  """Preparation leaves it out, too; where somebody keeps it, it is a picture like another."""
  file, beside = tmp_path / "list.txt", " None" * line.endswith("None")
  file.write_text(f"{CITY[0]}.png{beside}\n{line}\n" if "/" in line else f"{CITY[0]}\n{line}\n")
  ids, problems, notes = splits.parse_ids(file, frozenset(CITY))
  assert ids == CITY[:1] and not problems
  assert len(notes) == 1 and "troisdorf_000000_000073" in notes[0] and "one color" in notes[0]
  kept = (*CITY, "troisdorf_000000_000073")
  ids, problems, notes = splits.parse_ids(file, frozenset(kept))
  assert ids == (CITY[0], kept[-1]) and not problems and not notes


def test_another_picture_that_is_missing_is_refused(tmp_path):
  (line,) = _problems(tmp_path, f"{CITY[0]}\ntroisdorf_000000_000074\n", known=CITY)
  assert "line 2: 'troisdorf_000000_000074' names no picture" in line


def test_long_lists_are_read_fast(tmp_path):
  ids = [f"city_{i:06d}_000019" for i in np.random.default_rng(0).permutation(20_000)]
  (tmp_path / "list.txt").write_text("\n".join(_pairs(_named("x/{}.png", ids), ids)))
  assert splits.read_ids(tmp_path / "list.txt", frozenset(ids)) == tuple(ids)


def test_a_name_in_another_folder_is_not_taken_for_one_without(tmp_path):
  known = ("001", "train/001", "train/002")
  (line,) = _problems(tmp_path, "val/001.png\n001.png\ntrain/001.png\nval/002.png\n", known)
  assert "'val/001.png' names no picture" in line
  (tmp_path / "list.txt").write_text("001.png\ntrain/001.png\n002\n")
  assert splits.read_ids(tmp_path / "list.txt", frozenset(known)) == known


@pytest.mark.parametrize("ids,lines", [("NFC", "NFD"), ("NFD", "NFC")])
def test_letters_taken_apart_and_names_with_a_prefix(ids, lines):
  id_, line = (unicodedata.normalize(form, "Zürich") for form in (ids, lines))
  names = list_files.Names([id_], suffix="_rgb", prefix="img_")
  assert names.find(f"x/img_{line}_rgb.png") == id_ and names.find(line) == id_
  assert names.find("img_Basel_rgb.png") is None
