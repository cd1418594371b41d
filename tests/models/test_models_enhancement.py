from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from davsr.models.alignment import FlowGuidedAlignment
from davsr.models.rve import RVE
from davsr.models.warp import warp
from davsr.ops import deform_align_reference
from davsr.options import EnhancementOptions, FlowNetOptions

SMALL = {
    "channels": 8, "blocks": 1, "feature_blocks": 1, "reconstruction_blocks": 1, "hr_channels": 6, "groups": 4,
    "flow": FlowNetOptions(levels=2, channels=(4,), kernel=3),
}  # fmt: skip


def small(seed: int = 0, **changes) -> RVE:
    """A small network whose every part matters: the zero-initialised layers are drawn too, and there is motion."""
    torch.manual_seed(seed)
    model = RVE(EnhancementOptions(**{**SMALL, **changes}))
    with torch.no_grad():
        for alignment in model.alignment.values():
            alignment.offset[-1].weight.normal_(std=0.1)
        for level in model.flow.levels:
            level[-1].weight.normal_(std=0.1)
        model.conv_last.weight.mul_(10)
    return model


def clip(b: int = 1, T: int = 4, H: int = 16, W: int = 20) -> Tensor:
    return torch.rand(b, 3, T, H, W, generator=torch.Generator().manual_seed(1))


def literal_rve(model: RVE, z: Tensor, beta: Tensor) -> Tensor:
    """The network of design section 3.3 for one clip, frame by frame, with nothing skipped, batched or in place."""
    frames = [z[:, :, i] for i in range(z.shape[2])]
    n, size = len(frames), (z.shape[3] // 4, z.shape[4] // 4)
    m, order = model.options.channels, model.options.order

    def block(part, x):
        x = F.leaky_relu(part.entry(x), 0.1)
        for residual in part.blocks:
            x = x + residual.conv2(F.relu(residual.conv1(x)))
        return x

    def features(frame):
        x = torch.cat([frame, beta.view(-1, 1, 1, 1).expand(-1, 1, *frame.shape[2:])], dim=1)
        x = F.leaky_relu(model.features[2](F.leaky_relu(model.features[0](x), 0.1)), 0.1)
        return block(model.features[4], x)

    small_frames = [F.interpolate(x, size=size, mode="bicubic", align_corners=False) for x in frames]
    to_next = [model.flow(small_frames[i], small_frames[i + 1]) for i in range(n - 1)]
    to_last = [model.flow(small_frames[i + 1], small_frames[i]) for i in range(n - 1)]
    f = [features(x) for x in frames]
    branches: list[list[Tensor]] = []
    for name in ("backward_1", "forward_1", "backward_2", "forward_2"):
        backward = name.startswith("backward")
        scan = list(range(n))[::-1] if backward else list(range(n))
        outputs: dict[int, Tensor] = {}
        last_flow = None
        align = model.alignment[name]
        for step, i in enumerate(scan):
            zero = torch.zeros_like(f[i])
            aligned = zero
            if step > 0:
                flow_1 = to_next[i] if backward else to_last[i - 1]
                p1, p2, flow_2, warped_2 = outputs[scan[step - 1]], zero, torch.zeros_like(flow_1), zero
                if step > 1:
                    p2 = outputs[scan[step - 2]]
                    flow_2 = flow_1 + warp(last_flow, flow_1)
                    warped_2 = warp(p2, flow_2)
                last_flow = flow_1
                sources, flows = [p1, p2][:order], [flow_1, flow_2][:order]
                raw = torch.cat([warp(p1, flow_1), f[i], *[warped_2][: order - 1], *flows], dim=1)
                for layer in align.offset:
                    raw = F.leaky_relu(raw, 0.1) if isinstance(layer, torch.nn.LeakyReLU) else layer(raw)
                aligned = deform_align_reference(
                    torch.cat(sources, dim=1), raw, flow_1, flow_2 if order == 2 else None, align.weight, align.bias,
                    groups=model.options.groups * order // 2, max_residue=model.options.max_residue,
                )  # fmt: skip
            inputs = torch.cat([f[i], *(branch[i] for branch in branches), aligned], dim=1)
            outputs[i] = aligned + block(model.propagation[name], inputs)
        branches.append([outputs[i] for i in range(n)])
    results = []
    for i in range(n):
        x = block(model.reconstruction, torch.cat([f[i], *(branch[i] for branch in branches)], dim=1))
        assert x.shape[1] == m
        x = F.leaky_relu(F.pixel_shuffle(model.upsample1(x), 2), 0.1)
        x = F.leaky_relu(F.pixel_shuffle(model.upsample2(x), 2), 0.1)
        x = model.conv_last(F.leaky_relu(model.conv_hr(x), 0.1))
        results.append(x + frames[i])
    return torch.stack(results, dim=2)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("T", [1, 2, 5])
def test_equals_the_equations_frame_by_frame(order, T):
    model = small(order=order).double()
    z, beta = clip(2, T).double(), torch.tensor([0.1, 0.4]).double()
    with torch.no_grad():
        out = model(z, beta)
    expected = literal_rve(model, z, beta)
    assert (out - z).std() > 0.01  # the network does something
    torch.testing.assert_close(out, expected)


def test_beta_and_every_frame_reach_the_output():
    model = small()
    z = clip(1, 5).requires_grad_()
    beta = torch.tensor([0.1], requires_grad=True)
    model(z, beta)[:, :, 2].sum().backward()
    assert beta.grad.abs() > 0
    assert (z.grad.abs().sum(dim=(0, 1, 3, 4)) > 0).all()


@pytest.mark.parametrize("order", [1, 2])
def test_every_parameter_gets_a_gradient(order):
    model = small(order=order)
    model(clip(1, 4), torch.tensor([0.1])).square().mean().backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []


def test_batch_equals_its_samples():
    model = small().eval()
    z, beta = clip(3), torch.tensor([0.1, 0.2, 0.3])
    with torch.no_grad():
        together = model(z, beta)
        apart = torch.cat([model(z[i : i + 1], beta[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(together, apart)


@pytest.mark.parametrize("size", [(1, 1), (2, 7), (18, 13)])
def test_any_size_is_padded_by_replication_and_cropped(size):
    model = small().eval()
    H, W = size
    z, beta = clip(1, 3, H, W), torch.tensor([0.1])
    padded = F.pad(z, (0, -W % 4, 0, -H % 4, 0, 0), mode="replicate")
    with torch.no_grad():
        torch.testing.assert_close(model(z, beta), model(padded, beta)[..., :H, :W])


def test_chunks_do_not_change_the_result(monkeypatch):
    model = small().eval()
    z, beta = clip(2, 5), torch.tensor([0.1, 0.2])
    with torch.no_grad():
        expected = model(z, beta)
        monkeypatch.setattr("davsr.models.rve._PIXELS", 1)
        torch.testing.assert_close(model(z, beta), expected)


def peak_bytes(work: Callable[[], None]) -> int:
    """Most bytes that tensors hold at once on top of those held before, from the profiler's record of allocations."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        work()
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = itertools.accumulate(event.nbytes() for event in sorted(events, key=lambda event: event.start_ns()))
    return max(held)


def test_gradient_checkpointing_gives_the_same_gradients_with_less_memory():
    model = small(channels=16, blocks=4, hr_channels=16)
    z, beta = clip(1, 5, 32, 32), torch.tensor([0.1])

    def step() -> None:
        model.zero_grad(set_to_none=False)
        model(z, beta).square().mean().backward()

    step()  # makes the gradients, so that both measurements start alike
    plain_bytes = peak_bytes(step)
    plain = [p.grad.clone() for p in model.parameters()]
    model.gradient_checkpointing = True
    checkpointed_bytes = peak_bytes(step)
    for p, expected in zip(model.parameters(), plain, strict=True):
        torch.testing.assert_close(p.grad, expected)
    assert checkpointed_bytes < 0.45 * plain_bytes  # seen: 0.2 to 0.3


def test_autocast_lowers_convolutions_only():
    model = small().eval()
    z, beta = clip(1, 4), torch.tensor([0.1])
    flows = []
    model.flow.register_forward_hook(lambda module, inputs, output: flows.append(output))
    with torch.no_grad():
        exact = model(z, beta)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = model(z, beta)
    assert out.dtype == torch.float32
    assert all(flow.dtype == torch.float32 for flow in flows)
    error = (out - exact).std() / (exact - z).std()
    assert 0 < error < 0.1  # seen: 0.02, the eight bits of bfloat16 over some twenty layers


def test_autocast_trains():
    model = small()
    model.gradient_checkpointing = True
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = model(clip(2, 3), torch.tensor([0.1, 0.2]))
    out.square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_input_is_left_alone():
    model = small()
    z = clip()
    before = z.clone()
    model(z, torch.tensor([0.1]))
    assert torch.equal(z, before)


def test_starts_near_the_identity():
    torch.manual_seed(0)
    model = RVE(EnhancementOptions(channels=16, blocks=2, hr_channels=16))
    z = clip()
    with torch.no_grad():
        change = model(z, torch.tensor([0.1])) - z
    assert 0 < change.std() < 0.1 * z.std()


def test_wrong_inputs_are_named():
    model = small()
    with pytest.raises(ValueError, match=r"RVE: z must be \[b, 3, T, H, W\], got \[1, 4, 2, 8, 8\]"):
        model(torch.zeros(1, 4, 2, 8, 8), torch.zeros(1))
    with pytest.raises(ValueError, match=r"RVE: beta must be \[2\], got None"):
        model(torch.zeros(2, 3, 2, 8, 8))


def test_alignment_without_second_source_equals_zeros():
    torch.manual_seed(0)
    align = FlowGuidedAlignment(8, groups=4, max_residue=3.0).double()
    torch.nn.init.normal_(align.offset[-1].weight, std=0.3)
    p1, *cond = torch.randn(4, 2, 8, 7, 9).double()
    flow = torch.randn(2, 2, 7, 9).double()
    full = align(p1, torch.zeros_like(p1), cond, flow, torch.zeros_like(flow))
    torch.testing.assert_close(align(p1, None, cond, flow, None), full)


def test_alignment_starts_as_sampling_along_the_flow():
    """Zero offsets leave the flow: shifted features, seen through the centre tap at half weight, the mask's start."""
    align = FlowGuidedAlignment(4, groups=2, order=1)
    with torch.no_grad():
        align.weight.zero_()
        for i in range(4):
            align.weight[i, i, 1, 1] = 2.0
        p1 = torch.randn(1, 4, 6, 6)
        flow = torch.tensor([1.0, 2.0]).view(1, 2, 1, 1).expand(1, 2, 6, 6)
        out = align(p1, None, torch.randn(2, 1, 4, 6, 6), flow, None)
    torch.testing.assert_close(out[..., :4, :5], p1[..., 2:, 1:])
    assert (out[..., 4:, :] == 0).all() and (out[..., 5:] == 0).all()


def test_alignment_refuses_groups_that_do_not_divide():
    with pytest.raises(ValueError, match="groups must be even and divide 2 \\* channels = 16, got 3"):
        FlowGuidedAlignment(8, groups=3)
