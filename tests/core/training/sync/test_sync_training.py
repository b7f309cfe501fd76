import dataclasses

import pytest
import torch
from toy_speech import write_speaking

from portraittalk_core.errors import InputError
from portraittalk_core.training.loop.checkpoints import load_checkpoint
from portraittalk_core.training.sync.config import SyncTrainer, SyncTraining, load_sync_config
from portraittalk_core.training.sync.network import SYNC_SIZES, SyncNetwork, load_sync, save_sync
from portraittalk_core.training.sync.picture_encoder import MouthEncoder
from portraittalk_core.training.sync.stage import train_sync

pytest.importorskip("accelerate")
pytestmark = pytest.mark.usefixtures("one_thread")
QUICK = SyncTrainer(steps=4, batch_size=6, learning_rate=1e-3, save_every=2, sample_every=4)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return write_speaking(tmp_path_factory.mktemp("clips"), ["a", "b"])


def config(clips, out, **changes):
    return SyncTraining(clips, out, size="tiny", trainer=dataclasses.replace(QUICK, **changes))


def content(path):
    kept = load_checkpoint(path)
    return {name: tensor.numpy().tobytes() for name, tensor in kept.tensors.items()}, kept.notes


@pytest.mark.slow
def test_sync_training_resumes_bit_for_bit_and_writes_a_file_that_loads(clips, tmp_path):
    whole = train_sync(config(clips, tmp_path / "whole"))
    train_sync(config(clips, tmp_path / "cut", steps=2))
    cut = train_sync(config(clips, tmp_path / "cut"))
    assert cut.training.resumed_from == 2
    assert content(whole.training.checkpoint) == content(cut.training.checkpoint)
    assert whole.training.log.read_text() == cut.training.log.read_text()
    network = load_sync(whole.network)
    crops, rows = torch.rand(3, 5, 3, 16, 16), torch.randn(3, 18, 160)
    assert torch.equal(network(crops, rows), load_sync(cut.network)(crops, rows))
    assert 0 <= whole.score.accuracy <= 1 and len(whole.training.samples) == 1


def test_mouth_encoder_sees_blue_first():
    """A filter on the first channel alone sees what is blue."""
    encoder = MouthEncoder(16, 4, 8).eval()
    crops = torch.zeros(1, 5, 3, 16, 16)
    with torch.no_grad():
        encoder.layers[0].conv.weight[:, 1:] = 0
        still = encoder.layers[0](crops.flip(2).flatten(1, 2))
        crops[:, 0, 2] = 1  # blue of the first crop
        seen = []
        encoder.layers[0].register_forward_hook(lambda *call: seen.append(call[2]))
        encoder(crops)
    assert not torch.equal(seen[0], still)
    crops[:, 0, 2], crops[:, 0, 0] = 0, 1  # red
    encoder(crops)
    assert torch.equal(seen[1], still)


def test_embeddings_are_not_negative():
    network = SyncNetwork(SYNC_SIZES["tiny"], 7).eval()
    assert network.embed_rows(torch.randn(4, 18, 7)).min() >= 0
    cosines = network(torch.rand(4, 5, 3, 16, 16), torch.randn(4, 18, 7))
    assert cosines.shape == (4,) and cosines.min() >= 0 and cosines.max() <= 1


def test_files_of_other_networks_are_refused(tmp_path):
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(1)}, tmp_path / "x.safetensors")
    with pytest.raises(InputError, match="no lip-sync network"):
        load_sync(tmp_path / "x.safetensors")
    save_sync(SyncNetwork(SYNC_SIZES["tiny"], 7), tmp_path / "y.safetensors", {"sizes": "[]"})
    with pytest.raises(InputError, match="does not say the sizes"):
        load_sync(tmp_path / "y.safetensors")


@pytest.mark.parametrize(
    ("line", "message"),
    [('size = "huge"', "size"), ("negatives = 1.0", "between 0 and 1"), ("negative = 0.5", "unknown names: negative")],
)
def test_settings_are_checked(line, message, tmp_path):
    path = tmp_path / "sync.toml"
    path.write_text(f'data = "clips"\nout = "run"\n{line}\n')
    with pytest.raises(InputError, match=message):
        load_sync_config(path)
