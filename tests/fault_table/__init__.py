"""The table of faults: each row is a case that is run, and docs/faults.md is what the runs gave."""
