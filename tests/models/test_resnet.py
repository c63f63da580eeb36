import functools

import jax
import numpy as np
import pytest

from semiseg_jax.models.layers import Mode
from semiseg_jax.models.network import BACKBONES


def _convolutions(backbone, output_stride):
  """(stride, dilation) of each 3x3 convolution of the traced encoder, in order."""
  encoder = BACKBONES[backbone](output_stride=output_stride)
  images = jax.ShapeDtypeStruct((1, 64, 64, 3), np.float32)
  run = functools.partial(encoder.init, jax.random.key(0), mode=Mode("eval"))
  found = []
  for equation in jax.make_jaxpr(run)(images).eqns:
    if equation.primitive.name == "conv_general_dilated":
      stride, dilation = equation.params["window_strides"], equation.params["rhs_dilation"]
      padding = equation.params["padding"]
      assert stride[0] == stride[1] and dilation[0] == dilation[1]
      assert padding == ((dilation[0],) * 2,) * 2
      found.append((stride[0], dilation[0]))
  return found


# The stem, then layer1 to layer4: strides on the 3x3, the multi-grid 2, 4, 8 in place of a stride.
@pytest.mark.parametrize("backbone, layer3", [("resnet50_v1s", 6), ("resnet101_v1s", 23)])
@pytest.mark.parametrize(
  "output_stride, layer4", [(16, [(1, 2), (1, 4), (1, 8)]), (32, [(2, 1), (1, 1), (1, 1)])]
)
def test_strides_and_dilations(backbone, layer3, output_stride, layer4):
  plain = (1, 1)
  assert _convolutions(backbone, output_stride) == [
    (2, 1),
    plain,
    plain,
    *[plain] * 3,
    (2, 1),
    *[plain] * 3,
    (2, 1),
    *[plain] * (layer3 - 1),
    *layer4,
  ]
