"""Losses on the cosine between a picture's and a sound's embedding: contrastive, and as a target of generation.

Shapes: B pairs, D numbers of an embedding, none of them negative, so that cosines lie in 0..1.
Sources: Prajwal et al. 2020, "A lip sync expert is all you need" (Wav2Lip), equations 1 and 2; ControlTalk, equation 5,
which prints the cosine itself as a loss to be minimised: a slip of the sign.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import binary_cross_entropy, cosine_similarity

from ..checks import check_choice, check_shape

KINDS = ("log", "printed")
FLOOR = 1e-6  # of a cosine, before its logarithm


def sync_cosine(pictures: Tensor, sounds: Tensor) -> Tensor:
    """(B,) cosines of embeddings (B, D), float32.

    Raises:
        ShapeError: other shapes.
    """
    check_shape(pictures, "B D", "embeddings of pictures")
    check_shape(sounds, " ".join(str(n) for n in pictures.shape), "embeddings of sounds")
    return cosine_similarity(pictures.float(), sounds.float(), dim=1, eps=FLOOR)


def sync_contrastive_loss(cosines: Tensor, in_sync: Tensor) -> Tensor:
    """Binary cross-entropy of cosines (B,) taken as probabilities, where `in_sync` (B,) is 1 for a true pair, 0 else.

    Returns:
        A scalar, float32.
    """
    return binary_cross_entropy(cosines.float().clamp(0, 1), in_sync.float())


def sync_loss(cosines: Tensor, kind: str = "log") -> Tensor:
    """Loss of generated pictures whose cosines (B,) with the sound are to rise.

    Args:
        cosines: of `sync_cosine`.
        kind: "log" is −log max(cos, 1e-6), the contrastive loss of a true pair; "printed" is equation 5 as it stands,
            the cosine, which drives pictures out of sync.

    Returns:
        A scalar, float32.

    Raises:
        InputError: another kind.
    """
    check_choice(kind, KINDS, "the lip-sync loss")
    if kind == "printed":
        return cosines.float().mean()
    return -cosines.float().clamp(min=FLOOR).log().mean()
