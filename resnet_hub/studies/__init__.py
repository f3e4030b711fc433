"""Studies: what several runs say together, and the papers' tables beside ours."""
