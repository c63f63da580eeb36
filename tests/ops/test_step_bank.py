import jax
import numpy as np
import pytest

from semiseg_jax.ops import step_bank

B, H, W, D = 4, 2, 3, 5


@pytest.fixture
def maps():
  rng = np.random.default_rng(0)
  z, y = rng.normal(size=(B, H, W, D)).astype(np.float32), rng.integers(0, 9, (B, H, W))
  return z, y.astype(np.uint8), rng.random((B, H, W)).astype(np.float32)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("share", [0.5, 1.0])
def test_the_smallest_of_a_group_are_drawn_in_their_order(maps, groups, share):
  z, y, u = maps
  number = int(share * z[..., 0].size / groups)
  rows = step_bank.drawn_rows(z, y, u, groups=groups, number=number)
  assert rows["held"].all() and rows["keys"].shape == (groups * number, D)
  for g, order in enumerate(np.argsort(u.reshape(groups, -1))):
    places = order[:number]
    part = slice(g * number, (g + 1) * number)
    np.testing.assert_array_equal(rows["keys"][part], z.reshape(groups, -1, D)[g][places])
    np.testing.assert_array_equal(rows["labels"][part], y.reshape(groups, -1)[g][places])


def test_what_is_missing_is_not_held(maps):
  z, y, u = maps
  rows = step_bank.drawn_rows(z, y, u, groups=2, number=20)
  there = np.arange(20) < B * H * W // 2
  np.testing.assert_array_equal(rows["held"], np.concatenate([there, there]))
  assert not np.asarray(rows["keys"])[~np.asarray(rows["held"])].any()


def test_no_gradient_enters_a_bank(maps):
  z, y, u = maps
  kept = lambda z: step_bank.drawn_rows(z, y, u, groups=1, number=7)["keys"].sum()
  assert not np.asarray(jax.grad(kept)(z)).any()


def test_the_oldest_step_goes_first(maps):
  bank = step_bank.empty_bank(2, 3, 24, D)
  assert [x.dtype.name for x in bank.values()] == ["float32", "uint8", "bool"]
  bank = {name: x[0] for name, x in bank.items()}
  assert not bank["held"].any()
  z, y, u = maps
  for k in range(5):
    rows = step_bank.drawn_rows(z + k, y + k, u, groups=1, number=24)
    bank = step_bank.pushed(bank, rows)
    held = [k - 2, k - 1, k][max(0, 2 - k) :]
    assert np.asarray(bank["held"]).all(1).sum() == len(held)
    for step, old in zip(held, np.asarray(bank["keys"])[3 - len(held) :]):
      np.testing.assert_array_equal(np.sort(old, axis=None), np.sort(z + step, axis=None))
