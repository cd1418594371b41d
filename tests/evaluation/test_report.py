"""The report: self-contained, and alive in a real browser where one is installed."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from davsr.data.clips import open_clip
from davsr.data.views import Degraded
from davsr.evaluation.report import Gallery, busiest_row, data_url, input_frame
from davsr.evaluation.tables import BASELINE
from davsr.evaluation.tester import evaluate
from davsr.physics.degradation import Degradation
from tests import browser
from tests.evaluation.sets import moving, options, write_clip


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    for name in ("one", "two</script><b>"):
        write_clip(folder / "gt" / name.replace("/", "|"), moving(15))
    changes = ["test.save=none", "test.pictures=2", "test.reference=reds4"]
    evaluate(options("name=run", f"test.truth={folder}/gt", *changes), folder)
    return folder / "run" / "index.html"


def test_report_needs_nothing_else(report: Path) -> None:
    text = report.read_text(encoding="utf-8")
    assert not re.search(r"""(src|href)\s*=\s*["'](?!data:)""", text)
    assert "@import" not in text and "url(" not in text
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)[1])
    assert [clip["name"] for clip in data["clips"]] == ["one", "two<|script><b>"]
    clip = data["clips"][0]
    assert [list(shot["images"]) for shot in clip["shots"]] == [["input", BASELINE, "x_0", "z_1", "truth"]] * 2
    assert len(clip["curves"]["psnr"]["z_1"]) == 15 and len(clip["curves"]["residual"]["z_1"]) == 3
    assert data["tables"]["published"][1][0] == "bicubic + linear"
    assert data["tables"]["clips"][-1][0] == "average"


def test_pictures_survive_their_encoding() -> None:
    image = moving(1)[0]
    encoded = np.frombuffer(base64.b64decode(data_url(image).split(",")[1]), np.uint8)
    decoded = cv2.imdecode(encoded, cv2.IMREAD_COLOR)[..., ::-1]
    luma = [x.astype(float).mean(axis=2) for x in (decoded, image)]
    assert np.abs(luma[0] - luma[1]).mean() < 4  # levels; lossy (seen: 2)


def test_slices_are_the_row_of_every_frame() -> None:
    frames = moving(6)
    gallery = Gallery("clip", {2}, 30)
    for p, frame in enumerate(frames):
        gallery.push(p, {"truth": frame})
    assert list(gallery.images) == [2]
    np.testing.assert_array_equal(np.stack(gallery.rows["truth"]), frames[:, 30])
    assert list(gallery.slices(["input", "truth"])) == ["truth"]


def test_the_busiest_row_is_where_something_moves(tmp_path: Path) -> None:
    frames = np.full((10, 64, 80, 3), 60, np.uint8)
    for i in range(10):
        frames[i, 40:48, 6 * i : 6 * i + 10] = 220
    row = busiest_row(Degraded(open_clip(write_clip(tmp_path / "clip", frames)), Degradation()), 4)
    assert 38 <= row < 50
    assert busiest_row(open_clip(tmp_path / "clip").__class__(tmp_path / "clip"), 1) in range(40, 48)


def test_the_input_on_show_is_the_one_exposed_at_that_time(tmp_path: Path) -> None:
    lq = np.zeros((3, 8, 8, 3), np.uint8) + np.array([10, 20, 30], np.uint8).reshape(3, 1, 1, 1)
    clip = open_clip(write_clip(tmp_path / "clip", lq))
    shown = [int(input_frame(clip, p, (5, 4, 4), 2.0)[0, 0, 0]) for p in range(15)]
    assert shown == [10] * 5 + [20] * 5 + [30] * 5
    assert input_frame(clip, 0, (5, 4, 2), 2.0).shape == (32, 16, 3)


@pytest.mark.skipif(browser.FOUND is None, reason="no Chromium is installed")
def test_the_slider_and_the_stages_work_in_a_browser(report: Path, tmp_path: Path) -> None:
    with browser.Browser() as page:
        page.open(report)
        place = "getComputedStyle(document.getElementById('slider')).getPropertyValue('--at')"
        assert page.evaluate(place).strip() == "50%"
        browser.move_slider(page, 0.25)
        assert float(page.evaluate(place).strip().rstrip("%")) == pytest.approx(25, abs=0.5)

        shown = "[document.getElementById('above').alt, document.getElementById('below').alt]"
        assert page.evaluate(shown) == [BASELINE, "z_1"]
        page.evaluate("[...document.querySelectorAll('#stages button')].find(b => b.textContent === 'truth').click()")
        assert page.evaluate(shown) == [BASELINE, "truth"]
        clips = "const s = document.getElementById('clip'); s.value = '1'; s.dispatchEvent(new Event('change'));"
        page.evaluate(f"(() => {{ {clips} }})()")
        assert page.evaluate("[...document.images].every(i => i.naturalWidth > 0)")
        assert page.evaluate("document.querySelectorAll('#curves svg').length") == 5
        assert page.evaluate("document.querySelectorAll('#slices img').length") == 4
        assert page.evaluate("document.querySelectorAll('#clips tr').length") == 4

        page.screenshot(tmp_path / "page.png")
        picture = cv2.imread(str(tmp_path / "page.png"))
        assert picture.std() > 20
        assert page.errors == []


@pytest.mark.skipif(browser.FOUND is None, reason="no Chromium is installed")
def test_a_report_without_truth_or_pictures_shows_what_there_is(report: Path, tmp_path: Path) -> None:
    lq = write_clip(
        tmp_path / "lq", Degraded(open_clip(report.parent.parent / "gt" / "one"), Degradation()).frames(0, 3)
    )
    evaluate(options("name=run", f"test.input={lq}", "test.save=none", "test.pictures=0"), tmp_path)
    with browser.Browser() as page:
        page.open(tmp_path / "run" / "index.html")
        assert page.evaluate("document.getElementById('compare').hidden") is True
        assert page.evaluate("document.querySelectorAll('#slices img').length") == 3
        assert page.evaluate("document.querySelectorAll('#curves svg').length") == 1  # residuals
        assert page.evaluate("document.querySelector('#clips tr:nth-child(2)').textContent").startswith("lq3 x 20x16")
        assert page.errors == []
