"""The peak of this process and its children, against pages that were touched."""

import multiprocessing
import subprocess
import sys
import time

import numpy as np
import pytest

from semiseg_jax.benchmark.peak import Peak

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="proportional sizes are Linux's")
_MB = 1 << 20


def _hold(megabytes, seconds=0.5):
  held = np.ones(megabytes * _MB, np.uint8)
  time.sleep(seconds)
  del held


def _peak(work):
  with Peak(every_s=0.01) as before:
    time.sleep(0.1)
  with Peak(every_s=0.01) as peak:
    work()
  return (peak.bytes - before.bytes) / _MB


def peak_of_one():
  return _peak(lambda: _hold(200))


def _printed(function):
  """What a function of this file gives in a process of its own: threads of other tests allocate."""
  code = f"from {__name__} import {function} as run; print(run())"
  done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
  return float(done.stdout)


def test_what_this_process_touches_counts_though_it_is_freed():
  assert 190 < _printed("peak_of_one") < 230


def peak_of_a_family():
  """Two forked processes share 200 MB with this one, and touch 100 MB of their own each."""
  shared, fork = np.ones(200 * _MB, np.uint8), multiprocessing.get_context("fork")

  def work():
    children = [fork.Process(target=_hold, args=(100,)) for _ in range(2)]
    for child in children:
      child.start()
    for child in children:
      child.join()

  peak = _peak(work)
  assert shared[-1] == 1
  return peak


@pytest.mark.slow
def test_children_count_and_what_they_share_counts_once():
  assert 190 < _printed("peak_of_a_family") < 300
