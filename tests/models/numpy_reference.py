"""PyTorch's layers in float64 numpy, pixel by pixel: the reference of the layer tests."""

import numpy as np


def conv2d(x, weight, *, stride=1, dilation=1, padding=0, groups=1):
  """`x` [B,H,W,C], `weight` [out,C/groups,kh,kw] -> [B,h,w,out]."""
  x = np.pad(np.asarray(x, np.float64), ((0, 0), (padding,) * 2, (padding,) * 2, (0, 0)))
  out_channels, per_group, kh, kw = weight.shape
  height = (x.shape[1] - dilation * (kh - 1) - 1) // stride + 1
  width = (x.shape[2] - dilation * (kw - 1) - 1) // stride + 1
  y = np.zeros((x.shape[0], height, width, out_channels))
  per_group_out = out_channels // groups
  for g in range(groups):
    kernel = weight[g * per_group_out : (g + 1) * per_group_out].astype(np.float64)
    source = x[..., g * per_group : (g + 1) * per_group]
    for i in range(height):
      for j in range(width):
        patch = source[
          :,
          i * stride : i * stride + dilation * (kh - 1) + 1 : dilation,
          j * stride : j * stride + dilation * (kw - 1) + 1 : dilation,
        ]
        y[:, i, j, g * per_group_out : (g + 1) * per_group_out] = np.einsum(
          "bhwc,ochw->bo", patch, kernel
        )
  return y


def batch_norm(x, scale, bias, mean, var, epsilon=1e-5):
  """Normalises the last axis of `x` with the statistics given."""
  return (x - mean) / np.sqrt(var.astype(np.float64) + epsilon) * scale + bias
