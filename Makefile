PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-slow test-peers faults gpu lint bench docs dist clean

demo:       ## install once, train on the bundled digits, sample, print where the images are
	@$(PYTHON) bootstrap.py
	@$(BIN)/ornstein demo

test: lint  ## everything CI runs
	@$(BIN)/python -m pytest -n 2 --dist worksteal

test-slow:  ## the long suites
	@$(PYTHON) bootstrap.py test
	@$(BIN)/python -m pytest -m slow

test-peers: ## equality with other libraries
	@$(PYTHON) bootstrap.py test peers
	@$(BIN)/python -m pytest -m peers

faults:     ## the fault suite with its large counts
	@$(PYTHON) bootstrap.py test
	@ORNSTEIN_FAULTS=full $(BIN)/python -m pytest -m "not peers and not gpu" tests/faults tests/studio/test_hostile.py

# with the torch of $(PYTHON), which knows the GPU; what bootstrap.py would install is pinned and may be for CPUs
gpu:        ## checks and figures on a CUDA GPU: `make gpu PYTHON=python3`
	@if PYTHONPATH=src $(PYTHON) -m benchmarks.gpu --there; then \
		PYTHONPATH=src timeout 540 $(PYTHON) -m pytest -m gpu tests/gpu; checked=$$?; \
		for part in training sampling overhead evaluation; do \
			PYTHONPATH=src timeout 540 $(PYTHON) -m benchmarks.gpu $$part || checked=1; done; \
		exit $$checked; fi

lint:
	@$(PYTHON) bootstrap.py test
	@$(BIN)/ruff check --quiet . && $(BIN)/ruff format --quiet --check . && $(BIN)/mypy

bench:      ## beside other libraries; writes benchmarks/results/
	@$(PYTHON) bootstrap.py test peers
	@$(BIN)/python -m pip install --quiet --no-deps k-diffusion torchsde trampoline boltons azula jaxtyping wadler_lindig \
		denoising-diffusion-pytorch
	@$(BIN)/python -m benchmarks

docs:       ## the documentation in build/site, every link followed
	@$(PYTHON) bootstrap.py docs
	@$(BIN)/python -m tools.pages

dist:       ## build wheel and sdist reproducibly and prove them: in a fresh environment every command runs
	@$(PYTHON) tools/dist.py

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
