"""A pytest plugin for runs on mutants: Hypothesis draws the same examples each time, and does not shrink failures."""

from hypothesis import Phase, settings

settings.register_profile("mutants", derandomize=True, database=None, phases=[Phase.explicit, Phase.generate])
settings.load_profile("mutants")
