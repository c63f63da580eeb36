"""Entries of the compilation cache that a kill cut short are removed, the others are used."""

import subprocess
import sys

import pytest

from semiseg_jax.workdir import compilation_cache

PROGRAM = """
import sys, jax
from semiseg_jax.workdir import compilation_cache
compilation_cache.start(sys.argv[1], own=True)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
hits = []
jax.monitoring.register_event_listener(lambda event, **_: hits.append(event))
print(float(jax.jit(lambda x: x * 3 + 1)(2.0)), sum("cache_hits" in h for h in hits))
compilation_cache.seal(sys.argv[1])
"""


def _start(folder):
  done = subprocess.run(
    [sys.executable, "-c", PROGRAM, str(folder)], capture_output=True, text=True, timeout=120
  )
  assert done.returncode == 0, done.stderr
  value, hits = done.stdout.split()
  return float(value), int(hits) > 0


def test_unsealed_and_damaged_entries_are_removed(tmp_path):
  for name in ("whole", "flipped", "cut", "odd"):
    (tmp_path / f"{name}-cache").write_bytes(name.encode() * 100)
  compilation_cache.seal(tmp_path)
  flipped = bytearray((tmp_path / "flipped-cache").read_bytes())
  flipped[7] ^= 1
  (tmp_path / "flipped-cache").write_bytes(flipped)
  (tmp_path / "cut-cache").write_bytes(b"cut")
  (tmp_path / "unsealed-cache").write_bytes(b"unsealed")
  (tmp_path / "odd-cache.sha256").write_bytes(b"\xff")
  removed = ["cut-cache", "flipped-cache", "odd-cache", "unsealed-cache"]
  assert compilation_cache.clean(tmp_path) == removed
  assert sorted(p.name for p in tmp_path.iterdir()) == ["whole-cache", "whole-cache.sha256"]
  assert compilation_cache.clean(tmp_path / "absent") == []


@pytest.mark.slow
def test_a_damaged_entry_is_compiled_again_and_then_used(tmp_path):
  assert _start(tmp_path) == (7.0, False)
  assert _start(tmp_path) == (7.0, True)
  for entry in tmp_path.glob("*-cache"):
    entry.write_bytes(entry.read_bytes()[:-20])
  assert _start(tmp_path) == (7.0, False)
  assert _start(tmp_path) == (7.0, True)
