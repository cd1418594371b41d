"""python -m tests.ops.calls --calls 20000 [--seed 1]: compiled ops called directly with anything.

An exception, never a crash.

The front functions check what they are given; this goes past them, to what any caller of torch.ops.davsr may do: shapes
that do not fit, other types, strides that overlap or step backwards in memory, empty and expanded tensors, devices
without memory.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from davsr.ops import backend

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.complex64, torch.bool)
ERRORS = (RuntimeError, ValueError, TypeError, LookupError, ArithmeticError)


def tensor(rng: np.random.Generator, shape: list[int], wrong: float) -> Tensor:
    """Of the shape, or with the chance `wrong` of another; of float32, or as rarely of another type.

    Laid out somehow.
    """
    shape = list(shape)
    if rng.random() < wrong:
        kind = int(rng.integers(0, 4))
        if kind == 0 and shape:
            del shape[int(rng.integers(len(shape)))]
        elif kind == 1:
            shape.insert(int(rng.integers(len(shape) + 1)), int(rng.integers(0, 3)))
        elif shape:
            shape[int(rng.integers(len(shape)))] = int(rng.choice([0, 1, 2, 7, 33]))
    dtype = DTYPES[int(rng.integers(len(DTYPES)))] if rng.random() < wrong else torch.float32
    values = torch.from_numpy(rng.standard_normal(shape).astype(np.float32)) * float(rng.choice([0, 1, 30, 1e30]))
    if rng.random() < 0.1 and values.numel():
        values.view(-1)[int(rng.integers(values.numel()))] = float(rng.choice([np.nan, np.inf, -np.inf]))
    value = values.to(dtype)
    layout = int(rng.integers(0, 7))
    if layout == 1 and value.dim() == 4:
        value = value.contiguous(memory_format=torch.channels_last)
    elif layout == 2 and value.dim() > 1:
        value = value.transpose(0, -1).contiguous().transpose(0, -1)
    elif layout == 3 and value.dim():
        value = torch.stack([value, value], -1)[..., 0]  # every second number
    elif layout == 4 and value.dim() and value.shape[0]:
        value = value[:1].expand(value.shape)
    elif layout == 5 and rng.random() < 0.3:
        value = value.to("meta") if rng.random() < 0.5 else value.to_sparse() if value.dim() else value
    elif layout == 6 and value.numel():
        value = torch.cat([value.flatten(), value.flatten()[:1]])[1:].view(value.shape)  # not where memory is aligned
    return value


def _numbers(rng: np.random.Generator, wrong: float, *values: int) -> list[int]:
    return [int(rng.choice([0, -1, 3, 2**31, 2**62, -(2**62)])) if rng.random() < wrong else v for v in values]


def deform_align(rng: np.random.Generator, wrong: float, level: str | None) -> Callable[[], Any]:
    b, g, c, o = (int(rng.integers(low, high)) for low, high in ((0, 3), (1, 5), (1, 5), (1, 20)))
    h, w = (int(rng.integers(1, 12)) for _ in range(2))
    two = bool(rng.random() < 0.5)
    g += two * (g % 2)
    like = [tensor(rng, shape, wrong) for shape in ([b, g * c, h, w], [b, 27 * g, h, w], [b, 2, h, w])]
    second = tensor(rng, [b, 2, h, w], wrong) if two else None
    weight, bias = tensor(rng, [o, g * c, 3, 3], wrong), tensor(rng, [o], wrong)
    (groups,) = _numbers(rng, wrong, g)
    residue = float(rng.choice([10, 0, -1, 1e30, np.nan, np.inf]))
    if rng.random() < 0.5:
        return lambda: torch.ops.davsr.deform_align(*like, second, weight, bias, groups, residue, level)
    grad = tensor(rng, [b, o, h, w], wrong)
    return lambda: torch.ops.davsr.deform_align_backward(grad, *like, second, weight, groups, residue, level)


def fourier_division(rng: np.random.Generator, wrong: float, level: str | None) -> Callable[[], Any]:
    b, c, t, h, w, s_t, s_h, s_w = (int(rng.integers(low, 5)) for low in (0, 0, 1, 1, 1, 1, 1, 1))
    T, H, W = t * s_t, h * s_h, w * s_w
    x, y = tensor(rng, [b, c, T, H, W // 2 + 1, 2], wrong), tensor(rng, [b, c, t, h, w // 2 + 1, 2], wrong)
    rest = [tensor(rng, shape, wrong) for shape in ([T, H, W // 2 + 1, 2], [t, h, w // 2 + 1], [b])]
    scale, (width,) = _numbers(rng, wrong / 3, s_t, s_h, s_w), _numbers(rng, wrong, W)
    if rng.random() < 0.5:
        return lambda: torch.ops.davsr.fourier_division(x, y, *rest, scale, width, level)
    grad = tensor(rng, [b, c, T, H, W // 2 + 1, 2], wrong)
    wanted = bool(rng.random() < 0.5)
    return lambda: torch.ops.davsr.fourier_division_backward(grad, x, *rest, y, scale, width, wanted, level)


def conv3x3(rng: np.random.Generator, wrong: float, level: str | None) -> Callable[[], Any]:
    b, i, o, h, w = (int(rng.integers(low, high)) for low, high in ((0, 3), (1, 40), (0, 40), (0, 15), (0, 15)))
    o = int(rng.choice([o, 64]))
    x, weight, bias = tensor(rng, [b, i, h, w], wrong), tensor(rng, [o, i, 3, 3], wrong), tensor(rng, [o], wrong)
    residual = tensor(rng, [b, o, h, w], wrong) if rng.random() < 0.5 else None
    slope = float(rng.choice([0, 0.1, 1, np.nan, 1e38]))
    if rng.random() < 0.5:
        points = tensor(rng, [36, i, -(-o // 16) * 16], wrong) if rng.random() < 0.5 else None
        shuffle = bool(rng.random() < 0.5)
        return lambda: torch.ops.davsr.conv3x3(x, weight, bias, residual, slope, level, points, shuffle)
    if rng.random() < 0.1:
        return lambda: torch.ops.davsr.conv3x3_points(weight, level)
    grad = tensor(rng, [b, o, h, w], wrong)
    return lambda: torch.ops.davsr.conv3x3_weight_gradient(grad, x, level)


_SIZES = ((0, 3), (1, 4), (1, 6), (1, 5), (1, 5), (1, 4), (0, 4))  # b, c, T, h, w, scale, steps


def by_schema(name: str) -> Callable[[np.random.Generator, float, str | None], Callable[[], Any]]:
    """Calls of an op that has no generator of its own here: tensors of small volumes, and numbers, by its schema."""
    op = getattr(torch.ops.davsr, name)

    def generate(rng: np.random.Generator, wrong: float, level: str | None) -> Callable[[], Any]:
        b, c, T, h, w, s, n = (int(rng.integers(low, high)) for low, high in _SIZES)
        volume, cells = [b, c, T, s * h, s * w], [b, n, T, h, w]
        shapes = {
            "motion": [b, T, 2, s * h, s * w],
            "support": [b, *volume[2:]],
            "d_support": [b, *volume[2:]],
            "step": [],
        }
        shapes |= {"weight": cells, "grad": cells if "mismatch" in name else volume}
        hidden = 8 * int(rng.integers(1, 4))
        networks = {  # packed
            "trust": [[3, 3, 4, hidden], [hidden], [3, 3, hidden, hidden], [hidden], [hidden], [1]],
            "detail": [[4, 4, 16 * c + 1, hidden], [hidden], [4, 4, hidden, 16 * c], [16 * c]],
        }
        lists = {"cell": [s, s], "steps": [int(rng.choice([-2, -1, 1, 2])) for _ in range(n)]}
        if name == "warp_between_":
            made, flow = [b, n, c, s * h, s * w], [b, n, 2, h, w]
            shapes |= {"out": made, "video": [b, T, *made[2:]], "before": flow, "after": flow}
            lists |= {"low": [int(rng.integers(T)) for _ in range(n)], "share": [1] * n}
        shapes |= {"speed": [b, T, h, w], "texture": [b, T, h, w], "root": cells}
        shapes |= {"samples": [b * T * n * c * s * h * (s * w + 48)]}
        if "detail" in name:
            k, seen = int(rng.integers(1, 20)), 16 * c
            shapes |= {"first": [k, seen + 1, 3, 3], "first_bias": [k], "last": [seen, k, 3, 3], "last_bias": [seen]}
            shapes |= {"hidden": [b * T, -(-s * h // 4), -(-s * w // 4), k]}
        if name.startswith("camera") or name == "data_step_":
            shapes |= {"y": [b, c, T, h, w], "alpha": [b], "spectrum": [h, w]}
            shapes |= {"rows_basis": [h, h], "columns_basis": [w, w]}
            lists |= {axis: [1] * int(rng.integers(1, 9)) for axis in ("time", "rows", "columns")}
            lists |= {"start": [int(rng.integers(-9, 9)) for _ in range(3)], "scale": [1, s, s]}
        values: list[Any] = []
        for argument in op.default._schema.arguments:
            kind = str(argument.type)
            if "List[Tensor]" in kind:
                values.append([tensor(rng, shape, wrong / 4) for shape in networks[argument.name]])
            elif "Tensor" in kind:
                values.append(tensor(rng, shapes.get(argument.name, volume), wrong))
            elif "List" in kind:
                values.append(_numbers(rng, wrong, *lists.get(argument.name, [])))
            elif "str" in kind:
                values.append(level)
            elif "bool" in kind:
                values.append(bool(rng.random() < 0.5))
            elif "int" in kind:
                values.append(_numbers(rng, wrong, s)[0])
            else:
                values.append(float(rng.choice([0.1, 0, -1, np.nan, np.inf, 1e30])))
        return lambda: op(*values)

    generate.__name__ = name
    return generate


def ops() -> list[Any]:
    """A generator of calls for every compiled op."""
    generators = [deform_align, fourier_division, conv3x3]
    known = {
        name + more
        for name in (op.__name__ for op in generators)
        for more in ("", "_backward", "_weight_gradient", "_points")
    }
    told = {"cpu_levels", "has_cuda", "built_for"}  # these take nothing
    names = {
        name.removeprefix("davsr::") for name in torch._C._dispatch_get_all_op_names() if name.startswith("davsr::")
    }
    return [*generators, *map(by_schema, sorted(names - known - told))]


def run(calls: int, seed: int) -> Counter[str]:
    """Random calls; how many were answered and how many refused."""
    generators = ops()
    levels = [None, *torch.ops.davsr.cpu_levels(), "nonsense"]
    counts: Counter[str] = Counter()
    for number in range(calls):
        rng = np.random.default_rng([seed, number])
        op = generators[number % len(generators)]
        call = op(rng, float(rng.choice([0, 0.05, 0.3])), levels[int(rng.integers(len(levels)))])
        try:
            call()
            counts[f"{op.__name__} answered"] += 1
        except ERRORS:
            counts[f"{op.__name__} refused"] += 1
    return counts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    if backend().name == "reference":
        print(f"there are no compiled ops here: {backend().reason}")
        return 0
    counts = run(args.calls, args.seed)
    for name, count in sorted(counts.items()):
        print(f"{name:32}{count:8}")
    print(f"{counts.total()} calls, seed {args.seed}, process {os.getpid()} lives")
    return 0


if __name__ == "__main__":
    sys.exit(main())
