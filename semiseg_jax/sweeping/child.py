"""Runs a module as `python -m` does, and ends with the process that started it.

    python -m semiseg_jax.sweeping.child semiseg_jax.main --config=... --workdir=...

Whoever starts it holds the other end of its standard input.  When that process is gone, killed
too, the pipe is closed: then this one is asked to end, and a run saves its state first.
"""

import os
import runpy
import signal
import sys
import threading


def main() -> None:
  """Watches standard input, and runs the module that the arguments name."""
  threading.Thread(target=_watch, name="parent", daemon=True).start()
  module, *arguments = sys.argv[1:]
  sys.argv = [module, *arguments]
  runpy.run_module(module, run_name="__main__", alter_sys=True)


def _watch() -> None:
  while os.read(0, 1):  # past Python's buffers, which the end of this process locks
    pass
  os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
  main()
