# `make book` and `make test` set up their own environment in .venv; `make help` lists the rest.
.DEFAULT_GOAL := help
.PHONY: help book test browser binder course grade pdf lock coverage lab serve bench mutants results repository clean FORCE
.SUFFIXES:
MAKEFLAGS += --no-builtin-rules

# Nothing of a shell's own environment (another venv, another path) may leak in.
unexport VIRTUAL_ENV PYTHONPATH PYTHONHOME
export PYTHONNOUSERSITE = 1
export IPYTHONDIR = $(CURDIR)/.venv/ipython
export PIP_DISABLE_PIP_VERSION_CHECK = 1

PYTHON = $(shell for p in python3.13 python3.12 python3.11 python3 python; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$p && break; done)
BIN = .venv/bin
INSTALLED = .venv/installed
CODE = $(shell find tlnb -name '*.py') $(wildcard book/explorers/*.js book/symbols/*.js) \
  $(addprefix tools/,book_extension.py explorer_data.py explorers.py front_matter.py lean_pages.py)
SITE = _build/html/index.html
# Workers share the cores: one BLAS thread each.
ONE_THREAD = OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1

help:
	@echo "make book        set up, run every chapter, build the site (STRICT=1: from nothing, warnings are errors)"
	@echo "make test        set up, run lint, types, unit tests and every notebook as a test"
	@echo "make browser     look at every page of the built book in Chromium (skips, saying so, without one)"
	@echo "make binder      do what Binder and Colab do: build, start JupyterLab, run a chapter through it"
	@echo "make coverage    run the unit tests and report the lines that none of them runs"
	@echo "make lock        compile requirements.txt from the dependencies in pyproject.toml"
	@echo "make course      student's and instructor's notebooks and slides, into _build/course"
	@echo "make grade       nbgrader's own tools on the course: student's versions made, a chapter graded"
	@echo "make pdf         print the whole book to _build/book.pdf (needs a Chromium)"
	@echo "make lab         open the notebooks in JupyterLab"
	@echo "make serve       show the built book on http://localhost:8000 (PORT=... for another)"
	@echo "make bench       measure speed and memory as ratios to what must be paid in any case"
	@echo "                 (with NUTS=python: against blackjax too, which that python has)"
	@echo "make mutants     break the package in one place at a time and show that tests notice"
	@echo "make results     recompute every stored result"
	@echo "make repository  write the repository's URL from _config.yml wherever it is needed"
	@echo "make clean       remove everything that was built, .venv included"

$(INSTALLED): requirements.txt pyproject.toml
	@if [ -z "$(PYTHON)" ]; then \
	  echo "This book needs Python 3.11 or newer with its venv module, and found none."; \
	  echo "Debian, Ubuntu: apt install python3 python3-venv. Elsewhere: https://www.python.org/downloads/"; \
	  echo "Or name one: make book PYTHON=/path/to/python3"; exit 1; fi
	@$(BIN)/python -c '' 2>/dev/null || { echo "Making .venv with $(PYTHON)"; \
	  $(PYTHON) -m venv --clear .venv; }
	@echo "Installing the pinned requirements into .venv (a few minutes the first time)"
	@$(BIN)/python -m pip install --quiet --requirement requirements.txt
	@mkdir -p $(IPYTHONDIR)/profile_default
	@echo "c.IPKernelApp.log_level = 'ERROR'" > $(IPYTHONDIR)/profile_default/ipython_kernel_config.py
	@touch $@

# The cache of executed chapters knows the notebooks only: when the code below them, the
# requirements or the configuration changed, everything is built anew. STRICT does so always.
_build/made: $(INSTALLED) $(CODE) _config.yml _toc.yml Makefile $(if $(STRICT),FORCE)
	@if [ -d _build ]; then echo "Building everything anew"; fi
	@rm -rf _build && mkdir -p _build && touch $@
FORCE:

book: _build/made
	@echo "Running the chapters that changed and building the site (a few minutes if all did)"
	@$(ONE_THREAD) $(BIN)/jupyter-book build --quiet $(if $(STRICT),-W --keep-going) . > /dev/null \
	  || { echo "The book did not build: the cause stands above"; exit 1; }
	@echo "The book: $(SITE) (open it in a browser, or run make serve)"

test: $(INSTALLED)
	@echo "Lint, format, types"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy
	@echo "Unit tests, and the examples in docstrings"
	@$(ONE_THREAD) $(BIN)/python -m pytest -q -n 2 --dist loadscope --doctest-modules tests tlnb
	@echo "Every notebook as a test"
	@$(ONE_THREAD) $(BIN)/python -m pytest -q -n 2 --dist loadscope -p no:cacheprovider \
	  --nbval-lax --nbval-cell-timeout=300 notebooks

# Without workers: the tests of parameter sweeps start processes of their own, which are measured.
coverage: $(INSTALLED)
	@echo "Unit tests, with the lines that they run"
	@rm -f .coverage .coverage.*
	@$(ONE_THREAD) $(BIN)/coverage run -m pytest -q --doctest-modules tests tlnb
	@$(BIN)/coverage combine --quiet && $(BIN)/coverage report

# Pins stay where they can: `make lock UPGRADE=--upgrade` takes the newest of everything.
lock: $(INSTALLED)
	@$(BIN)/python -m pip install --quiet uv
	@mkdir -p _build && sed '/^-e/d' requirements.txt > _build/lock.txt
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --extra all $(UPGRADE) \
	  --no-annotate --no-header --no-emit-index-url --output-file _build/lock.txt pyproject.toml
	@{ echo "# The complete environment of the book, pinned. Made with: make lock"; \
	  cat _build/lock.txt; echo "-e ."; } > requirements.txt
	@echo "requirements.txt is written: run make test and make book STRICT=1"

BROWSER_INSTALLED = .venv/browser-installed
$(BROWSER_INSTALLED): requirements-browser.txt $(INSTALLED)
	@echo "Installing what drives a browser into .venv"
	@$(BIN)/python -m pip install --quiet --requirement $<
	@touch $@

browser: book $(BROWSER_INSTALLED)
	@echo "Looking at every page in Chromium"
	@TLNB_SITE=_build/html $(BIN)/python -m pytest -q -rs -n 2 --dist loadgroup tests/browser

# With environments of its own, made anew: what is in .venv must not help.
binder: $(INSTALLED)
	@echo "Building what Binder and Colab would build, in empty environments (a few minutes)"
	@PYTHONPATH=tools $(BIN)/python tools/elsewhere.py

COURSE_INSTALLED = .venv/course-installed
$(COURSE_INSTALLED): requirements-course.txt $(INSTALLED)
	@$(BIN)/python -m pip install --quiet --no-deps --requirement $<
	@touch $@

course: $(COURSE_INSTALLED)
	@echo "Notebooks for a course: student's and instructor's versions of every chapter, slides"
	@$(BIN)/python tools/course.py
	@$(BIN)/python tools/slides.py

grade: course
	@echo "nbgrader makes the students' versions and grades a chapter (COURSE=all: every one)"
	@$(BIN)/python tools/grade.py

# The whole book on one page, printed by the browser.
pdf: book $(BROWSER_INSTALLED)
	@echo "Printing the book (a few minutes)"
	@PYTHONPATH=. $(BIN)/python tools/print_book.py

lab: $(INSTALLED)
	@echo "JupyterLab on notebooks/ (stop it with Ctrl-C)"
	@$(BIN)/jupyter lab --notebook-dir=notebooks

PORT ?= 8000
serve: $(INSTALLED)
	@[ -f $(SITE) ] || { echo "There is no built book yet: run make book first"; exit 1; }
	@echo "The book is at http://localhost:$(PORT) (stop with Ctrl-C)"
	@$(BIN)/python -m http.server --bind 127.0.0.1 --directory _build/html $(PORT)

bench: $(INSTALLED)
	@$(BIN)/python benchmarks/run.py $(if $(NUTS),--nuts $(NUTS))

mutants: $(INSTALLED)
	@$(ONE_THREAD) $(BIN)/python tools/mutants.py

# A sweep continues where it was interrupted; chapters that finished since `make results` began are
# marked, so that an interrupted `make results` continues too.
RESULTS = $(patsubst experiments/chapter_%.py,_build/results/%,$(wildcard experiments/chapter_*.py))
results: $(RESULTS)
	@rm -rf _build/results
	@echo "Every stored result is in results/"

_build/results/%: experiments/chapter_%.py | $(INSTALLED)
	@echo "Computing the results of chapter $* on every core (started again, it continues)"
	@$(ONE_THREAD) $(BIN)/python -m experiments $*
	@mkdir -p $(@D) && touch $@

repository: $(INSTALLED)
	@$(BIN)/python tools/repository.py

clean:
	@echo "Removing .venv, _build and caches"
	@rm -rf .venv _build build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis .coverage*
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
