"""The label of pixels without a class inside the program, whatever the source's own id was."""

IGNORE = 255
