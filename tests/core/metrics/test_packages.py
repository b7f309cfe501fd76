import sys

from portraittalk_core.metrics.packages import KORNIA, TORCHMETRICS, installed_packages


def test_what_is_installed_is_found_and_what_is_not_is_not(monkeypatch):
    assert installed_packages() == {KORNIA, TORCHMETRICS}
    monkeypatch.setitem(sys.modules, "torchmetrics", None)
    assert installed_packages() == {KORNIA}
    monkeypatch.setitem(sys.modules, "kornia", None)
    assert not installed_packages()
