"""Parts hold whole groups and each class in its share."""

import re

import numpy as np
import pytest

from data_prep import partition
from semiseg_jax.errors import DataError


def _shown(count=240, seed=0):
  """Classes that all, half, a tenth, and six of the pictures show."""
  rng = np.random.default_rng(seed)
  shown = rng.random((count, 4)) < [1, 0.5, 0.1, 0]
  shown[rng.permutation(count)[:6], 3] = True
  return shown


@pytest.mark.parametrize("wanted", [[80, 80, 80], [216, 24], [30, 210], [60, 60, 60, 60]])
def test_single_pictures_give_exact_sizes_and_each_class_its_share(wanted):
  shown = _shown()
  parts = partition.divide([f"{i:03d}" for i in range(240)], shown, wanted, seed=0)
  np.testing.assert_array_equal(np.bincount(parts), wanted)
  for part, size in enumerate(wanted):
    have, ideal = shown[parts == part].sum(0), shown.sum(0) * size / 240
    # The class is dealt out to whole pictures, and more common ones share pictures with rarer ones.
    assert (abs(have - ideal) <= np.array([1, 4, 2, 1])).all(), (have, ideal)


def test_a_rare_class_is_in_every_fold_where_lots_leave_it_out():
  shown = _shown()
  ids = [f"{i:03d}" for i in range(240)]
  by_lot = [
    partition.divide(ids, shown[:, :0], [40] * 6, seed=seed)[shown[:, 3]] for seed in range(5)
  ]
  assert any(len(set(parts)) < 6 for parts in by_lot)
  for seed in range(5):
    parts = partition.divide(ids, shown, [40] * 6, seed)
    np.testing.assert_array_equal(np.bincount(parts[shown[:, 3]]), [1] * 6)


@pytest.mark.parametrize("stratified", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_groups_are_never_divided_and_no_part_is_empty(stratified, seed):
  rng = np.random.default_rng(seed)
  groups = [f"g{k}" for k, size in enumerate(rng.integers(1, 12, 30)) for _ in range(size)]
  shown = rng.random((len(groups), 5)) < 0.3
  wanted = partition.shares(len(groups), 5)
  parts = partition.divide(groups, shown if stratified else shown[:, :0], wanted, seed)
  for group in set(groups):
    assert len({part for part, name in zip(parts, groups) if name == group}) == 1
  assert (abs(np.bincount(parts, minlength=5) - wanted) <= 11).all()
  assert set(parts) == set(range(5))


def test_one_large_group_does_not_leave_a_hold_out_without_pictures():
  groups = ["a"] * 50 + ["b"] * 50 + ["c"] * 3
  parts = partition.divide(groups, np.ones((103, 1), bool), [93, 10], seed=0)
  assert [name for name, part in zip(groups, parts) if part == 1] == ["c"] * 3


def test_two_large_groups_are_one_for_each_part():
  parts = partition.divide(["a"] * 10 + ["b"] * 9, np.zeros((19, 0), bool), [17, 2], seed=0)
  assert np.bincount(parts).tolist() in ([10, 9], [9, 10])


def test_sizes_are_kept_where_rare_classes_would_fill_a_part():
  """Of two classes in two pictures each, a quarter of the pictures can hold but one."""
  shown = np.array([[1, 0], [1, 0], [0, 1], [0, 1]], bool)
  for seed in range(4):
    parts = partition.divide(list("abcd"), shown, [3, 1], seed)
    assert np.bincount(parts).tolist() == [3, 1]


def test_the_same_seed_divides_alike_and_another_does_not():
  ids, shown = [f"{i:03d}" for i in range(240)], _shown()
  first, again, other = (partition.divide(ids, shown, [120, 120], seed) for seed in (3, 3, 4))
  np.testing.assert_array_equal(first, again)
  assert (first != other).any()


def test_by_hand():
  """The rare class goes to both parts; then both have one of the three pictures of the other."""
  shown = np.array([[1, 0], [1, 0], [1, 0], [1, 0], [0, 1], [0, 1]], bool)
  parts = partition.divide(list("abcdef"), shown, [3, 3], seed=0)
  assert sorted(parts[4:]) == [0, 1] and sorted(parts[:4]) == [0, 0, 1, 1]


def test_names_of_groups():
  ids = ["p1_a", "p1_b", "p22_a"]
  assert partition.group_names(ids, r"p\d+") == ["p1", "p1", "p22"]
  assert partition.group_names(ids, r"p(\d+)_(.)") == ["1", "1", "22"]
  assert partition.group_names(["x/v1/3", "y/v1/4"], r"^(.*)/") == ["x/v1", "y/v1"]


@pytest.mark.parametrize(
  "pattern, message",
  [
    ("p(", "no regular expression"),
    (r"q\d", "'p1_a': finds no group(.|\n)*'p2_b': finds no group"),
    ("x*", "'p1_a': finds no group"),
    ("p(9)?", "'p1_a': finds no group"),
  ],
)
def test_patterns_that_find_no_group(pattern, message):
  with pytest.raises(DataError, match=f"--group {re.escape(repr(pattern))}(.|\n)*{message}"):
    partition.group_names(["p1_a", "p2_b"], pattern)


def test_groups_are_named():
  assert partition.describe(["b", "a", "b"]) == "2 groups: a, b"
  assert partition.describe([str(i) for i in range(9)]) == "9 groups: 0, 1, 2, 3, 4, 5, 6, 7, ..."
  assert partition.describe(["x"]) == "1 group: x"


def test_fewer_groups_than_parts():
  with pytest.raises(
    DataError, match="4 labeled pictures of 2 groups: a, b cannot be divided into 3 parts"
  ):
    partition.divide(["a", "b", "a", "a"], np.ones((4, 1), bool), [2, 1, 1], seed=0)
