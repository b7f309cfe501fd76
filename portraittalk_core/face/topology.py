"""Index groups of MediaPipe's 478 face landmarks.

"Right" and "left" are the person's own; chains run from the viewer's left to the viewer's right.
Source: MediaPipe Face Mesh point numbering (facts of the model's output).
"""

NUM_MESH_POINTS = 468  # skin; 468..477 are the two irises

# fmt: off
FACE_OVAL = (10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152, 148, 176,
             149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109)

# Four rings of lip points, outside to inside, each from mouth corner 61 / 76 / 62 / 78 to 291 / 306 / 292 / 308.
UPPER_LIP_RINGS = (
    (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291),
    (76, 184, 74, 73, 72, 11, 302, 303, 304, 408, 306),
    (62, 183, 42, 41, 38, 12, 268, 271, 272, 407, 292),
    (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308),
)
LOWER_LIP_RINGS = (
    (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291),
    (76, 77, 90, 180, 85, 16, 315, 404, 320, 307, 306),
    (62, 96, 89, 179, 86, 15, 316, 403, 319, 325, 292),
    (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308),
)
INNER_UPPER_LIP, INNER_LOWER_LIP = UPPER_LIP_RINGS[3], LOWER_LIP_RINGS[3]
OUTER_UPPER_LIP, OUTER_LOWER_LIP = UPPER_LIP_RINGS[0], LOWER_LIP_RINGS[0]

RIGHT_UPPER_LID = (33, 246, 161, 160, 159, 158, 157, 173, 133)
RIGHT_LOWER_LID = (33, 7, 163, 144, 145, 153, 154, 155, 133)
LEFT_UPPER_LID = (362, 398, 384, 385, 386, 387, 388, 466, 263)
LEFT_LOWER_LID = (362, 382, 381, 380, 374, 373, 390, 249, 263)
RIGHT_BROW = (46, 53, 52, 65, 55, 70, 63, 105, 66, 107)
LEFT_BROW = (276, 283, 282, 295, 285, 300, 293, 334, 296, 336)
RIGHT_IRIS = (468, 469, 470, 471, 472)  # centre first
LEFT_IRIS = (473, 474, 475, 476, 477)

# Points that speech barely moves: eye corners, nose bridge, forehead, temples.
RIGID = (33, 133, 362, 263, 168, 6, 197, 10, 151, 9, 108, 337, 21, 251, 127, 356)
# fmt: on

RIGHT_EYE_CORNERS = (33, 133)
LEFT_EYE_CORNERS = (362, 263)
MOUTH_CORNERS = (61, 291)
INNER_MOUTH_CORNERS = (78, 308)
INNER_LIP_TOP, INNER_LIP_BOTTOM = 13, 14
NOSE_TIP, CHIN, FOREHEAD_TOP = 1, 152, 10

LIPS = tuple(sorted({i for ring in UPPER_LIP_RINGS + LOWER_LIP_RINGS for i in ring}))
EYELIDS = tuple(sorted({*RIGHT_UPPER_LID, *RIGHT_LOWER_LID, *LEFT_UPPER_LID, *LEFT_LOWER_LID}))
