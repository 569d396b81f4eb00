"""What stands between the tile's host port and the pins of a board."""
