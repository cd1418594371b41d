"""The one exception that stands for wrong input rather than for a defect of ours, and how text reaches a terminal."""

from __future__ import annotations

LINE_ENDS = "\n\t"  # control characters that text of several lines may hold
_LONGEST = 2000  # characters of a message: names and values that a file made up may be any length


class InputError(ValueError):
    """Something the user gave is wrong: an option, a file, a size.

    The message is one sentence that names the thing, its value and what is required, without control characters. The
    command line prints it without a traceback and exits with code 2.
    """

    def __init__(self, message: str) -> None:
        line = printable(message)
        super().__init__(line if len(line) <= _LONGEST else f"{line[:_LONGEST]}...")


def printable(text: str, keep: str = "") -> str:
    """The text with everything that a terminal might obey, or cannot show, written as an escape such as \\x1b.

    Names come from files, and files from strangers.

    Args:
        keep: control characters that stay.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode("ascii") for c in text)


def sentence(error: BaseException) -> str:
    """What a wrong input, the system or a library says, as one sentence, with the path where there is one.

    Empty: it is none of these but a defect of ours, which is not to be dressed as wrong input.
    """
    if isinstance(error, InputError):
        return str(error)
    module = type(error).__module__.partition(".")[0]
    if isinstance(error, OSError) or module == "av":
        reason = getattr(error, "strerror", None) or str(error)
        path = getattr(error, "filename", None)
        if isinstance(path, bytes):
            path = path.decode("utf-8", "backslashreplace")
        return printable(f"{path}: {reason}" if path else reason) or type(error).__name__
    if isinstance(error, MemoryError) or "allocate memory" in str(error) or type(error).__name__ == "OutOfMemoryError":
        return "there is not enough memory; smaller windows and tiles need less (num_frame_testing, size_patch_testing)"
    if module in ("cv2", "lmdb", "zlib"):
        return printable(f"{module}: {' '.join(str(error).split())}")
    return ""
