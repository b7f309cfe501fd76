"""Warnings about a file that are said once."""

import logging

import pytest

from portraittalk_core.media.once import once_in_each, warn_once

log = logging.getLogger(__name__)


@pytest.fixture
def jobs():
    """Names the job at hand: whatever is set last."""
    at_hand = {"job": "first"}
    once_in_each(lambda: at_hand["job"])
    yield at_hand
    once_in_each(None)


def test_the_same_warning_is_said_once_and_another_one_too(caplog):
    for name in ("once a.png", "once b.png", "once a.png"):
        warn_once(log, "%s is large.", name)
    assert caplog.messages == ["once a.png is large.", "once b.png is large."]


def test_every_job_is_told_once(caplog, jobs):
    for job in ("first", "first", "second", "second"):
        jobs["job"] = job
        warn_once(log, "%s is of a job.", "c.png")
    assert caplog.messages == ["c.png is of a job."] * 2
