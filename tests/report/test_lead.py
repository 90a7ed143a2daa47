"""The report's first sentences: grammar in both languages, each verdict told once."""

import pandas as pd
import pytest

from benchbench.analysis.brief import ALL, ASPECTS
from benchbench.report.language import Words
from benchbench.report.lead import answer, evidence
from benchbench.suite.model import Contrast

BRIEF = Contrast(of="after", against="before", expect="brief")
SHOWN = "shown, size open"
SCORE = "score, mean over the last tenth of training"
AREA = "normalised area under the score curve"


def claims(verdicts, env=ALL):
    """A row each of ``verdicts``: the brief's row -> verdict, or (verdict, label), or several."""
    rows = []
    for row, found in verdicts.items():
        for verdict, label in found if isinstance(found, list) else [found]:
            measure = {5: AREA, 6: SCORE}.get(row, SCORE)
            rows.append({"row": row, "env": env, "claim": f"claim {row}", "measure": measure,
                         "verdict": verdict, "label": label, "n_pairs": 10})  # fmt: skip
    return pd.DataFrame(rows)


def told(verdicts, lang="en", contrast=BRIEF):
    return answer(claims(verdicts), contrast, Words(lang))


AS, NOT = (SHOWN, "as claimed"), (SHOWN, "against the claim")


@pytest.mark.parametrize(
    ("verdicts", "english", "chinese"),
    [
        ({3: AS}, "1 is shown, size open (feature quality, as claimed).",
         "1 项已证实，大小未定（特征质量，与论断一致）。"),
        ({3: AS, 7: AS}, "2 are shown, size open (feature quality and stability, both as claimed).",
         "2 项已证实，大小未定（特征质量和稳定性，均与论断一致）。"),
        ({3: AS, 5: AS, 7: AS},
         "(feature quality, convergence speed and stability, all as claimed).",
         "（特征质量、收敛速度和稳定性，均与论断一致）。"),
        ({3: AS, 7: NOT}, "(feature quality as claimed, stability against the claim).",
         "（特征质量与论断一致，稳定性与论断相反）。"),
        ({2: [AS, NOT]},
         "(what the encoder learns, partly as claimed and partly against the claim).",
         "（编码器学习，部分与论断一致，部分与论断相反）。"),
        ({3: ("inconclusive", "no room for an effect of delta"), 7: ("supported", "")},
         "1 is supported (stability) and 1 is inconclusive (feature quality).",
         "1 项成立（稳定性），1 项尚无定论（特征质量）。"),
    ],
)  # fmt: skip
def test_the_answer_is_a_sentence(verdicts, english, chinese):
    assert told(verdicts).endswith(english)
    assert told(verdicts).startswith("Of seven claims for `after`, ")
    assert told(verdicts, "zh").endswith(chinese)


def test_a_contrast_without_claims_tells_its_aspects():
    plain = Contrast(of="b", against="a")
    found = {5: (SHOWN, "higher"), 6: ("higher", "")}
    assert told(found, contrast=plain) == (
        "`b` against `a` in 2 aspects: 1 is shown, size open (convergence speed, higher) and 1 is "
        "higher (final performance)."
    )
    assert "`b` against `a` in one aspect: " in told({6: ("higher", "")}, contrast=plain)
    assert "`b` 对 `a`，2 个方面：" in told(found, "zh", plain)


def by_environment(verdicts, lang="en"):
    """What is said of environments whose score and area have these verdicts."""
    parts = [claims({5: ("supported", ""), 6: ("supported", "")})]
    parts += [claims({5: area, 6: score}, env) for env, (area, score) in verdicts.items()]
    return evidence(pd.concat(parts), BRIEF, Words(lang), "weight")


YES, OPEN = ("supported", ""), ("inconclusive", "")


def test_measures_that_came_out_alike_are_told_together():
    same = {"maze@clean": (YES, YES), "maze@dark": (YES, YES)}
    assert by_environment(same).startswith(
        "By condition, normalised area under the score curve and score: supported on both. "
    )
    differing = {"maze@clean": (YES, AS), "maze@dark": (OPEN, YES)}
    assert by_environment(differing).startswith(
        "By condition, normalised area under the score curve: supported on `clean`; score: "
        "shown, size open (as claimed) on `clean`, supported on `dark`. "
    )
    assert by_environment(differing, "zh").startswith(
        "按条件分别来看，得分曲线下的归一化面积：`clean` 成立；得分："
        "`clean` 已证实，大小未定（与论断一致），`dark` 成立。"
    )


def test_many_environments_are_counted_and_none_says_so():
    many = {f"maze-{n}": (OPEN, YES if n < 5 else OPEN) for n in range(9)}
    assert by_environment(many).startswith("By environment, score: supported on 5 of 9. ")
    none = {f"maze-{n}": (OPEN, OPEN) for n in range(3)}
    assert by_environment(none).startswith("No environment alone decides a claim. ")


def test_every_aspect_has_a_name_that_fits_the_sentence():
    whole = told({aspect.row: YES for aspect in ASPECTS})
    assert whole == (
        "Of seven claims for `after`, 7 are supported (gradient flow, what the encoder learns, "
        "feature quality, prediction of Q, convergence speed, final performance and stability)."
    )
