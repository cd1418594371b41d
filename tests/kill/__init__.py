"""Commands ended at random moments: `make kill-test N=200`, or python -m tests.kill --runs 20."""
