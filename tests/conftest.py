"""Settings of every test, made before jax is imported: CPU, quick compiles, a compilation cache."""

import gc
import importlib.metadata
import os
import pathlib
import signal
import tempfile

# An unknown flag ends the process: that of the emitters is gone from jaxlib 0.11.  A large program
# that is split up for several threads takes many times as long to compile.
flags = ["--xla_backend_optimization_level=0", "--xla_cpu_parallel_codegen_split_count=1"]
if importlib.metadata.version("jaxlib").startswith("0.10."):
  flags.append("--xla_cpu_use_fusion_emitters=false")
os.environ["JAX_PLATFORMS"] = PLATFORM = os.environ.get("SEMISEG_TEST_PLATFORM", "cpu")
os.environ["XLA_FLAGS"] = " ".join((os.environ.get("XLA_FLAGS", ""), *flags)).strip()

# Shells start what runs in the background with Ctrl-C ignored, and children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

import absl.logging  # noqa: E402
import jax  # noqa: E402
import psutil  # noqa: E402
import pytest  # noqa: E402

TESTS = pathlib.Path(__file__).parent
# The files that take longest, the longest first.
LONGEST = (
  "methods/test_contract.py",
  "methods/test_cps_trajectories.py",
  "methods/test_family.py",
  "test_devices.py",
  "test_processes.py",
  "test_train.py",
  "test_st_plus_plus.py",
  "test_old_runs.py",
  "models/test_golden_hrnet.py",
  "test_resume.py",
  "test_stages.py",
)


def pytest_configure(config):
  folder = os.environ.get("SEMISEG_TEST_CACHE")
  if folder is None and hasattr(config, "cache"):
    folder = str(config.cache.mkdir("jax"))
  jax.config.update("jax_compilation_cache_dir", folder or tempfile.mkdtemp(prefix="semiseg-jax-"))
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
  jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
  jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_xdist_auto_num_workers(config):
  """A process for each core, four at most; none for a single file, or on a GPU that all share."""
  files = [argument for argument in config.invocation_params.args if ".py" in str(argument)]
  return 0 if len(files) == 1 or PLATFORM != "cpu" else min(4, psutil.cpu_count())


def pytest_collection_modifyitems(items):
  """The longest files come first, then slow ones, so that no process ends with a long one alone."""
  slow = {item.path for item in items if item.get_closest_marker("slow")}

  def rank(item):
    name = item.path.relative_to(TESTS).as_posix()
    return LONGEST.index(name) if name in LONGEST else len(LONGEST) + (item.path not in slow)

  items.sort(key=rank)


def pytest_collection_finish():
  """What is there now stays to the end, and is not looked through again."""
  gc.collect()
  gc.freeze()


def pytest_runtest_setup(item):
  if PLATFORM == "cpu" and item.get_closest_marker("gpu"):
    pytest.skip("needs a GPU and SEMISEG_TEST_PLATFORM=cuda")


def pytest_runtest_teardown(item, nextitem):
  """Programs of a file are not kept in memory beyond it: all together are gigabytes."""
  if nextitem is None or item.path != nextitem.path:
    jax.clear_caches()
    gc.collect()


@pytest.fixture(autouse=True)
def _as_it_was():
  """Commands silence absl's log and set XLA's flags; the next test finds both as they were.

  Processes that a test starts inherit the flags: with others they compile to other bits.
  """
  verbosity, environment = absl.logging.get_verbosity(), dict(os.environ)
  yield
  absl.logging.set_verbosity(verbosity)
  for name in os.environ.keys() - environment.keys():
    del os.environ[name]
  os.environ.update(environment)
