"""The contract of the LPU tile: formats, operations, fields, latencies, faults and host registers, each declared once.

Everything else (RTL decoders, assembler, simulator, checker, compiler, reference page) is derived from this package,
which imports nothing of the project.
"""
