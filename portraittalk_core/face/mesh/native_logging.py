"""Suppression of the log messages of mediapipe's C++ code."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

STDERR = 2
CHATTER = re.compile(rb"^([IW]\d{4} |INFO: |WARNING: (All log messages|Logging) before )")


@contextmanager
def native_chatter_muted() -> Iterator[None]:
    """Suppress the messages that mediapipe's C++ code writes while it starts.

    It writes to file descriptor 2 itself, past Python's logging. What is not such a note is passed on at the end.
    """
    try:
        sys.stderr.flush()
        terminal = os.dup(STDERR)
    except (OSError, AttributeError):  # no stderr, as under pythonw
        yield
        return
    with tempfile.TemporaryFile() as captured:
        os.dup2(captured.fileno(), STDERR)
        try:
            yield
        finally:
            os.dup2(terminal, STDERR)
            captured.seek(0)
            rest = [line for line in captured if not CHATTER.match(line)]
            if rest:
                os.write(terminal, b"".join(rest))
            os.close(terminal)
