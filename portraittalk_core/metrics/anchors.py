"""Anchors of metrics whose numbers mean little by themselves: what good models and real videos have.

Sources: table 1 of PortraitTalk, of SVP, of ControlTalk and of "lip and identity priors". Their test clips, crops and
landmark detectors are other ones.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

_OWN = "a real video's own number is the true video's here"
ANCHORS = {
    "lse_d": f"published means 6.76 to 8.08 on LRS2 and 7.78 to 8.74 on LRW; {_OWN}",
    "lse_c": f"published means 1.08 to 9.03 on HDTF and 1.76 to 8.92 on MEAD; {_OWN}",
    "fid": "published 9.9 to 51 on LRS2, 10.4 to 47 on HDTF and 17 to 84 on MEAD, over all clips together: fewer "
    "frames, as of one clip, give larger numbers; 0 is the true video",
    "fvd": "published 102 to 537 on HDTF and 236 to 492 on MEAD, over all clips together: fewer clips give larger "
    "numbers; 0 is the true video",
    "identity": "1 is the portrait itself; a real video's own number is the true video's here",
    "identity_to_target": "1 is the true video; the portrait's own frames against it are what a still source has",
}  # metric → text
NEVER_ALONE = "LSE tells whether mouth and sound belong together, not whether the mouth is right: read both."


def anchors_of(names: Collection[str]) -> Iterator[tuple[str, str]]:
    """Name and anchor of those metrics that have one."""
    return ((name, text) for name, text in ANCHORS.items() if name in names)
