"""What runs in the Verilog simulator, or serves it: build, benches, transports, scoreboard, engine."""
