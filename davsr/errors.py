"""The one exception that stands for wrong input rather than for a defect of ours."""

from __future__ import annotations


class InputError(ValueError):
    """Something the user gave is wrong: an option, a file, a size.

    The message is one sentence that names the thing, its value and what is required. The command line prints
    it without a traceback and exits with code 2.
    """
