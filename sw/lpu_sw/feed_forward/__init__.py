"""Compiler of feed-forward networks: quantised graph -> integer operators -> passes of the tile -> a program."""
