"""Floating-point units, one lane each, with the formats and rounding of `lpu_isa.formats`."""
