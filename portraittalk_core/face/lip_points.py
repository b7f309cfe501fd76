"""The 131 landmarks that IP-LAP's networks see, in the order in which they see them, and the lines drawn between them.

Engines predict some of them, renderers draw all of them.
Source: W. Zhong et al., "Identity-Preserving Talking Face Generation with Landmark and Appearance Priors" (2023), its
public weights' input and output (facts of the trained networks).
"""

from __future__ import annotations

from itertools import pairwise

# fmt: off
PROFILE = (162, 127, 234, 93, 323, 454, 356, 389)  # temples and cheeks: person's right side down, left side up
BROWS = (70, 63, 105, 66, 107, 55, 65, 52, 53, 46, 336, 296, 334, 293, 300, 276, 283, 282, 295, 285)
NOSE = (168, 6, 197, 195, 5, 48, 115, 220, 45, 4, 275, 440, 344, 278)
EYES = (33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7,
        362, 398, 384, 385, 386, 387, 388, 466, 263, 249, 390, 373, 374, 380, 381, 382)
JAW_POINTS = (132, 58, 172, 136, 150, 149, 176, 148, 152, 377, 400, 378, 379, 365, 397, 288, 361)
OUTER_LIPS = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146)
INNER_LIPS = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95)
# fmt: on

POSE_POINTS = PROFILE + BROWS + NOSE + EYES  # 74 that tell where the head is; given
MOUTH_POINTS = OUTER_LIPS + INNER_LIPS  # 40
CONTENT_POINTS = JAW_POINTS + MOUTH_POINTS  # 57 that speech moves; predicted
LIP_POINTS = POSE_POINTS + CONTENT_POINTS  # 131, all

# positions within LIP_POINTS
POSE, CONTENT = slice(0, 74), slice(74, 131)
JAW, MOUTH = slice(74, 91), slice(91, 131)
OUTER, INNER = slice(91, 111), slice(111, 131)

OPENING = (0, 17)  # middle of the upper and of the lower lip, whose distance is how far a mouth is open


def _ring(points: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    return (*pairwise(points), (points[-1], points[0]))


MOUTH_EDGES = _ring(OUTER_LIPS) + _ring(INNER_LIPS)
EDGES = (
    *MOUTH_EDGES,
    *_ring(EYES[:16]),
    *_ring(EYES[16:]),
    *(edge for chain in (BROWS[:5], BROWS[5:10], BROWS[10:15], BROWS[15:]) for edge in pairwise(chain)),
    *pairwise(NOSE[:5]),  # the bridge, then from the tip to either side
    *pairwise((5, 4, 45, 220, 115, 48)),
    *pairwise((4, 275, 440, 344, 278)),
    *pairwise((*PROFILE[:4], *JAW_POINTS, *PROFILE[4:])),  # temple to temple under the chin, no forehead
)  # 125
