"""Prompts: windows of 77 tokens, each seen alone; the tokenizer is found in the user's places and never half-read."""

import pytest
import torch
from tokenizer_files import write_tokenizer

from portraittalk_core.diffusion.text import encode_text, find_tokenizer
from portraittalk_core.errors import InputError, MissingDependency

BEGIN, END = 98, 99


class Words:
    """A tokenizer whose prompts are numbers."""

    bos_token_id, eos_token_id = BEGIN, END

    def __call__(self, prompt, add_special_tokens, verbose):
        assert not add_special_tokens
        return {"input_ids": [int(word) for word in prompt.split()]}


@pytest.fixture(scope="module")
def encoder():
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(0)
    sizes = {"hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    return CLIPTextModel(CLIPTextConfig(vocab_size=100, bos_token_id=BEGIN, eos_token_id=END, **sizes)).eval()


@torch.no_grad()
def seen(encoder, *ids):
    return encoder(torch.tensor([ids])).last_hidden_state


def test_prompt_stands_between_begin_and_ends(encoder):
    tokens = encode_text(encoder, Words(), "5 6 7")
    assert tokens.shape == (1, 77, 24)
    assert torch.equal(tokens, seen(encoder, BEGIN, 5, 6, 7, *[END] * 73))


def test_tokens_are_behind_the_final_norm(encoder):
    """Before its scale and shift, which are 1 and 0 here, every token has mean 0 and deviation 1."""
    tokens = encode_text(encoder, Words(), "5 6 7")
    assert torch.allclose(tokens.mean(-1), torch.zeros(1, 77), atol=1e-5)
    assert torch.allclose(tokens.std(-1, unbiased=False), torch.ones(1, 77), atol=1e-3)


def test_empty_prompt_is_one_window(encoder):
    assert torch.equal(encode_text(encoder, Words(), ""), seen(encoder, BEGIN, *[END] * 76))


@pytest.mark.parametrize(("count", "windows"), [(75, 1), (76, 2), (150, 2), (151, 3)])
def test_long_prompt_is_split(encoder, count, windows):
    words = [i % 90 for i in range(count)]
    tokens = encode_text(encoder, Words(), " ".join(map(str, words)))
    assert tokens.shape == (1, 77 * windows, 24)
    last = words[75 * (windows - 1) :]
    expected = seen(encoder, BEGIN, *last, *[END] * (76 - len(last)))
    assert torch.allclose(tokens[:, -77:], expected, atol=1e-6)
    assert torch.allclose(tokens[:, :77], encode_text(encoder, Words(), " ".join(map(str, words[:75]))), atol=1e-6)


def test_encode_text_rejects_another_tokenizer(encoder):
    with pytest.raises(InputError, match="word 100, the encoder 100 words"):
        encode_text(encoder, Words(), "5 100")


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """Neither ComfyUI, nor a cache, nor a network."""
    monkeypatch.setenv("COMFYUI_DIR", str(tmp_path / "no_comfy"))

    def fail(place, **_):
        raise OSError(f"no {place} and no network\nmore")

    from transformers import CLIPTokenizer

    read = CLIPTokenizer.from_pretrained
    chosen = {}

    def from_pretrained(place, **options):
        return read(place, **options) if str(place).startswith(str(tmp_path)) else chosen.get("hub", fail)(place)

    monkeypatch.setattr(CLIPTokenizer, "from_pretrained", from_pretrained)
    return chosen


def test_tokenizer_of_a_folder_is_read(tmp_path, nowhere):
    tokenizer = find_tokenizer(write_tokenizer(tmp_path / "mine"))
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (49406, 49407)
    # "a" is the 65th letter shown: 64 alone, 256 more at a word's end; capitals are not kept
    assert tokenizer("A", add_special_tokens=False)["input_ids"] == [256 + ord("a") - 33]


def test_tokenizer_of_comfyui_is_found(tmp_path, nowhere, monkeypatch):
    write_tokenizer(tmp_path / "ui" / "comfy" / "sd1_tokenizer")
    monkeypatch.setenv("COMFYUI_DIR", str(tmp_path / "ui"))
    assert len(find_tokenizer()) == 49408


def test_tokenizer_nowhere_tells_the_three_ways(nowhere):
    with pytest.raises(MissingDependency, match="vocab.json.*COMFYUI_DIR.*network once.*clip-vit-large-patch14"):
        find_tokenizer()


def test_empty_tokenizer_is_not_taken_for_one(nowhere):
    """What transformers 5 gives where it finds no files."""
    nowhere["hub"] = lambda place: ["<|startoftext|>", "<|endoftext|>"]
    with pytest.raises(MissingDependency, match="2 words, CLIP's has 49408"):
        find_tokenizer()


def test_find_tokenizer_rejects_a_folder_without_one(tmp_path, nowhere):
    with pytest.raises(InputError, match="holds no tokenizer"):
        find_tokenizer(tmp_path)


@pytest.mark.parametrize("content", ["", "{}", "no json"])
def test_find_tokenizer_rejects_damaged_files(tmp_path, nowhere, content):
    folder = write_tokenizer(tmp_path / "mine")
    (folder / "vocab.json").write_text(content)
    with pytest.raises(InputError, match="cannot be read"):
        find_tokenizer(folder)


def test_find_tokenizer_rejects_a_smaller_vocabulary(tmp_path, nowhere):
    with pytest.raises(InputError, match="614 words"):
        find_tokenizer(write_tokenizer(tmp_path / "mine", pairs=100))
