"""report.html in a real browser: it fits a phone, sorts, enlarges, and asks nobody for anything.

Chromium is driven by its command line alone: a probe is put into a copy of the page, and what it
leaves behind is read. The page stands in a frame, since a window cannot be narrower than 500 px.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import escape, unescape
from pathlib import Path
from typing import Any

import pytest
from helpers.results_factory import BRIEF, make_rows, make_suite, write_results

from benchbench.report import write_report
from benchbench.report.html import whole
from benchbench.routing import REGISTRY

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))),
                None)  # fmt: skip
HOSTILE = "<img src=x onerror=alert(1)> </script><script>document.title='taken'</script> `|*"

WATCH = """
<script>
window.trouble = [];
addEventListener("error", e => trouble.push(String(e.message || e.target.outerHTML)), true);
addEventListener("securitypolicyviolation", e => trouble.push("blocked " + e.blockedURI));
for (const level of ["error", "warn"]) console[level] = (...words) => trouble.push(words.join(" "));
</script>
"""
PROBE = """
<script>
addEventListener("load", () => {
  const page = document.documentElement;
  const folded = [...document.querySelectorAll("main > details")].every(d => !d.open);
  const top = document.querySelector("figure.forest").getBoundingClientRect().top;
  const ticks = [...document.querySelectorAll(".strip i")].map(i => i.getBoundingClientRect())
    .map(({left, right}) => [left, right]);
  document.getElementById("unfold").click();
  const tables = [...document.querySelectorAll("table.sortable")];
  const table = tables.find(t => t.closest("[aria-label='All variants']"));
  const scores = () => [...table.tBodies[0].rows].map(row => Number(row.cells[3].dataset.sort));
  const head = table.tHead.rows[0].cells[3], button = head.querySelector("button");
  button.focus();
  const reachable = document.activeElement === button && button.tabIndex === 0;
  const orders = [scores()], said = [];
  for (let turn = 0; turn < 3; turn++) {
    button.click();
    orders.push(scores());
    said.push(head.getAttribute("aria-sort"));
  }
  const figure = document.querySelector("figure:not(.forest)"), image = figure.querySelector("img");
  const fitting = image.getBoundingClientRect().width;
  figure.querySelector("button").click();
  const found = {
    folded, top, ticks, orders, said, reachable, trouble,
    width: innerWidth, content: page.scrollWidth,
    fitting, large: image.getBoundingClientRect().width, still: page.scrollWidth,
    drawn: [...document.images].every(i => i.complete && i.naturalWidth > 0),
    requests: performance.getEntriesByType("resource").map(e => e.name)
      .filter(name => !name.startsWith("data:")),
    scrolling: [...document.querySelectorAll(".box")].filter(b => b.scrollWidth > b.clientWidth)
      .every(b => getComputedStyle(b).overflowX === "auto" && b.tabIndex === 0),
    title: document.title,
  };
  parent.document.getElementById("found").textContent = JSON.stringify(found);
});
</script>
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The report of many variants, with hostile text wherever text may come from elsewhere."""
    folder = tmp_path_factory.mktemp("html")
    suite = make_suite(variants=list(REGISTRY)[:6], seeds=3, description=HOSTILE)
    plan, rows = make_rows(suite, BRIEF)
    rows["cells"][0] |= {"status": "failed", "error": HOSTILE}
    rows["cells"][1] |= {"device_name": HOSTILE, "git_commit": HOSTILE}
    write_results(folder, suite, plan, rows)
    write_report(folder)
    return (folder / "report.html").read_text(encoding="utf-8")


def looked_at(page: str, folder: Path, width: int) -> dict[str, Any]:
    """What the probe found on the page in a window of that width."""
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine")
    copy = folder / "page.html"
    probed = page.replace("<head>", f"<head>{WATCH}", 1).replace("</body>", f"{PROBE}</body>")
    frame = f'<iframe srcdoc="{escape(probed)}" width="{width}" height="900"></iframe>'
    copy.write_text(f'<meta charset="utf-8"><pre id="found"></pre>{frame}', encoding="utf-8")
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
        "--no-first-run", "--disable-background-networking", "--disable-component-update",
        "--disable-sync", f"--user-data-dir={folder / 'profile'}",
        "--host-resolver-rules=MAP * ~NOTFOUND", "--window-size=1400,1000", "--hide-scrollbars",
        "--enable-logging=stderr", "--virtual-time-budget=10000", "--dump-dom", copy.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "CONSOLE" not in done.stderr, done.stderr
    match = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    assert match is not None
    assert match[1], done.stderr[-2000:]
    found: dict[str, Any] = json.loads(unescape(match[1]))
    return found


@pytest.mark.parametrize("width", [390, 768, 1280])
def test_the_page_in_a_browser(page: str, tmp_path: Path, width: int) -> None:
    found = looked_at(page, tmp_path, width)
    assert found["width"] == width
    assert found["content"] <= width, "the page scrolls sideways"
    assert found["scrolling"], "a wide table scrolls in its own box, by keyboard too"
    assert found["folded"], "what is not first is folded"
    assert found["top"] < 900, "the overview is on the first screen"
    ends = [end for tick in found["ticks"] for end in tick]
    assert ends == sorted(ends), "no tick's label runs into the next"
    assert 0 <= ends[0] < ends[-1] <= width
    assert found["trouble"] == []
    assert found["requests"] == []
    assert found["title"] == "synthetic · benchbench"

    first, up, down, again = found["orders"]
    assert up == sorted(first) != first
    assert down == sorted(first, reverse=True)
    assert again == first
    assert found["said"] == ["ascending", "descending", None]
    assert found["reachable"], "a column's head is a button that takes the focus"

    assert found["drawn"], "every figure is drawn"
    assert 0 < found["fitting"] <= width
    assert found["large"] > 1.5 * found["fitting"]
    assert found["still"] <= width, "an enlarged figure scrolls in its own box"


def test_the_page_needs_nothing_beside_it(page: str) -> None:
    bare = page
    for name in ("suite.json", "claims.csv", "pairs.csv", "described.csv", "cells.parquet",
                 "evaluations.parquet", "training.parquet", "ledger.parquet"):  # fmt: skip
        assert f'<a href="{name}">' in page
        bare = bare.replace(f'<a href="{name}">', "")
    assert not re.search(r"""<[^>]*\s(?:src|href)=(?!"data:image/|"#|"figures/)""", bare)
    assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest|import\(", page)
    assert "default-src 'none'" in page


def test_numbers_are_not_broken_over_lines() -> None:
    assert whole("at 95 %: 0.41 [0.30, 0.52]") == "at 95\u00a0%: 0.41 [0.30,\u00a00.52]"


def test_text_from_elsewhere_is_text(page: str) -> None:
    assert "<img src=x" not in page
    assert page.count("<script") == page.count("</script>") == 1
    assert page.count("&lt;img src=x onerror=alert(1)&gt;") == 4
