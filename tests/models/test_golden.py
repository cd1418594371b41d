"""Our network computes the published one's function: parts, and the whole, on vectors of the published network.

The tolerances are those that come with the vectors: another order of float32 sums. A float64 run differs from the
vectors by 8e-6 rms and 3e-4 at most.
"""

from __future__ import annotations

import pytest
import torch

from tests.golden import CASES, assert_agrees, network, stored_part, vectors


@pytest.mark.parametrize("name", CASES)
def test_spynet(name):
    given = vectors(name, "spynet")
    with torch.no_grad():
        flow = network(name).enhance.flow(given["ref"], given["supp"])
    assert_agrees(flow, given["flow"], largest=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_alignment(name):
    given = vectors(name, "alignment")
    p1, p2 = given["x"].chunk(2, dim=1)
    with torch.no_grad():
        out = network(name).enhance.alignment["forward_1"](p1, p2, [given["cond"]], given["flow_1"], given["flow_2"])
    rows, columns = given["out"].shape[2:]
    assert_agrees(out[:, :, :rows, :columns], given["out"], largest=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_whole_network(name):
    given = vectors(name, "davsr")
    with torch.no_grad():
        sr, stages = network(name)(given["lq"], float(given.get("sigma", 0)), return_stages=True)
    assert_agrees(torch.cat([stages.alpha[0], stages.beta[0]]), given["alpha_beta"], largest=1e-5)
    assert_agrees(stored_part(stages.x0, given["init"]), given["init"], largest=1e-5)
    assert_agrees(stored_part(stages.z[0], given["z1"]), given["z1"], largest=1e-5)
    assert_agrees(stored_part(stages.x[0], given["x1"]), given["x1"], largest=1e-3, rms=3e-5)
    assert_agrees(stored_part(sr, given["sr"]), given["sr"], largest=1e-3, rms=3e-5)
