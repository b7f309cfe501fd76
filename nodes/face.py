"""Face embedding nodes: the embedding of a person's pictures, and interpolation between two people."""

from __future__ import annotations

from itertools import chain

from comfy_api.latest import io

from . import texts
from .bindings import convert, paths
from .bindings.progress import Progress
from .sockets import FaceEmbedding, advanced, given_pictures, growing_pictures, schema
from .widgets import face_index_widget

PICTURES = "pictures"  # the input that grows


class LoadFaceEmbedding(io.ComfyNode):
    """Node that computes the face embedding of one person's pictures for IdentityNet."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return schema(
            node_id="PortraitTalkLoadFaceEmbedding",
            display_name="Load Face Embedding",
            description="Finds the face in one or more pictures of a person and describes it (InsightFace buffalo_l, "
            "in models/insightface; its licence allows research only).",
            search_aliases=["FaceID", "InsightFace", "ArcFace", "identity"],
            inputs=[
                io.Image.Input("images", tooltip="Pictures of one person; several in a batch are combined."),
                FaceEmbedding.Input(
                    "more", optional=True, tooltip="The same person in pictures of another size, from a node like this."
                ),
                io.Mask.Input(
                    "mask", optional=True, tooltip="Where the person is: all else turns black before the face is found."
                ),
                io.ClipVision.Input(
                    "clip_vision", optional=True, tooltip="CLIP-ViT-H, for the adapters FaceID plus and IP-Adapter."
                ),
                face_index_widget("Which face, 0 is the largest."),
                advanced(
                    io.String.Input(
                        "weights", default="", optional=True,
                        tooltip="How much each picture counts, such as 1, 0.5, 2; empty is all alike.",
                    )
                ),
                *growing_pictures(
                    PICTURES, "More pictures of the same person, of any size; each counts as those in images."
                ),
                advanced(
                    io.Boolean.Input(
                        "remove_background", default=False, optional=True,
                        tooltip="All but the person turns black before the face is described, as PortraitTalk does.",
                    )
                ),
            ],
            outputs=[
                FaceEmbedding.Output("face_embedding", display_name="face_embedding", tooltip="Who it is."),
                io.Image.Output("face", display_name="face", tooltip="The face of every picture, upright and cut out."),
                io.Mask.Output("face_mask", display_name="mask", tooltip="Where the face is in every picture."),
            ],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, images, face_index, weights="", more=None, mask=None, clip_vision=None, remove_background=False, **others
    ):
        """Detect, crop and encode the faces."""
        from ..portraittalk_core.face.identity.embedding import join_faces

        batches = [images, *given_pictures(PICTURES, others)]
        encoded = _encoded(batches, face_index, weights, mask, remove_background)
        crops = convert.to_image(encoded.crops)
        embedding = _with_clip(encoded.embedding, clip_vision, crops)
        joined = embedding if more is None else join_faces([embedding, more])
        return io.NodeOutput(joined, crops, convert.to_masks(encoded.masks))


class BlendFaces(io.ComfyNode):
    """Node that interpolates between the face embeddings of two people."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return schema(
            node_id="PortraitTalkBlendFaces",
            display_name="Blend Faces",
            description="Makes a person between two: 0 is the first, 1 the second.",
            inputs=[
                FaceEmbedding.Input("face_a", tooltip="One person."),
                FaceEmbedding.Input("face_b", tooltip="Another person."),
                io.Float.Input("amount", default=0.5, min=0.0, max=1.0, step=0.01, tooltip="0 is a, 1 is b."),
            ],
            outputs=[
                FaceEmbedding.Output("face_embedding", display_name="face_embedding", tooltip="The person in between.")
            ],
        )

    @classmethod
    def execute(cls, face_a, face_b, amount) -> io.NodeOutput:
        """Spherical interpolation of the embeddings."""
        from ..portraittalk_core.face.identity.embedding import blend_faces

        return io.NodeOutput(blend_faces(face_a, face_b, amount))


def _encoded(batches, face_index, weights, mask, remove_background):
    from ..portraittalk_core.face.identity.background import person_masks
    from ..portraittalk_core.face.identity.encoder import CROP_PX, FaceEncoder, find_face_models

    first, *others = [list(convert.to_pictures(batch)) for batch in batches]
    pictures = [*first, *chain.from_iterable(others)]
    numbers = texts.to_numbers(weights, len(pictures), "weights")
    masks = convert.to_picture_masks(mask, first)
    masks = None if masks is None else [*masks, *[None] * (len(pictures) - len(first))]
    if remove_background:
        masks = person_masks(pictures, masks)
    with FaceEncoder(find_face_models(paths.model_folders(paths.FACES))) as encoder:
        return encoder.encode(pictures, None, numbers, masks, face_index, CROP_PX, Progress())


def _with_clip(embedding, clip_vision, crops):
    """The embedding with CLIP features of the faces, if CLIP is connected."""
    import dataclasses

    if clip_vision is None:
        return embedding
    clip_output = clip_vision.encode_image(crops)
    states, pooled = (clip_output[name].float().cpu() for name in ("penultimate_hidden_states", "image_embeds"))
    return dataclasses.replace(embedding, clip_states=states, clip_embeds=pooled)
