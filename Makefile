# The same few targets for people and for continuous integration: `make help` lists them.
# Without make (Windows): README.md gives the plain lines.

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
ARCHITECTURES := .venv-architectures
LITE := .venv-lite

# Small networks: a second thread costs time and reproducibility. Two processes use two cores.
export OMP_NUM_THREADS := 1
export OPENBLAS_NUM_THREADS := 1
export MKL_NUM_THREADS := 1

.DEFAULT_GOAL := help
.PHONY: help install book pdf lite serve lab exercises test unit notebooks quick lint format check bench cpus \
	wheel lowest architectures doctor browser clean

help:  ## show this list
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | while IFS="$$(printf '\t')" \
		read -r target what; do printf '  make %-13s %s\n' "$$target" "$$what"; done

install: $(INSTALLED)  ## create .venv and install everything (again only after a change)

$(INSTALLED): requirements.txt pyproject.toml package.json package-lock.json
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed (make PYTHON=/path/to/python3)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -r requirements.txt -e .
	@if command -v node >/dev/null && command -v npm >/dev/null; \
	then npm ci --ignore-scripts --no-audit --no-fund; \
	else echo "No Node.js: the reader's browser will set the formulas."; fi
	@touch $@

book: $(INSTALLED)  ## execute the notebooks on all cores and build the book
	$(BIN)/python tools/execute.py
	$(BIN)/jupyter-book build . -W -n --keep-going -q
	@echo
	@echo "The book: file://$(CURDIR)/_build/html/index.html"
	@echo "or, with search and everything, \`make serve\`."

pdf: $(INSTALLED)  ## print the built book as one PDF (Chromium; Poppler for the page numbers)
	$(BIN)/python tools/pdf.py

serve: $(INSTALLED)  ## open the built book in the browser
	$(BIN)/python tools/serve.py

lab: $(INSTALLED)  ## execute the notebooks (10 minutes, once) and open them in JupyterLab
	$(BIN)/python tools/execute.py
	$(BIN)/python tools/jupyter_notebooks.py
	$(BIN)/jupyter trust _build/notebooks/*.ipynb
	$(BIN)/jupyter lab _build/notebooks

exercises: $(INSTALLED)  ## the same without solutions, for students, into _build/exercises
	$(BIN)/python tools/execute.py
	$(BIN)/python tools/jupyter_notebooks.py exercises
	@echo "Open them with: $(BIN)/jupyter lab _build/exercises"

test: unit notebooks  ## run all tests: library, book rules, every notebook

unit: $(INSTALLED)  ## run the tests of the library and of the book's rules
	$(BIN)/python -m pytest -n 2 --dist worksteal

notebooks: $(INSTALLED)  ## run every notebook as a test
	$(BIN)/python -m pytest -n 2 --dist loadscope --nbval-lax --nbval-current-env \
		--nbval-cell-timeout 300 --keep-outputs book --ignore book/_ext

quick: lint  ## check style and types, and run the tests of what changed since main
	tests="$$($(BIN)/python tools/changed_tests.py)" && \
		{ test -z "$$tests" || $(BIN)/python -m pytest -n 2 --dist worksteal $$tests || \
		test $$? = 5; }

lint: $(INSTALLED)  ## check style, spelling, types, and that notebooks are stored without outputs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/nbstripout --verify --keep-id book/*.ipynb
	$(BIN)/mypy

format: $(INSTALLED)  ## repair style and strip outputs
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/nbstripout --keep-id book/*.ipynb

check: lint test book  ## everything that a change must pass

bench: $(INSTALLED)  ## compare speed with peers, as ratios
	$(BIN)/python -m benchmarks

cpus: $(INSTALLED)  ## run the tests as other processors would (see CONTRIBUTING; ARGS="--rows old tests/nn")
	$(BIN)/python tools/cpus.py $(ARGS)

wheel: $(INSTALLED)  ## build the wheel and use it in a fresh environment: lean, then for a notebook
	$(BIN)/python tests/helpers/check_wheel.py

lowest:  ## run all tests with the oldest packages that pyproject.toml allows
	$(MAKE) install VENV=.venv-lowest
	.venv-lowest/bin/python -m pip install --disable-pip-version-check -q \
		-c requirements-lowest.txt -e ".[fast,doctor,notebooks,lab]"
	.venv-lowest/bin/python -m pip check
	$(MAKE) test VENV=.venv-lowest

architectures: $(ARCHITECTURES)/.installed  ## test real models of torchvision and timm, with a newer torch
	$(ARCHITECTURES)/bin/python -m pytest -n 2 --dist worksteal tests/surgery/test_real_models.py

doctor: $(ARCHITECTURES)/.installed  ## judge bnlib.doctor by planted faults and healthy models (an hour)
	$(ARCHITECTURES)/bin/python -m benchmarks.doctor

$(ARCHITECTURES)/.installed: requirements-architectures.txt pyproject.toml
	$(PYTHON) -m venv $(ARCHITECTURES)
	$(ARCHITECTURES)/bin/python -m pip install --disable-pip-version-check \
		-r requirements-architectures.txt -e ".[fast]"
	@touch $@

lite: $(INSTALLED) $(LITE)/.installed  ## build the exercises for the browser, without a server (PYODIDE=its release)
	$(BIN)/python tools/execute.py
	$(BIN)/python tools/lite.py $(LITE)/bin/jupyter-lite $(PYODIDE)
	$(BIN)/python -m pytest tests/book/check_lite.py

$(LITE)/.installed: requirements-lite.txt
	$(PYTHON) -m venv $(LITE)
	$(LITE)/bin/python -m pip install --disable-pip-version-check -r requirements-lite.txt
	@touch $@

browser: $(INSTALLED)  ## look at every built page in Chromium: errors, requests, accessibility
	$(BIN)/python -m pytest -n 2 tests/book/check_pages.py
	$(BIN)/python -m pytest -n 2 tests/book/check_explorables.py

clean:  ## remove what was built (not .venv)
	rm -rf _build dist build .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find bnlib -name '*.nb[ic]' -delete
