"""Compiler: a Llama and a tile in, an image and the cycles of every token out."""
