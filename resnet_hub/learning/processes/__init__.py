"""Several processes that are one run, and signals to any of them."""
