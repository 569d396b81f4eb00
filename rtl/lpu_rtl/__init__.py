"""The tile in Amaranth: a unit a file, wired together in `tile`."""
