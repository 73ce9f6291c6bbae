"""The errors of `loadtests`.

LoadError
├── RecordError     a file is not a run record of this version
└── RunError        a run cannot begin: the server is not there, or refuses
"""


class LoadError(Exception):
    """The message says what is wrong and what to do."""


class RecordError(LoadError):
    """A file is not a run record of this version."""


class RunError(LoadError):
    """A run cannot begin."""
