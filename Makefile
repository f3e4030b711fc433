.DEFAULT_GOAL := help
.PHONY: help check test test-all faults docs bench

help:  ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

check:  ## lint, format, types, import floors: seconds, run it before each commit
	ruff check
	ruff format --check
	mypy
	lint-imports

test:  ## the default tests, under ten minutes on two cores
	pytest

test-all:  ## the default tests and the slow ones
	pytest -m ""

faults:  ## every row of docs/faults.md with the outcome of its tests; minutes, the slow ones too
	pytest -q -m fault --faults

docs:  ## check the documents: every link leads to a file, README's commands stand first
	pytest tests/test_docs.py

bench:  ## time us against the peers, in turns; prints one table of ratios
	python benchmarks/all.py
