"""The average is its formula, is lent to the model and taken back, and goes on from what was saved."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mdnet.training.averaging import WeightAverage


def make_model(dtype: torch.dtype = torch.float64) -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3)).to(dtype, memory_format=torch.channels_last)


def change(model: nn.Module, seed: int) -> None:
    """New weights and statistics, as a step makes them."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(torch.randn(tensor.shape, generator=random, dtype=torch.float64))
            else:
                tensor.add_(1)


def copy_of(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def assert_same_bits(ours, theirs) -> None:
    assert ours.keys() == theirs.keys()
    assert [name for name, tensor in ours.items() if not torch.equal(tensor, theirs[name])] == []


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 1e-5)])
def test_the_average_is_its_formula(dtype, tolerance):
    model = make_model(dtype)
    average = WeightAverage(model, 0.6)
    expected = {name: tensor.double() for name, tensor in copy_of(model).items()}
    for n in range(1, 21):
        change(model, n)
        average.update(model)
        decay = min(0.6, (1 + n) / (10 + n))  # the second is smaller up to n = 12
        for name, tensor in model.state_dict().items():
            new = decay * expected[name] + (1 - decay) * tensor.double()
            expected[name] = new if tensor.is_floating_point() else tensor.double()
    found = average.state_dict()
    assert int(found.pop("updates")) == 20
    for name, tensor in found.items():
        torch.testing.assert_close(tensor.double(), expected[name], rtol=tolerance, atol=tolerance)
    assert found["1.num_batches_tracked"] == 20


def test_the_model_has_the_average_within_and_its_own_bits_behind():
    model = make_model()
    average = WeightAverage(model, 0.9)
    change(model, 1)
    average.update(model)
    own, parameters = copy_of(model), list(model.parameters())
    with average.applied(model):
        within = copy_of(model)
    assert_same_bits(within, {n: t for n, t in average.state_dict().items() if n != "updates"})
    assert not torch.equal(within["0.weight"], own["0.weight"])
    assert_same_bits(copy_of(model), own)
    for before, after in zip(parameters, model.parameters(), strict=True):
        assert before is after  # the optimizer still holds them
        assert after.requires_grad


def test_the_model_has_its_own_bits_behind_an_error_too():
    model = make_model()
    average = WeightAverage(model, 0.9)
    change(model, 1)
    own = copy_of(model)
    with pytest.raises(RuntimeError, match="validation failed"), average.applied(model):
        raise RuntimeError("validation failed")
    assert_same_bits(copy_of(model), own)


def test_what_is_done_to_the_model_does_not_reach_the_average():
    model = make_model()
    average = WeightAverage(model, 0.9)
    before = {name: tensor.clone() for name, tensor in average.state_dict().items()}
    change(model, 1)
    with average.applied(model):
        change(model, 2)
    assert_same_bits(average.state_dict(), before)


def test_it_goes_on_from_what_was_saved_to_the_same_bits():
    model = make_model()
    whole, first = WeightAverage(model, 0.9), WeightAverage(model, 0.9)
    for n in range(3):
        change(model, n)
        whole.update(model)
        first.update(model)
    saved = {name: tensor.clone() for name, tensor in first.state_dict().items()}
    change(model, 50)
    second = WeightAverage(model, 0.9)  # begins elsewhere
    second.load_state_dict(saved)
    for n in range(3, 15):
        change(model, n)
        whole.update(model)
        second.update(model)
    assert_same_bits(second.state_dict(), whole.state_dict())


def test_the_average_of_another_model_is_refused():
    average = WeightAverage(make_model(), 0.9)
    for other in (torch.zeros(4, 2, 3, 3), torch.zeros(2, 3, 3, 3), torch.zeros(3, 3)):
        with pytest.raises(RuntimeError, match=r"the average of 0\.weight has shape .*, not \(3, 2, 3, 3\)"):
            average.load_state_dict(average.state_dict() | {"0.weight": other})
    with pytest.raises(KeyError, match=r"0\.weight"):
        average.load_state_dict({"updates": torch.tensor(3)})
    assert average.updates == 0


def test_the_first_updates_leave_the_random_start_behind():
    model = make_model()
    with torch.no_grad():
        model[0].weight.fill_(1.0)
    average = WeightAverage(model, 0.9999)
    with torch.no_grad():
        model[0].weight.zero_()
    for _ in range(100):
        average.update(model)
    assert average.state_dict()["0.weight"].max() < 1e-6  # 0.99 with the decay alone
