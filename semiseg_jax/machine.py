"""Which devices this machine has, known before jax is imported."""

import glob
import os

# NVIDIA, AMD, TPU with its own driver, TPU virtual machines.
_ACCELERATORS = ("/dev/nvidiactl", "/dev/kfd", "/dev/accel*", "/dev/vfio")


def only_cpu() -> bool:
  """Whether programs run on the CPU: JAX_PLATFORMS says so, or there is nothing else."""
  if os.environ.get("JAX_PLATFORMS"):
    return os.environ["JAX_PLATFORMS"] == "cpu"
  return not any(glob.glob(pattern) for pattern in _ACCELERATORS)
