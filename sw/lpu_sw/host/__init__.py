"""The host's side of a tile: the token loop (`decode`) and the port's protocol (`protocol`), over any transport."""
