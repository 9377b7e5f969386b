"""Untrusted files are read within bounds: plain values, or one sentence."""

import io
import pickle
import zipfile
from collections import OrderedDict

import pytest
import torch

from bixt3d.io.untrusted import check_count, check_different_names, load_tensors, read_json, read_yaml
from bixt3d.types import InputError

BOMB = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "\n".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 10)}]" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


def refused(read, text: str) -> str:
    with pytest.raises(InputError) as caught:
        read(text, "it")
    sentence = str(caught.value)
    assert sentence.startswith("it ") and sentence.isprintable()
    return sentence


def test_settings_come_back_as_plain_values():
    text = "a: [1, 2.5, null, true]\nb: &b {c: 2020-01-01}\nd: *b\n"
    assert read_yaml(text, "it") == {"a": [1, 2.5, None, True], "b": {"c": "2020-01-01"}, "d": {"c": "2020-01-01"}}
    assert read_json('{"a": [1, 2.5, null, "x"]}', "it") == {"a": [1, 2.5, None, "x"]}


@pytest.mark.parametrize(
    "text",
    [
        BOMB,
        "a: &a [*a]",
        "a: *nowhere",
        "[" * 40 + "]" * 40,
        "[" * 50_000,
        "!!python/object/apply:os.getcwd []",
        "!!python/name:os.system ''",
        "!!binary aGVsbG8=",
        "!!set {a, b}",
        "!mine 3",
        "a: .nan",
        "optim.lr: 1",
        "data: [{init_args.workers: 1}]",
        "a: 0x" + "f" * 40,
        "3: 4",
        "a: [",
        "a: 1\n b: 2",
        "a: 1\na: 2",
        "a: {b: 1, 'b': 2}",
        "\x00",
        "\x1b[2Ja: [",
        "x" * 300_000,
        "[" + "1," * 100_000 + "]",
    ],
    ids=lambda text: repr(text[:25]),
)
def test_yaml_that_is_none_too_large_or_not_plain_is_refused_with_one_sentence(text):
    refused(read_yaml, text)


@pytest.mark.parametrize(
    "text",
    ["", "{", "NaN", "[1, Infinity]", "[" * 100_000, '{"a":' * 40 + "1" + "}" * 40, "1e999", "9" * 30, "9" * 5000]
    + ['"' + "x" * 5_000_000 + '"', "[" + "1," * 300_000 + "1]"],
    ids=lambda text: repr(text[:25]),
)
def test_json_that_is_none_too_large_or_not_finite_is_refused_with_one_sentence(text):
    refused(read_json, text)


@pytest.mark.parametrize("names", [[], "abc", None, 3, ["a", "a"], ["a", ""], ["a\n"], ["\x1b[2J"], [1], ["x" * 5000]])
def test_names_that_cannot_be_printed_or_are_not_unique_are_refused(names):
    check_different_names(["chair", "größe", "a b"], "it")
    refused(check_different_names, names)


@pytest.mark.parametrize("count", [0, -1, 2**21, True, 1.0, "1", None])
def test_a_count_is_a_whole_number_within_bounds(count):
    assert check_count(7, "it") == 7
    refused(check_count, count)


def saved(value) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def test_tensors_come_back():
    assert load_tensors(saved({"w": [torch.arange(3)]}))["w"][0].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("again", "sentence"),
    [(b"h\x01h\x00\x85R", "makes an OrderedDict of values"), (b"h\x01)Rh\x00b", "gives the same attributes")],
)
def test_a_pickle_that_multiplies_its_content_is_refused_before_it_is_read(again, sentence):
    """29 kB were 342 MB."""
    pairs = b"]q\x00(" + b"".join(b"M" + place.to_bytes(2, "little") + b"N\x86" for place in range(1000)) + b"e"
    repeats = b"\x80\x02(" + pairs + b"ccollections\nOrderedDict\nq\x01)R" + 4000 * again + b"t."
    head = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})
    with pytest.raises(InputError, match=sentence):
        load_tensors(b"".join(pickle.dumps(one, 2) for one in head) + repeats + pickle.dumps([], 2))


def test_a_tensor_that_is_larger_than_its_file_is_refused():
    with pytest.raises(InputError, match="larger than the file"):
        load_tensors(saved({"w": torch.zeros(1).expand(10**9)}))


def test_a_file_that_unpacks_to_more_than_its_size_is_refused():
    packed = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(saved({"w": torch.zeros(100_000)}))) as plain,
        zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        for name in plain.namelist():
            archive.writestr(name, plain.read(name))
    with pytest.raises(InputError, match="unpacks to more"):
        load_tensors(packed.getvalue())


def test_a_pickle_that_names_more_than_tensors_are_made_of_is_refused_before_it_is_read():
    takes_memory = b"\x80\x02cbuiltins\nbytearray\n\x8a\x05" + (8 * 10**9).to_bytes(5, "little") + b"\x85R."
    zipped = io.BytesIO(saved({"w": torch.zeros(3)}))
    with zipfile.ZipFile(zipped) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(zipped := io.BytesIO(), "w") as archive:
        for name, value in entries.items():
            archive.writestr(name, takes_memory if name.endswith("data.pkl") else value)
    for content in (takes_memory, zipped.getvalue()):
        with pytest.raises(InputError, match="it names builtins bytearray"):
            load_tensors(content)
    with pytest.raises(InputError, match="STACK_GLOBAL"):
        load_tensors(b"\x80\x04\x8c\x08builtins\x8c\x09bytearray\x93.")


def test_tensors_in_the_format_of_old_versions_of_torch_come_back():
    file = io.BytesIO()
    state = OrderedDict(w=torch.arange(3), p=torch.nn.Parameter(torch.ones(2).bfloat16()))
    torch.save(state, file, _use_new_zipfile_serialization=False)
    back = load_tensors(file.getvalue())
    assert back["w"].tolist() == [0, 1, 2] and back["p"].tolist() == [1, 1]
