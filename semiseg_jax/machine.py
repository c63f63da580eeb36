"""Which devices this machine has and which flags its XLA takes, known before jax is imported."""

import glob
import os
import re
import subprocess
import sys

# NVIDIA, AMD, TPU with its own driver, TPU virtual machines.
_ACCELERATORS = ("/dev/nvidiactl", "/dev/kfd", "/dev/accel*", "/dev/vfio")


def only_cpu() -> bool:
  """Whether programs run on the CPU: JAX_PLATFORMS says so, or there is nothing else."""
  if os.environ.get("JAX_PLATFORMS"):
    return os.environ["JAX_PLATFORMS"] == "cpu"
  return not any(glob.glob(pattern) for pattern in _ACCELERATORS)


def refused_flags(flags: str) -> str:
  """Returns what XLA says against flags, '' where it takes them all.

  It ends the process that gives it others, with a page of text: a process of its own parses them,
  without jax or a backend, in some tenths of a second.
  """
  ended = subprocess.run(
    [sys.executable, "-c", "from jaxlib import xla_client; xla_client.CompileOptions()"],
    env={**os.environ, "XLA_FLAGS": flags},
    capture_output=True,
    text=True,
  )
  said = re.search(r"(Unknown flags? in XLA_FLAGS: .*|Couldn't interpret value .*)", ended.stderr)
  return said[1].rstrip(".") if ended.returncode and said else ""
