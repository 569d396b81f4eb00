# Targets are one line each: the work is in `lpu` (try `.venv/bin/lpu --help`), pytest and the linters.
# Variables can be set on the command line, as in `make sim PROMPT="The dog" TOKENS=50`.

PYTHON ?= python3
MODEL ?= models/story-llama
PROMPT ?= Once upon a time
TOKENS ?= 200
POSITION ?= 100
ENGINE ?= rtl
TILE ?= 8x16
JOBS ?= auto
SEED ?= 2
SEEDS ?= 1 2 3 4 5

BIN := .venv/bin
LPU := $(BIN)/lpu
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
TOOLS := .venv/.tools-installed
SETUP := .venv/.project-installed

# In the environment, so that a shell never reads them as anything but one word each.
export MODEL PROMPT TILE

.DEFAULT_GOAL := help
.PHONY: help setup sim test lint rtl wave bench profile synth fpga fpga-sweep docs clean

help: ## Print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s  %s\n", $$1, $$2 }' Makefile

setup: $(SETUP) ## Install the pinned tools into .venv (the other targets do it when it is due)

sim: $(SETUP) ## Tell a story on the RTL, under Verilator, and write sim_build/sim.json
	@mkdir -p sim_build
	@$(LPU) run --model "$$MODEL" --prompt "$$PROMPT" --tokens $(TOKENS) --engine $(ENGINE) --json sim_build/sim.json

test: $(SETUP) ## Run all tests: ISA, compiler, simulator, RTL
	$(BIN)/pytest --numprocesses $(JOBS) --dist worksteal

lint: $(SETUP) ## Check style, types and import rules
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

rtl: $(SETUP) ## Write the tile's Verilog to sim_build/rtl/ (TILE=8x16)
	$(LPU) rtl --tile "$$TILE"

wave: $(SETUP) ## Record the waveform of a kernel and say how to open it
	$(LPU) wave

bench: $(SETUP) ## Measure cycles, utilisation and speed
	$(LPU) bench

profile: $(SETUP) ## Show where one token's cycles go, with a trace and a page in sim_build/profile.*
	@$(LPU) profile --model "$$MODEL" --position $(POSITION) --trace sim_build/profile.json --html sim_build/profile.html

synth: $(SETUP) ## Count the tile's ECP5 cells with Yosys, in sim_build/synth.json
	$(LPU) synth

fpga: $(SETUP) ## Build the bitstream of a ULX3S-85F with the tile, and measure it (half an hour; SEED=2)
	@$(PIP) --no-build-isolation --editable '.[fpga]'
	$(LPU) fpga --tile "$$TILE" --model "$$MODEL" --seed $(SEED)

fpga-sweep: $(SETUP) ## The same with several seeds side by side, of which the fastest is kept (SEEDS="1 2 3 4 5")
	@$(PIP) --no-build-isolation --editable '.[fpga]'
	$(LPU) fpga --tile "$$TILE" --model "$$MODEL" --jobs 2 $(addprefix --seed ,$(SEEDS))

docs: $(SETUP) ## Write the generated pages: the ISA and the picture of the tile
	$(LPU) docs

clean: ## Remove what the other targets wrote, except .venv
	rm -rf sim_build .pytest_cache .ruff_cache .import_linter_cache
	find sw rtl tb tests -name __pycache__ -prune -exec rm -rf {} +

# Built anew from nothing, since a package that left the lock must leave the environment too. `-I` keeps the modules
# beside the checker out of its import path.
$(TOOLS): requirements.lock
	@command -v "$(PYTHON)" >/dev/null || { echo '$(PYTHON) is missing: apt install python3 python3-venv' >&2; exit 1; }
	@"$(PYTHON)" -I sw/lpu_sw/system_check.py
	@echo 'Installing the pinned tools into .venv (once; 240 MB to download)'
	@"$(PYTHON)" -m venv --clear .venv
	@$(PIP) --require-hashes --requirement requirements.lock
	@touch $@

$(SETUP): pyproject.toml $(TOOLS)
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@
