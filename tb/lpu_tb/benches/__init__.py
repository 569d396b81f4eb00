"""cocotb tests, a module a unit: how it is driven. Run by `lpu_tb.runner.run_bench`."""
