"""Profile: where the cycles of one token go, known from the compiled program alone."""
