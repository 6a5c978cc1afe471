"""Attention over packed rows: which way computes it, and the passes of the way for training on a CPU."""

import pytest
import torch

from qa.model import attention


def test_the_kernel_follows_device_precision_and_dropout(monkeypatch):
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert attention.kernel(cpu, True, 0.0) == "by turns"
    assert attention.kernel(gpu, True, 0.0) == "padded"  # not tried yet
    monkeypatch.setattr(attention, "varlen_works", True)
    assert attention.kernel(gpu, True, 0.0) == "varlen"
    assert attention.kernel(gpu, False, 0.0) == attention.kernel(gpu, True, 0.1) == "padded"
    assert not attention.try_varlen(cpu)


@pytest.mark.parametrize("scale", [None, 0.3])
@pytest.mark.parametrize("sliding_window", [None, 3])
def test_attention_by_products_and_its_gradients_are_those_of_torch(scale, sliding_window):
    results = []
    for attend in (attention._by_turns, attention._Products.apply):
        inputs = torch.randn(3, 20, 2, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).unbind()
        inputs = [tensor.requires_grad_() for tensor in inputs]
        windows = torch.tensor([0, 9, 9, 11, 17]) if attend == attention._by_turns else [9, 0, 2, 6, 3]
        output = attend(*([inputs] if attend == attention._by_turns else inputs), windows, scale, 0.0, sliding_window)
        (output * torch.arange(20)[:, None, None]).square().sum().backward()
        assert not output[17:].any() and output[:17].all()
        results.append([output, *(tensor.grad for tensor in inputs)])
    torch.testing.assert_close(*results)


def test_attention_by_products_drops_the_same_weights_in_both_passes():
    inputs = torch.randn(3, 20, 2, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).unbind()
    inputs = [tensor.requires_grad_() for tensor in inputs]

    def attend(*tensors):
        torch.manual_seed(0)
        return attention._Products.apply(*tensors, [9, 11, 0], None, 0.5, None)

    assert torch.autograd.gradcheck(attend, inputs)
    assert not torch.allclose(attend(*inputs), attention._Products.apply(*inputs, [9, 11, 0], None, 0.0, None))


def test_attention_by_products_loses_no_more_than_half_precision_does():
    results = []
    for half in (False, True):
        inputs = torch.randn(3, 300, 2, 32, generator=torch.Generator().manual_seed(0)).bfloat16().unbind()
        inputs = [(tensor if half else tensor.float()).clone().requires_grad_() for tensor in inputs]
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            output = attention._by_turns(inputs, torch.tensor([0, 300]), None, 0.0, None)
        assert output.dtype == inputs[0].dtype
        output.float().square().sum().backward()
        results.append([output.detach().float(), *(tensor.grad.float() for tensor in inputs)])
    for expected, found in zip(*results, strict=True):
        assert (found - expected).norm() < 0.02 * expected.norm()
