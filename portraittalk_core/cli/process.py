"""Process of a command: signals, silenced native libraries, error messages and exit codes."""

from __future__ import annotations

import atexit
import errno
import io
import logging
import os
import re
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn

from ..errors import InputError, PortraitTalkError

EXIT_OK, EXIT_INTERNAL, EXIT_USER, EXIT_STOPPED = 0, 1, 2, 130
DOUBLE_TAP_S = 1.0  # a second Ctrl-C this soon must not break the clean-up after the first
# Errors of a full or locked disk, or of a path that is none, that no PortraitTalkError covers.
_DISK_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG}
_DISK_ERRNOS |= {errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP, errno.EIO, errno.EMFILE}
_OS_ERROR = re.compile(r"\(os error (\d+)\)")


def run_guarded(job: Callable[[], int | None], debug: bool) -> int:
    """Run a command; returns its exit code, with one message on stderr if it failed.

    Args:
        job: does the work and prints its result; a number that it returns is the exit code.
        debug: show tracebacks and what native libraries write.

    Returns:
        0 done, 2 the user's mistake, 130 stopped by Ctrl-C or SIGTERM, 1 a fault of this program.
    """
    open_standard_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that has no × must not turn success into failure
    with ExitStack() as around:
        if not debug:
            around.enter_context(quiet_native_libraries())
            around.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")  # deprecations inside libraries are not the user's business
        around.enter_context(warnings_on_stderr(debug))
        try:
            # Inside the try: a signal that comes while the handlers are put back is a stop as well.
            with stop_on_signals():
                _check_current_folder()
                code = job()
            sys.stdout.flush()
        except KeyboardInterrupt as stop:
            return _print_error(f"stopped; {stop.args[0] if stop.args else 'nothing was written'}", EXIT_STOPPED, debug)
        except PortraitTalkError as error:
            return _print_error(str(error), EXIT_USER, debug)
        except BrokenPipeError:
            # The reader of our output left, as `| head` does; what still waits to be written has nowhere to go.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return EXIT_OK
        except Exception as error:
            if refusal := _system_refusal(error):
                return _print_error(refusal, EXIT_USER, debug)
            text = f"internal error: {type(error).__name__}: {error}; please report it with what --debug shows"
            return _print_error(text, EXIT_INTERNAL, debug)
    return code or EXIT_OK


def end_at_once(code: int) -> NoReturn:
    """End this process without taking libraries apart, which holds a stopped command up for most of a second.

    What they have registered for the end of a process is done, such as Ray's shutdown.
    """
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


@contextmanager
def goes_on_from(folder: Path | None, kept: str) -> Iterator[None]:
    """Let the message of work that is stopped say that what is finished is kept.

    Args:
        folder: that keeps it, if there is anything in it; None: nothing is kept.
        kept: what it keeps, such as "finished rows".
    """
    try:
        yield
    except KeyboardInterrupt as stop:
        if folder is None or not folder.is_dir() or not any(folder.iterdir()):
            raise
        raise KeyboardInterrupt(f"{kept} are kept in {folder}; the same command goes on from there") from stop


def open_standard_streams() -> None:
    """Give a process that was started without standard streams (`>&-`) the null device in their place.

    Else the next file that is opened would get such a stream's number, and what libraries print would be written to it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            null_device = os.open(os.devnull, os.O_RDWR)
            if null_device != number:
                os.dup2(null_device, number)
                os.close(null_device)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - open as long as the process


def _check_current_folder() -> None:
    try:
        os.getcwd()
    except OSError as error:  # torch's MKL would end the process as it is imported, with code 2 and without a word
        raise InputError("the folder that this runs in is gone; change to another one.") from error


def _system_refusal(error: BaseException | None) -> str:
    """What to say where the system refused disk or memory, also if a library has wrapped that; else nothing."""
    while error is not None:
        if isinstance(error, MemoryError):
            return "there is not enough memory for this; give less at a time, or smaller pictures."
        if isinstance(error, OSError) and "temporary directory" in str(error):  # tempfile's own, of a full disk
            return "no folder for temporary files can be written to; free some space, or set TMPDIR to another folder."
        if isinstance(error, OSError) and error.errno in _DISK_ERRNOS:
            return f"{error.filename or 'the output'} cannot be used: {error.strerror}."
        if match := _OS_ERROR.search(str(error)):  # as libraries in Rust write it
            code = int(match[1])
            if code in _DISK_ERRNOS:
                return f"the output cannot be used: {os.strerror(code)}."
        error = error.__cause__ or error.__context__
    return ""


def _print_error(message: str, code: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    print(f"portraittalk: {message}", file=sys.stderr)
    return code


@contextmanager
def stop_on_signals() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM raise KeyboardInterrupt, but not again within a second, so that clean-up can finish."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers
        return
    stopped_s = -DOUBLE_TAP_S

    def stop(_signal: int, _frame: FrameType | None) -> None:
        nonlocal stopped_s
        previous_s, stopped_s = stopped_s, time.monotonic()
        if stopped_s - previous_s >= DOUBLE_TAP_S:
            raise KeyboardInterrupt

    previous_handlers = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous_handlers.items():
            signal.signal(number, handler)


@contextmanager
def quiet_native_libraries() -> Iterator[None]:
    """Redirect file descriptor 2 to the null device for native libraries, while Python's stderr stays as it is.

    MediaPipe and TensorFlow Lite greet with several lines each and heed their log level settings only in part.
    """
    os.environ.setdefault("GLOG_minloglevel", "3")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    try:
        stderr_fd = os.dup(2)
    except OSError:  # started without a stderr
        yield
        return
    python_stderr = sys.stderr
    if _writes_to(python_stderr, 2):
        sys.stderr = os.fdopen(os.dup(stderr_fd), "w", buffering=1, encoding=python_stderr.encoding, errors="replace")
    null_device = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null_device, 2)
    os.close(null_device)
    try:
        yield
    finally:
        sys.stderr.flush()
        if sys.stderr is not python_stderr:
            sys.stderr.close()
            sys.stderr = python_stderr
        os.dup2(stderr_fd, 2)
        os.close(stderr_fd)


def _writes_to(stream: object, descriptor: int) -> bool:
    try:
        return stream.fileno() == descriptor  # type: ignore[attr-defined]
    except (AttributeError, OSError, ValueError):
        return False


class _WarningLines(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        print(f"{record.levelname.lower()}: {record.getMessage()}", file=sys.stderr)


@contextmanager
def warnings_on_stderr(debug: bool) -> Iterator[None]:
    """Print the library's log records from warnings upward (with `debug` all) as lines on stderr."""
    logger = logging.getLogger(__package__.rpartition(".")[0])  # of the whole library
    handler, level = _WarningLines(), logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG if debug else logging.WARNING)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
