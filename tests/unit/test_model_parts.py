"""Which files make one model, and what is said of those that do not."""

from __future__ import annotations

import pytest

from supervisor.errors import VerificationFailed
from supervisor.model.header import Header, TensorInfo
from supervisor.model.metadata import Part, join, part_count


def part(number, values=(), tensors=()):
    infos = tuple(TensorInfo(name, (1,), None, 0, None) for name in tensors)
    name = Part(f"part{number}.gguf", 100 + number)
    return name, Header(3, dict(values), infos, 32, 32, 32)


def split(number, count=3, **values):
    return {"split.no": number, "split.count": count, "split.tensors.count": 2, **values}


FIRST = part(0, {"general.architecture": "gpt-oss", "k": 1, **split(0)})  # gguf-split --no-tensor-first-split
SECOND = part(1, split(1), ["a"])
THIRD = part(2, split(2), ["b"])


def refusal(*files):
    with pytest.raises(VerificationFailed) as caught:
        join(files)
    return str(caught.value)


def test_the_parts_together_are_one_model_with_the_first_one_s_keys():
    model = join([FIRST, SECOND, THIRD])
    assert (model.architecture, model.values["k"]) == ("gpt-oss", 1)
    assert [tensor.name for tensor in model.tensors] == ["a", "b"]
    assert model.size_bytes == 303


def test_one_file_is_a_model_too():
    model = join([part(0, {"general.architecture": "llama"}, ["a"])])
    assert (model.architecture, len(model.tensors), len(model.parts)) == ("llama", 1, 1)


@pytest.mark.parametrize(("values", "count"), [({}, 1), ({"split.count": 0}, 1), (split(0), 3)])
def test_a_header_says_how_many_parts_there_are(values, count):
    assert part_count(part(0, values)[1]) == count
    assert part_count(part(0, {"split.count": "many"})[1]) == 1


def test_a_model_without_an_architecture_is_none():
    assert "part0.gguf is a GGUF without general.architecture" in refusal(part(0))


def test_parts_in_another_order_are_refused():
    assert "part2.gguf says that it is split.no 2; split.no 1 is due" in refusal(FIRST, THIRD, SECOND)


def test_a_whole_model_in_the_place_of_a_part_is_refused():
    assert "part1.gguf does not say which part it is" in refusal(FIRST, part(1, {}, ["a"]), THIRD)


@pytest.mark.parametrize(
    ("foreign", "key"),
    [
        (split(1, count=4), "split.count"),
        (split(1) | {"split.tensors.count": 9}, "split.tensors.count"),
        (split(1) | {"general.architecture": "llama"}, "general.architecture"),
    ],
)
def test_a_part_of_another_model_is_named_with_what_differs(foreign, key):
    said = refusal(FIRST, part(1, foreign, ["a"]), THIRD)
    assert f"part1.gguf is of another model than the first one: it has another {key}." in said


def test_a_tensor_that_two_parts_have_is_named():
    assert "do not belong together: two have 'a'" in refusal(FIRST, SECOND, part(2, split(2), ["a"]))


def test_too_few_tensors_are_counted():
    assert "they have 1 tensors, 2 are due" in refusal(FIRST, SECOND, part(2, split(2)))
