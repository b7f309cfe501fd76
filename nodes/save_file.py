"""What the nodes that save a record to a file share: their schema, and how they write."""

from __future__ import annotations

from comfy_api.latest import io, ui

from .bindings.outputs import new_output
from .bindings.progress import show_text
from .sockets import schema


def save_schema(record: io.Input, folder: str, **texts: str) -> io.Schema:
    """The schema of a node that saves a record.

    Args:
        record: the input for the record.
        folder: in the output folder, for files whose name is not chosen.
        texts: node_id, display_name and description.
    """
    prefix = io.String.Input(
        "filename_prefix", default=f"{folder}/PortraitTalk",
        tooltip="Folder and beginning of the name within the output folder; a number is added.",
    )  # fmt: skip
    return schema(
        **texts,
        inputs=[record, prefix],
        outputs=[io.String.Output("path", display_name="path", tooltip="Where the file is.")],
        hidden=[io.Hidden.unique_id],
        is_output_node=True,
    )


def save_to_output(
    record: object, filename_prefix: str, summary: str, node_id: str, size: tuple[int, int] | None = None
) -> io.NodeOutput:
    """Write a record to the next numbered file in the output folder, and its name and summary on the node.

    Args:
        record: one that `media.records.save_record` writes.
        filename_prefix: folder and beginning of the name.
        summary: of the record, in words.
        node_id: of the node.
        size: width and height, for tokens in the name.
    """
    from ..portraittalk_core.media.records import save_record

    path, name, subfolder = new_output(filename_prefix, size=size)
    save_record(record, path)
    text = f"{subfolder}/{name}: {summary}" if subfolder else f"{name}: {summary}"
    show_text(node_id, text)
    return io.NodeOutput(str(path), ui=ui.PreviewText(text))


def length_text(track) -> str:
    """Seconds, frames and rate of a track."""
    return f"{track.seconds:.2f} s, {len(track)} frames at {float(track.fps):g} fps"
