"""Indices of the landmarks that IP-LAP's landmark generator takes in and predicts, in its own order.

Source: W. Zhong et al., "Identity-Preserving Talking Face Generation with Landmark and Appearance Priors" (2023), its
public weights' input and output (facts of the trained network).
"""

# fmt: off
PROFILE = (162, 127, 234, 93, 323, 454, 356, 389)  # temples and cheeks: person's right side down, left side up
BROWS = (70, 63, 105, 66, 107, 55, 65, 52, 53, 46, 336, 296, 334, 293, 300, 276, 283, 282, 295, 285)
NOSE = (168, 6, 197, 195, 5, 48, 115, 220, 45, 4, 275, 440, 344, 278)
EYES = (33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7,
        362, 398, 384, 385, 386, 387, 388, 466, 263, 249, 390, 373, 374, 380, 381, 382)
JAW = (132, 58, 172, 136, 150, 149, 176, 148, 152, 377, 400, 378, 379, 365, 397, 288, 361)
OUTER_LIPS = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146)
INNER_LIPS = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95)
# fmt: on

POSE = PROFILE + BROWS + NOSE + EYES  # 74 that tell where the head is; given
CONTENT = JAW + OUTER_LIPS + INNER_LIPS  # 57 that speech moves; predicted
REFERENCE = POSE + CONTENT  # 131 of a reference face
OPENING = (0, 17)  # middle of the upper and of the lower lip, whose distance sorts references
