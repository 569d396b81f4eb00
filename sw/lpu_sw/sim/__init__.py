"""Golden model of the tile: arithmetic, units and sequencer, exact to the bit and to the cycle."""
