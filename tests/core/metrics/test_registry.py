import pytest

from portraittalk_core.errors import InputError
from portraittalk_core.metrics.files import METRIC_KINDS
from portraittalk_core.metrics.landmark_distance import VARIANTS
from portraittalk_core.metrics.registry import METRICS, NEEDS, SPEECH, SYNCNET, Metric


def test_every_metric_of_the_suite_is_defined():
    named = """psnr ssim lpips fid fvd m_lmd f_lmd lmd_atvg lmd_lip adfd lse_d lse_c av_offset identity
        identity_to_target jitter flicker mouth_correlation blink_rate head_std clustering_strength"""
    assert set(named.split()) <= set(METRICS)
    assert set(VARIANTS) <= set(METRICS)
    for name, definition in METRICS.items():
        assert definition.name == name
        assert all((definition.title, definition.range, definition.source))
        assert len(definition.text) > 25


def test_networks_are_named_as_the_files_are_recognised():
    assert {kind.role for kind in METRIC_KINDS} < set(NEEDS)


def test_missing_says_what_is_needed():
    definition = METRICS["lse_d"]
    assert definition.missing([SPEECH, SYNCNET]) == ""
    assert definition.missing([SPEECH]) == f"not available: needs {SYNCNET}"
    assert definition.missing([]) == f"not available: needs {SPEECH} and {SYNCNET}"


def test_a_definition_rejects_unknown_words():
    with pytest.raises(InputError, match="which way x is better"):
        Metric("x", "X", "", "up", "0..1", "text", "source")
    with pytest.raises(InputError, match="what x needs"):
        Metric("x", "X", "", "higher", "0..1", "text", "source", ("luck",))
