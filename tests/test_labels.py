import subprocess
import sys


def test_the_loss_needs_no_picture_decoder():
  code = "import sys, semiseg_jax.ops.losses; print(sorted({'cv2', 'msgpack'} & set(sys.modules)))"
  done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
  assert done.stdout == "[]\n"
