"""Measures of doubt where their values are known."""

import jax
import numpy as np

from semiseg_jax.suggesting import measures

SURE, OTHER, HALF, FLAT = (1.0, 0, 0, 0), (0, 1.0, 0, 0), (0.5, 0.5, 0, 0), (0.25,) * 4
MAPS = jax.jit(measures.maps)


def _maps(*networks):
  every = np.array(networks, np.float32)
  return MAPS(every.mean(0), every)


def test_values_that_are_known():
  first, second = (SURE, FLAT, HALF, SURE), (SURE, FLAT, HALF, OTHER)
  expected = [
    (0, 0, 0),
    (1, 0, 1),
    (0.5, 0, 1),  # both find it ambiguous, and agree
    (0.5, 1, 1),  # the same mean, of networks that contradict each other
  ]
  np.testing.assert_allclose(_maps(first, second), expected, atol=1e-6)
  three = (0.5, 2 / 3 * np.log(2) / np.log(3), 1)
  np.testing.assert_allclose(_maps([SURE], [OTHER], [HALF]), [three], atol=1e-6)
  alone = (0.8018186 / np.log(4), 0, 0.5)
  np.testing.assert_allclose(_maps([(0.7, 0.2, 0.1, 0)]), [alone], atol=1e-6)


def test_of_one_network_of_several_entropy_and_margin_are_its_own():
  every = np.array((SURE, OTHER), np.float32)[:, None]
  np.testing.assert_allclose(MAPS(every[1], every), [(0, 1, 0)], atol=1e-6)


def test_one_class_leaves_no_doubt():
  np.testing.assert_array_equal(_maps([(1.0,)], [(1.0,)]), [(0, 0, 0)])


def test_a_picture_has_the_mean_of_its_most_uncertain_quarter():
  values = np.zeros((4, 5, 3), np.float32)
  values[1, :, 0] = (0.1, 0.2, 0.3, 0.4, 0.5)  # 5 of 20 pixels
  values[..., 1] = 0.7
  values[2:, 3:, 2] = 1  # 4 of the 5
  np.testing.assert_allclose(measures.of_picture(values), (0.3, 0.7, 0.8), rtol=1e-6)


def test_pixels_without_data_do_not_count():
  values = np.zeros((4, 4, 1), np.float32)
  values[0], values[1, 0] = 1, 0.6
  valid = np.ones((4, 4), bool)
  valid[0] = False
  np.testing.assert_allclose(measures.of_picture(values, valid), (0.2,), rtol=1e-6)
  np.testing.assert_array_equal(measures.of_picture(values, np.zeros((4, 4), bool)), (0,))


def test_ranks():
  np.testing.assert_allclose(
    measures.ranks(np.array((3.0, 1, 2, 2, 9))), (0.75, 0, 0.375, 0.375, 1)
  )
  np.testing.assert_array_equal(measures.ranks(np.array((5.0,))), (0,))
