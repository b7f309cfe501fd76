import pytest
import torch
from made_voice import made_voice
from safetensors.torch import save_file

from portraittalk_core.engines.builtin.closure_net import STOP, ClosureNet
from portraittalk_core.engines.builtin.mouth_model import save_closures, save_mouth
from portraittalk_core.engines.builtin.mouth_net import MouthNet
from portraittalk_core.engines.contract import EngineFiles, listening_to, whole_track
from portraittalk_core.engines.registry import find_engines, open_engine
from portraittalk_core.errors import InputError, MissingDependency
from portraittalk_core.face.topology import INNER_LOWER_LIP, INNER_UPPER_LIP
from portraittalk_core.motion.options import MotionOptions
from portraittalk_core.speech.encoders import features_from_tensor
from portraittalk_core.types import Speech


def expression_shapes() -> dict[str, torch.Tensor]:
    return {"vae.decoder.out_proj.weight": torch.zeros(64, 256, 1), "mel_encoder.0.weight": torch.zeros(128, 1024, 3)}


def test_a_fitted_mouth_network_is_an_engine(tmp_path, astronaut):
    torch.manual_seed(1)
    path = tmp_path / "me.safetensors"
    net = MouthNet(8).eval().requires_grad_(False)
    save_mouth(net, path, {})
    engine = open_engine(EngineFiles(path))
    speech = Speech(made_voice(1.0))
    track = whole_track(engine, speech, astronaut.landmarks, MotionOptions())
    assert len(track) == 25
    own = whole_track(open_engine(), speech, astronaut.landmarks, MotionOptions())
    assert (track.points - own.points).abs().max() > 1e-4  # another network, another mouth


def test_a_closure_network_is_an_engine_with_the_mouth_network_in_the_box(tmp_path, astronaut):
    torch.manual_seed(1)
    path = tmp_path / "closures.safetensors"
    net = ClosureNet(8).eval().requires_grad_(False)
    net.leave.bias[STOP] = 20  # closed lips everywhere
    save_closures(net, path, {})
    speech = Speech(made_voice(1.0))
    tracks = [whole_track(open_engine(f), speech, astronaut.landmarks) for f in (EngineFiles(path), None)]
    gap, own = (track.points[:, INNER_LOWER_LIP, 1] - track.points[:, INNER_UPPER_LIP, 1] for track in tracks)
    assert gap.mean() < own.mean()


def test_a_checkpoint_of_another_family_is_named(tmp_path):
    path = tmp_path / "lip.safetensors"
    save_file(
        {
            "decoder.conv_in.weight": torch.zeros(512, 4, 3, 3),
            "encoder.conv_in.weight": torch.zeros(128, 3, 3, 3),
            "post_quant_conv.weight": torch.zeros(4, 4, 1, 1),
        },
        path,
    )
    with pytest.raises(InputError, match=r"lip\.safetensors is not a motion engine.*image autoencoder"):
        open_engine(EngineFiles(path))
    save_file({"w": torch.zeros(2)}, path)
    with pytest.raises(InputError, match="none that is known"):
        open_engine(EngineFiles(path))
    with pytest.raises(MissingDependency, match="nowhere"):
        open_engine(EngineFiles(tmp_path / "nowhere.pt"))


def test_a_missing_face_model_is_named_with_source_and_licence(tmp_path):
    save_file(expression_shapes(), tmp_path / "a2m.safetensors")
    with pytest.raises(MissingDependency, match=r"Basel Face Model 2009.*register.*non-commercial"):
        open_engine(EngineFiles(tmp_path / "a2m.safetensors"))


def test_engines_are_found_by_content(tmp_path):
    save_file(expression_shapes(), tmp_path / "whatever.ckpt.safetensors")
    save_mouth(MouthNet(8), tmp_path / "x.safetensors", {})
    save_file({"w": torch.zeros(1)}, tmp_path / "audio2mesh.safetensors")
    assert [found.kind.engine for found in find_engines([tmp_path])] == ["audio2motion", "embedded"]


def test_features_for_an_engine_that_takes_none_are_refused():
    with pytest.raises(InputError, match="embedded engine hears the sound itself"):
        listening_to(open_engine(), features_from_tensor(torch.zeros(1, 49, 1024)))
