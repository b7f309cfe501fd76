from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool

import pytest

from portraittalk_core.errors import OutputError
from portraittalk_core.training.mouth import speech_corpus


class KilledPool:
    """A pool whose processes are killed before they have done anything."""

    def __init__(self, *_, **__):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return False

    def submit(self, *_):
        future = Future()
        future.set_exception(BrokenProcessPool("A process in the process pool was terminated abruptly"))
        return future


def test_a_killed_process_of_the_corpus_is_told_with_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(speech_corpus, "ProcessPoolExecutor", KilledPool)
    with pytest.raises(OutputError, match=r"ended before its shard was written \(0 of \d+ are\).*run the same again"):
        speech_corpus.make_corpus(tmp_path, 0.1)
