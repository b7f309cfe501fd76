"""References of a prepared video: which frames, and where their embeddings are kept."""

import dataclasses

import pytest
import torch
from toy_puppet import motion, puppet_clip

from portraittalk_core.errors import InputError, NoFaceError
from portraittalk_core.face.identity.embedding import FaceEmbedding
from portraittalk_core.training.data.references import ReferenceReader, reference_file, reference_frames


def test_reference_frames_begin_with_the_given_one_and_reach_the_extremes():
    track, moves = puppet_clip(3, 24).track, motion(24, 3)
    frames = reference_frames(track, 5, 4)
    assert frames[0] == 5 and len(set(frames)) == 4
    # the puppet only rolls and opens its mouth: the second frame is the farthest in these two, scaled as documented
    places = torch.stack([moves[:, 2].rad2deg() / 30, 0.35 * moves[:, 3] / 0.5], 1)
    assert frames[1] == int((places - places[5]).norm(dim=1).argmax())
    spread = [float(torch.pdist(places[list(chosen)]).min()) for chosen in (frames, (5, 6, 7, 8))]
    assert spread[0] > 2 * spread[1]


def test_reference_frames_show_the_face_and_never_repeat():
    clip = puppet_clip(0, 6)
    valid = torch.tensor([True, False, True, True, False, True])
    track = dataclasses.replace(clip.track, valid=valid)
    assert sorted(reference_frames(track, 2, 16)) == [0, 2, 3, 5]


def test_embeddings_are_described_once_and_frames_without_a_face_left_out(tmp_path):
    clip, asked = puppet_clip(0, 5), []
    (tmp_path / clip.name).mkdir()

    def describe(picture, name):
        asked.append(name)
        if name.startswith("frame 2 "):
            raise NoFaceError("no face is seen.")
        return FaceEmbedding(torch.full((1, 512), float(picture.float().mean())))

    read = ReferenceReader(tmp_path, lambda: describe).read(clip, 16)
    assert sorted(read.references) == [0, 1, 3, 4] and len(asked) == 5
    again = ReferenceReader(tmp_path, lambda: describe).read(clip, 16)
    assert len(asked) == 6  # the one without a face is looked at again
    for number, face in read.references.items():
        torch.testing.assert_close(again.references[number].face_embeds, face.face_embeds)
    ReferenceReader(tmp_path, lambda: describe, without_background=True).read(clip, 16)
    assert len(asked) == 11  # other embeddings, in files of their own
    assert reference_file(tmp_path / clip.name, 3, True).is_file()


def test_video_without_any_face_is_refused_with_the_reason(tmp_path):
    def describe(picture, name):
        raise NoFaceError("no face is seen.")

    with pytest.raises(InputError, match="puppet 0: no reference frame .*no face is seen"):
        ReferenceReader(tmp_path, lambda: describe).read(puppet_clip(0, 3), 4)
