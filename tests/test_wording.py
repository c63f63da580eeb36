from semiseg_jax.wording import counted


def test_one_is_no_plural():
  assert [counted(n, "picture") for n in (0, 1, 2)] == ["0 pictures", "1 picture", "2 pictures"]
  assert counted(1, "class", "classes") == "1 class"
  assert counted(3, "picture has", "pictures have") == "3 pictures have"
