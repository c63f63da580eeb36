"""Published lists are told by their digests."""

import hashlib
import re

import numpy as np
import pytest

from semiseg_jax.data import known_lists, lists_of_cac, lists_of_cps, lists_of_unimatch
from tests.golden_files import golden

NAMES = {"voc": "VOC", "city": "Cityscapes"}


def _digests(name):
  return {k: str(v) for k, v in golden(name).items() if k.endswith("_sha256")}


def test_every_digest_of_the_reference_lists_is_known():
  for file, source in (("cps_splits", "CPS"), ("u2pl_splits", "U2PL")):
    for key, value in _digests(file).items():
      if "unlabeled" in key:
        name = known_lists.RESTS[value]
      else:
        name, over = known_lists.KNOWN[value]
        assert ("sorted" in over) == ("sorted" in key) or over == known_lists.BOTH, key
      assert name.startswith(NAMES[key.split("_")[0]]), key
      if "_labeled" in key and "1464" not in key:
        assert source in name, key
      ratio = re.search(r"_1-(\d+)_", key)
      if ratio:
        assert re.search(rf" 1/{ratio[1]} ", name), key


def test_the_rest_and_the_labeled_list_bear_one_name():
  digests = _digests("u2pl_splits")
  for key, value in digests.items():
    if "_unlabeled_" in key:
      labeled = digests[key.replace("unlabeled", "labeled")]
      assert known_lists.RESTS[value] == known_lists.KNOWN[labeled][0]


def test_the_ratio_in_a_name_is_that_of_the_list():
  cps, u2pl = golden("cps_splits"), golden("u2pl_splits")
  wholes = {
    "Cityscapes train ": len(cps["cityscapes_train_order"]),
    "VOC train ": len(cps["voc_train1464_in_train_aug"]),
  }
  for key in [key for key, value in u2pl.items() if value.ndim]:
    name, _ = known_lists.KNOWN[str(u2pl[f"{key}_sha256"])]
    for beginning, count in wholes.items():
      if name.startswith(beginning):
        assert abs(len(u2pl[key]) - count / int(re.search(r" 1/(\d+) ", name)[1])) < 1, key


def test_lists_of_cac_bear_their_ratio_and_their_number():
  wholes = {"VOC train_aug": 10_582, "Cityscapes train": 2975}
  for name in (n for n in lists_of_cac.LISTS if " 1/" in n):
    whole, ratio, count = re.fullmatch(r"(.*) 1/(\d+) \((\d+)\), list [012] of CAC", name).groups()
    assert abs(int(count) - wholes[whole] / int(ratio)) < 1, name
  digests = [digest for pair in lists_of_cac.LISTS.values() for digest in pair]
  assert len(set(digests)) == len(digests) == 2 * (3 * 3 + 5 + 7)
  assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in digests)


def test_the_rest_of_cityscapes_is_called_so(monkeypatch):
  ids = [f"city_{k}" for k in "abcd"]
  monkeypatch.setitem(known_lists.RESTS, known_lists.digest(ids[1:]), "Cityscapes train 1/4 (1)")
  assert known_lists.name_of(ids[:0:-1]) == "Cityscapes train without Cityscapes train 1/4 (1)"
  same = "same ids as Cityscapes train 1/4 (1), other order"
  assert known_lists.name_of(ids[:1], ids) == same


@pytest.fixture
def small_table(monkeypatch):
  def sha(ids):
    return hashlib.sha256("".join(f"{id_}\n" for id_ in ids).encode()).hexdigest()

  table = {
    sha("cab"): ("Small in order", known_lists.FILE),
    sha("abc"): ("Small", known_lists.SORTED),
    sha("de"): ("Pair", known_lists.BOTH),
    sha("gf"): ("Shuffled", known_lists.FILE),
  }
  monkeypatch.setattr(known_lists, "KNOWN", table)
  monkeypatch.setattr(known_lists, "RESTS", {sha("abcde"): "Shuffled"})


@pytest.mark.parametrize(
  "ids, train, name",
  [
    ("cab", "", "Small in order"),
    ("abc", "", "Small, sorted"),
    ("bca", "", "same ids as Small, not sorted"),
    ("de", "", "Pair"),
    ("ed", "", "same ids as Pair, other order"),
    ("gf", "", "Shuffled"),
    ("fg", "", None),
    ("fg", "gfedcba", "same ids as Shuffled, other order"),
    ("abcde", "", "VOC train_aug without Shuffled"),
    ("ecabd", "", "VOC train_aug without Shuffled"),
    ("ab", "abc", None),
    ("", "", None),
  ],
)
def test_order_is_told(small_table, ids, train, name):
  assert known_lists.name_of(tuple(ids), tuple(train)) == name


def test_digest_is_of_lines():
  expected = hashlib.sha256("2007_000032\nstraße\n".encode()).hexdigest()
  assert known_lists.digest(["2007_000032", "straße"]) == expected


def test_reference_lists_are_what_the_handed_positions_say():
  """Positions of the reference files: permutations, disjoint parts, and how they nest."""
  cps, u2pl = golden("cps_splits"), golden("u2pl_splits")
  order = cps["cityscapes_train_order"]
  assert sorted(order.tolist()) == list(range(len(order)))
  fine = cps["voc_train1464_in_train_aug"]
  assert (np.diff(fine) > 0).all()
  for key, positions in u2pl.items():
    if positions.ndim:
      assert len(set(positions.tolist())) == len(positions) and positions.min() >= 0, key
  for key in [k for k in cps if k.startswith("pseudoseg_labeled")]:
    rest = cps[key.replace("labeled", "unlabeled")]
    both = set(cps[key].tolist()) & set(rest.tolist())
    assert set(cps[key].tolist()) | set(rest.tolist()) == set(range(len(fine))), key
    assert len(both) == len(cps[key]) + len(rest) - len(fine)


@pytest.mark.parametrize(
  "whole, count",
  [("VOC train", 1464), ("Cityscapes train", 2975), ("ADE20K train", 20_210)],
)
def test_lists_of_unimatch_bear_their_ratio(whole, count):
  names = [name for name in lists_of_unimatch.LISTS if name.startswith(f"{whole} 1/")]
  for name in names:
    ratio, ids = re.search(r" 1/(\d+) \((\d+)\)", name).groups()
    assert abs(int(ids) - count / int(ratio)) <= 1, name
  assert len(names) == {"VOC train": 2, "Cityscapes train": 3, "ADE20K train": 8}[whole]


def test_every_digest_stands_for_one_list():
  tables = (lists_of_cac.LISTS, lists_of_unimatch.LISTS)
  digests = [digest for table in tables for pair in table.values() for digest in pair]
  for table in (lists_of_cps.FILES, lists_of_cps.SETS, lists_of_cps.RESTS):
    digests += table.values()
  assert len(set(digests)) == len(digests)
  assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in digests)
  named = {name for name, _ in known_lists.KNOWN.values()}
  assert named >= lists_of_cps.RESTS.keys() and len(lists_of_cps.RESTS) == 1 + 8 + 3


def test_lists_that_were_published_together_are_known_each():
  names = [[known_lists.KNOWN[d][0] for d in pair] for pair in sorted(lists_of_cps.TOGETHER)]
  assert ["Cityscapes train (2,975)"] * 2 in names and len(names) == 5
  for labeled, unlabeled in (pair for pair in names if "VOC" in pair[0]):
    ratio = re.search(r" (1/\d+ \(\d+\))", labeled)[1]
    assert f" without {ratio} of PseudoSeg" in unlabeled


def test_ade20k_and_voc_are_called_so(monkeypatch):
  for name, rest in (("ADE20K train 1/2 (1)", ["a"]), ("VOC train 1/2 (1)", ["b"])):
    monkeypatch.setitem(known_lists.RESTS, known_lists.digest(rest), name)
  assert known_lists.name_of(["a"]) == "ADE20K train without ADE20K train 1/2 (1)"
  assert known_lists.name_of(["b"]) == "VOC train_aug without VOC train 1/2 (1)"
