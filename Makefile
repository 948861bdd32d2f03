# make demo   the whole job on an embedded competition, in .demo/
# make test   linters, types, layers and tests
# make docs   write docs/configuration.md from the descriptions of the keys, and build the site in docs/_build/
# make forms   32 competitions, laid out as Kaggle gives them, each to a graded submission; writes docs/competitions.md
# make screenshots   photograph the pages of the demo for docs, with a Chromium of the system
# make notebooks   run the notebooks and save them with their outputs
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo test docs forms notebooks screenshots lint install clean

demo: install
	$(BIN)/kk demo .demo --force

test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --max-worker-restart=0 --cov --cov-report=term

docs: install
	$(BIN)/python -c "from kaggle_kit.config.document import document; print(document(), end='')" > docs/configuration.md
	$(BIN)/python -m sphinx -q -E -W --keep-going -b html docs docs/_build

notebooks: install
	$(BIN)/python notebooks/execute.py

screenshots: install
	$(BIN)/python docs/screenshots.py

forms: install
	OMP_NUM_THREADS=2 $(BIN)/python tests/forms/table.py

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

install: $(INSTALLED)

# Installed again only when the requirements change; the package itself is editable.
$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "kaggle_kit needs Python 3.11 or newer, found $$($(PYTHON) --version); run make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	@echo "installing into $(VENV): about 7.6 GB, most of it PyTorch with CUDA. Without a GPU: python3 -m venv $(VENV), install PyTorch's"
	@echo "CPU-only build into it (the command stands on its page Get started), and run make again."
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e '.[cpu,ray,kaggle,dev]'
	touch $@

clean:
	rm -rf $(VENV) .demo build dist *.egg-info .mypy_cache .ruff_cache .hypothesis .import_linter_cache
