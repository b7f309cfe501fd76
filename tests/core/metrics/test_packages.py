import sys

from portraittalk_core.metrics.packages import SKIMAGE, TORCHMETRICS, found_packages


def test_what_is_installed_is_found_and_what_is_not_is_not(monkeypatch):
    assert found_packages() == {SKIMAGE, TORCHMETRICS}
    monkeypatch.setitem(sys.modules, "torchmetrics", None)
    assert found_packages() == {SKIMAGE}
    monkeypatch.setitem(sys.modules, "skimage", None)
    assert not found_packages()
