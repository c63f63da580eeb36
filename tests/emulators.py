"""Object stores that run on this machine: moto's S3, and gcp-storage-emulator's Google storage."""

import contextlib
import importlib.util
import os
import socket
import subprocess
import sys
import time

BUCKET = "bucket"
PACKAGES = {"s3": ("s3fs", "moto", "flask"), "gs": ("gcsfs", "gcp_storage_emulator")}
_COMMANDS = {
  "s3": ("moto.server", "-H127.0.0.1", "-p{port}"),
  "gs": (
    *("gcp_storage_emulator", "start", "--host=127.0.0.1", "--port={port}", "--in-memory"),
    f"--default-bucket={BUCKET}",
  ),
}


def missing(scheme):
  """The first package that the store of a scheme, or its emulator, lacks; '' for none."""
  names = PACKAGES.get(scheme, ())
  return next((name for name in names if importlib.util.find_spec(name) is None), "")


@contextlib.contextmanager
def running(scheme):
  """Runs a store with an empty bucket; gives the variables of the environment that lead to it."""
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
  arguments = [text.format(port=port) for text in _COMMANDS[scheme]]
  server = subprocess.Popen(
    [sys.executable, "-m", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
  )
  try:
    _wait(server, port)
    address = f"http://127.0.0.1:{port}"
    yield _s3(address) if scheme == "s3" else _gs(address)
  finally:
    server.kill()
    server.wait()


def _wait(server, port):
  deadline = time.monotonic() + 60
  while True:
    assert server.poll() is None and time.monotonic() < deadline, "the emulator does not start"
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
      return
    time.sleep(0.05)


def _s3(address):
  import boto3

  found = {"AWS_ENDPOINT_URL": address, "AWS_DEFAULT_REGION": "us-east-1"}
  found |= {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
  client = boto3.client(
    "s3", endpoint_url=address, aws_access_key_id="test", aws_secret_access_key="test",
    region_name="us-east-1",
  )  # fmt: skip
  client.create_bucket(Bucket=BUCKET)
  return os.environ | found


def _gs(address):
  # Without the second, gcsfs asks Google what kind of bucket it is.
  return os.environ | {
    "STORAGE_EMULATOR_HOST": address,
    "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
  }
