"""What runs of one command share in a test file: a portrait is searched, and a weight file read, only once."""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable

import pytest

from portraittalk_core.cli import talk


def once(function: Callable) -> Callable:
    """A function that does its work once for arguments that read alike, until its `forget()`; no error is kept."""
    made: dict[str, object] = {}

    def kept(*args: object, **named: object) -> object:
        key = repr((args, named))
        if key not in made:
            made[key] = function(*args, **named)
        return made[key]

    kept.forget = made.clear
    return kept


def keep_portraits(patched: pytest.MonkeyPatch) -> None:
    """Let `talk` search each portrait once, whatever else is asked for."""
    found: dict[tuple, object] = {}

    def kept(args: argparse.Namespace, faces: list) -> object:
        key = (args.portrait, str(faces), args.face_order, args.mesh_backend, args.mesh_model)
        if key not in found:
            found[key] = search(args, faces)
        return found[key]

    search = talk.portraits_from
    patched.setattr(talk, "portraits_from", kept)


def keep_checkpoints(patched: pytest.MonkeyPatch) -> None:
    """Let identitynet read each checkpoint and tokenizer once; LoRAs are merged into a copy of the networks."""
    from portraittalk_core.renderers.identitynet import diffusers_backend

    read = once(diffusers_backend.load_sd15)
    patched.setattr(diffusers_backend, "load_sd15", lambda *args: copy.deepcopy(read(*args)))
    patched.setattr(diffusers_backend, "find_tokenizer", once(diffusers_backend.find_tokenizer))
