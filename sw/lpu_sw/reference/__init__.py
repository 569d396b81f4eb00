"""Float32 models in plain NumPy, the judges of what the tile computes."""
