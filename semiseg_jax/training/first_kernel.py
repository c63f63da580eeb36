"""Pretrained backbones for pictures of other than three channels: their first kernel is fitted."""

from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

Tree = Any
_INPUTS = 2  # the axis of a kernel [h, w, in, out]


def fitted(loaded: Tree, stacked: Tree) -> tuple[Tree, str]:
  """The encoder's parameters with a first kernel for the channels of this network.

  Each channel gets the sum of the pretrained kernels over theirs, divided by the number of channels
  here: nobody knows which channel is red, and a picture that is the same in all channels of
  normalized values gives the response that it gave.

  Args:
    loaded: nested dict of the weights' arrays.
    stacked: that of the network, arrays [n, ...].

  Returns:
    The parameters, and what was done, '' for nothing: one kernel differs in its inputs alone.
  """
  there, here = (flatten_dict(tree, sep="/") for tree in (loaded, stacked))
  odd = [path for path in there if path in here and there[path].shape != here[path].shape[1:]]
  if len(odd) != 1 or there[odd[0]].ndim != 4:
    return loaded, ""
  kernel, wanted = there[odd[0]], here[odd[0]].shape[1:]
  had, channels = kernel.shape[_INPUTS], wanted[_INPUTS]
  if (*kernel.shape[:_INPUTS], channels, *kernel.shape[_INPUTS + 1 :]) != wanted:
    return loaded, ""
  mean = kernel.sum(axis=_INPUTS, keepdims=True) / channels
  there[odd[0]] = np.repeat(mean, channels, axis=_INPUTS).astype(kernel.dtype)
  return unflatten_dict(there, sep="/"), (
    f"its first kernel {odd[0]} takes {had} channels, the pictures have {channels}: each gets the "
    f"sum of the {had} kernels divided by {channels}"
  )
