"""The tile's software: front ends, compiler, assembler, golden model and the ``lpu`` command.

It looks down to ``lpu_isa`` only and never imports the hardware.
"""
