"""Starts Ray on this machine, or connects to a cluster; says what to do where that fails."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import logging
import os
import re
import secrets
import signal
import socket
import threading
import time
from collections.abc import Iterator
from types import ModuleType

from ..errors import InputError, MissingDependency

ANSWER_S = 5.0  # an address that does not answer in this time is told; Ray itself would wait for minutes
LOOK_S = 2.0  # between looks at the head of the cluster, and the longest wait for its answer
SILENCE_S = 20.0  # after which a head that does not answer is lost; Ray gives up after 60
CLIENT = "ray://"  # begins the address of a cluster that this machine is no part of
ADVICE = "start a cluster with `ray start --head` and give its address, or leave --address out"
TOKEN_ADVICE = (
    "where a cluster asks for a token, Ray sends it with RAY_AUTH_MODE=token only, or with --address auto on a machine "
    "of the cluster: set it for every `ray start` and for this command, and copy ~/.ray/auth_token of the machine with "
    "`ray start --head` to the others; or start the cluster anew with RAY_AUTH_MODE=disabled, where nobody else "
    "reaches the network"
)
_TOKEN_WORDS = ("auth_mode", "authentication", "unauthenticated", "auth token")


def import_ray() -> ModuleType:
    """Import Ray.

    Raises:
        MissingDependency: it is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is to be told to anybody
    try:
        import ray
    except ImportError as error:
        raise MissingDependency(
            "several workers, or a cluster, need Ray: pip install ray; without it, --workers 1 "
            "does the same work in this process."
        ) from error
    return ray


def check_address(address: str | None) -> None:
    """Check that Ray's client is there where an address needs it, and that a host and port accept connections.

    Other kinds of address are left to Ray.

    Raises:
        MissingDependency: no client.
        InputError: no connection.
    """
    if (address or "").startswith(CLIENT) and importlib.util.find_spec("grpc") is None:
        raise MissingDependency(
            f"the address {address} needs Ray's client: pip install 'ray[client]'; on a machine of the cluster itself, "
            "--address auto needs no more than Ray."
        )
    match = re.fullmatch(rf"(?:{CLIENT})?([^/:\s]+):(\d{{1,5}})", address or "")
    if not match:
        return
    try:
        socket.create_connection((match[1], int(match[2])), ANSWER_S).close()
    except (OSError, OverflowError, UnicodeError) as error:
        raise InputError(f"nobody answers at {address} ({error}); {ADVICE}.") from error


def connect(ray: ModuleType, workers: int | None, address: str | None) -> None:
    """Start Ray here, or connect to a cluster; the signal handlers stay as they were.

    Raises:
        InputError: Ray does not start, or the cluster does not take us.
    """
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    previous_handler = signal.getsignal(signal.SIGTERM)
    try:
        if address is None:  # "local": not any other that happens to run on this machine
            with _own_token():
                ray.init(address="local", num_cpus=workers, include_dashboard=False, **quiet)
        else:
            ray.init(address=address, **quiet)
    except Exception as error:  # Ray raises bare ones, such as for a start that took too long
        ray.shutdown()
        message = " ".join(str(error).split())[:300]
        if address is None:
            advice = "try again when the machine is less busy, or give --workers 1, which needs no Ray"
            raise InputError(f"Ray could not be started on this machine ({message}); {advice}.") from error
        # the client only waits in vain where a token is missing, though its port answered
        without = address.startswith(CLIENT) and os.environ.get("RAY_AUTH_MODE") != "token"
        advice = TOKEN_ADVICE if without or _is_about_tokens(error) else ADVICE
        raise InputError(f"Ray cannot be used at {address} ({message}); {advice}.") from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, previous_handler)


class Head:
    """The head of a cluster, whose loss ends a batch. Ray itself would end this process after a minute, without a word.

    Args:
        address: its host and port; empty where Ray's client tells of the loss.
    """

    def __init__(self, address: str) -> None:
        self._address, self._looked_s, self._heard_s = address, -LOOK_S, time.monotonic()

    def answers(self, now: bool) -> bool:
        """Whether it answered at the last look, which is at most a few seconds old.

        Args:
            now: look in any case, before it is asked for something; Ray would wait until it is there again.

        Raises:
            ConnectionError: it has not for `SILENCE_S`.
        """
        now_s = time.monotonic()
        if not self._address or not (now or now_s - self._looked_s >= LOOK_S):
            return self._heard_s >= self._looked_s
        self._looked_s = now_s
        host, _, port = self._address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), LOOK_S).close()
            self._heard_s = time.monotonic()
        except OSError as error:
            if time.monotonic() - self._heard_s > SILENCE_S:
                raise ConnectionError(f"{self._address} does not answer: {error}") from error
        return self._heard_s >= self._looked_s


def head_of(ray: ModuleType, address: str | None) -> Head:
    """The head of the cluster that Ray is connected to."""
    return Head("" if (address or "").startswith(CLIENT) else ray.get_runtime_context().gcs_address)


def _is_about_tokens(error: BaseException | None) -> bool:
    while error is not None:
        if any(word in f"{type(error).__name__} {error}".lower() for word in _TOKEN_WORDS):
            return True
        error = error.__cause__ or error.__context__
    return False


@contextlib.contextmanager
def _own_token() -> Iterator[None]:
    """Let Ray start here with a token that lives as long as this process.

    Without one Ray would write ~/.ray/auth_token, and from then on each `ray start --head` asks for it, while those who
    connect by an address do not send it: the next cluster would take nobody in.
    """
    names = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN")
    environment = {name: os.environ.get(name) for name in names}
    if not (environment["RAY_AUTH_TOKEN"] or os.environ.get("RAY_AUTH_TOKEN_PATH")):
        os.environ["RAY_AUTH_TOKEN"] = _token()
    try:
        yield
    finally:  # Ray's processes have it by now
        for name, value in environment.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@functools.cache
def _token() -> str:
    return secrets.token_hex(32)
