"""What the ledger shows of the multiverse: each claim over settings that a critic would change.

The stores of `bnlib.experiments.records.store` are files, so nothing here waits for a chapter.

* ``{multiverse}`key` `` is a sentence: how many settings have which answer.
* ```` ```{norm-matrix} ```` is the ablation of norms: a row a claim, a column a norm.
* `bnclaims` puts `headline` and a ```{multiverse-plot} key``` on the card of a claim.
"""

import re
from html import escape
from pathlib import Path

import numpy as np
from docutils import nodes
from sphinx.util.docutils import SphinxDirective, SphinxRole

FOLDER = Path("book", "_data", "multiverse")
SIGNS = {
    "supported": "yes",
    "refuted": "no",
    "no effect": "none",
    "undecided": "open",
    "cannot tell": "open",
    "it depends": "depends",
    "not ": "open",
}
"""Beginning of an answer -> what the classes of the style sheet call it."""


def sign(answer):
    """Return what the style sheet calls an answer."""
    return next(sign for word, sign in SIGNS.items() if answer.startswith(word))


def path_of(env, key):
    """Return the path of the store of a claim, on which the page now depends."""
    path = Path(env.srcdir, FOLDER, f"{key}.json")
    if path.is_file():
        env.note_dependency(str(path))
    return path


def read(path):
    """Read a store; None if there is none, for which the library is not needed."""
    if not path.is_file():
        return None
    from bnlib.experiments.records.store import load

    return load(path)


def headline(store):
    """Return the answer over all settings, without what it depends on or how many it holds for."""
    answer = store.answer()
    return "it depends" if answer.startswith("it depends") else answer.partition(":")[0]


def sentence(store):
    """Say how many settings have which answer, and what changes it."""
    counts = store.counts()
    failed = counts.pop("not judged", 0)
    total, n = sum(counts.values()), len(store.cells)
    of = "settings" if not store.factors else f"cases in {n} settings"
    words = [f"{answer} in {k}" for answer, k in counts.items()]
    if words:
        words[0] += f" of {total} {of}"
    if failed:
        words.append(f"{failed} {'setting' if failed == 1 else 'settings'} could not be judged")
    text, answer = ", ".join(words), store.answer()
    if answer.startswith("it depends"):
        *axes, last = answer.split(" and ")
        text += f"; {', '.join(axes)} and {last}" if axes else f"; {last}"
    return text


WIDTH, TALL, AXIS = 320, 240, 16


def on_scale(value, reach, width):
    """Return where a value is in a drawing from -reach to reach, which cuts off what is beyond."""
    return width / 2 * (1 + min(max(value / reach, -1), 1))


def drawing(store):
    """Draw each verdict as a dot on its interval, sorted by effect, over the band of the margin."""
    verdicts = sorted(store.verdicts().values(), key=_place)
    reach, step = _reach(verdicts), min(8, TALL / max(len(verdicts), 1))
    height = step * len(verdicts)

    def x(value):
        return on_scale(value, reach, WIDTH)

    margin = max((v.margin for v in verdicts), default=0)
    marks = [
        f'<rect class="margin" x="{x(-margin):.1f}" y="0" height="{height:.1f}" '
        f'width="{max(x(margin) - x(-margin), 1):.1f}"/>'
    ]
    for i, verdict in enumerate(verdicts):
        y = (i + 0.5) * step
        marks.append(
            f'<path class="range" d="M{x(verdict.low):.1f} {y:.1f}H{x(verdict.high):.1f}"/>'
        )
        if np.isfinite(verdict.effect):
            marks.append(
                f'<circle class="dot-{sign(verdict.answer)}" cx="{x(verdict.effect):.1f}" '
                f'cy="{y:.1f}" r="{min(3, 0.6 * step + 0.8):.1f}"/>'
            )
    for place, anchor, value in ((0, "start", -reach), (0.5, "middle", 0), (1, "end", reach)):
        words = f"{value:.2g}".replace("-", "\N{MINUS SIGN}")
        at = f'x="{place * WIDTH:g}" y="{height + AXIS - 4:.1f}" text-anchor="{anchor}"'
        marks.append(f"<text {at}>{words}</text>")
    label = escape(_in_words(verdicts), quote=True)
    return (
        f'<svg class="forest" role="img" viewBox="0 0 {WIDTH} {height + AXIS:.1f}" '
        f'aria-label="{label}">{"".join(marks)}</svg>'
    )


def _place(verdict):
    """Return where a verdict is in the order: by its effect, or by the middle of its interval."""
    if np.isfinite(verdict.effect):
        return verdict.effect
    middle = (verdict.low + verdict.high) / 2
    return middle if np.isfinite(middle) else 0.0


def _reach(verdicts):
    """Return how far from 0 the drawing reaches: nine of ten finite ends lie within."""
    ends = [abs(end) for v in verdicts for end in (v.low, v.high) if np.isfinite(end)]
    return max([1.5 * v.margin for v in verdicts] + [1.1 * np.quantile(ends or [1.0], 0.9)])


def _in_words(verdicts):
    effects = [v.effect for v in verdicts if np.isfinite(v.effect)]
    if not effects:
        return "No effect could be measured."
    low, middle, high = np.quantile(effects, [0, 0.5, 1])
    return (
        f"{len(effects)} effects from {low:.2g} to {high:.2g}, half of them above {middle:.2g}; "
        f"the margin is {verdicts[0].margin:g}."
    )


def details(store):
    """List all settings, and when and with what they were computed, behind a fold."""
    own = store.cells[0].setting
    lines = []
    for cell in store.cells:
        changed = [f"{axis}: {x}" for axis, x in cell.setting.items() if x != own[axis]]
        name = "; ".join(changed) or "the base setting"
        found = [
            f"{', '.join(case)}: {_number_and_answer(v)}" if case else _number_and_answer(v)
            for case, v in cell.verdicts.items()
        ]
        lines.append(f"<li>{escape(name)} → {escape('; '.join(found) or cell.reason)}</li>")
    return (
        f"<details><summary>All {len(store.cells)} settings</summary><ul>{''.join(lines)}</ul>"
        f"<p>{escape(made(store))}</p></details>"
    )


def _number_and_answer(verdict):
    return f"{verdict.answer}, {verdict.in_numbers()}"


def made(store):
    """Say when, with which versions and in what time a store was computed."""
    made = [cell.made for cell in store.cells]
    dates = sorted({each["date"] for each in made})
    when = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    versions = {f"{name} {x}" for each in made for name, x in each["versions"].items()}
    kinds = ", ".join(sorted({each["processor"] for each in made}))
    minutes = sum(each["seconds"] for each in made) / 60
    seeds = sorted({v.seeds for v in store.verdicts().values()})
    return (
        f"Computed {when} on {kinds} with {', '.join(sorted(versions))}, in {minutes:.0f} minutes; "
        f"{' or '.join(map(str, seeds))} seeds a setting."
    )


class MultiverseRole(SphinxRole):
    """How many settings of a claim have which answer."""

    def run(self):
        """Read the store and write the sentence; without a store, an error."""
        store = read(path_of(self.env, self.text))
        if store is None:
            message = self.inliner.reporter.error(
                f"no multiverse is stored for the claim {self.text!r}", line=self.lineno
            )
            return [], [message]
        return [nodes.inline("", sentence(store), classes=["multiverse"])], []


class ForestPlot(SphinxDirective):
    """The forest plot of a claim, and all settings behind a fold; for its card."""

    required_arguments = 1

    def run(self):
        """Read the store and draw it."""
        store = read(path_of(self.env, self.arguments[0]))
        return [nodes.raw("", drawing(store) + details(store), format="html")]


MATRIX = FOLDER.with_name("matrix")


def matrix(folder):
    """Read the ablation of norms: claim -> norm -> the verdict that the table shows.

    A norm whose cell could not be judged has the reason in the place of the verdict.
    """
    from bnlib.experiments.records.settings import SHOWN

    return {
        key: {
            cell.setting["the norm"]: cell.verdicts.get(case, cell.reason) for cell in store.cells
        }
        for key, case in SHOWN.items()
        if (store := read(Path(folder, f"{key}.json")))
    }


def matrix_rows(folder, titles):
    """Return the table as text: a head and a row a claim; a cell is an answer and its numbers."""
    from bnlib.experiments.records.settings import SHOWN

    found = matrix(folder)
    norms = list(dict.fromkeys(norm for verdicts in found.values() for norm in verdicts))
    rows = [["The claim", *norms]]
    for key, verdicts in found.items():
        name = titles[key] + (f" ({', '.join(SHOWN[key])})" if SHOWN[key] else "")
        cells = (verdicts.get(norm, "not run") for norm in norms)
        rows.append([name, *(_cell(each) for each in cells)])
    return rows


def _cell(verdict):
    if isinstance(verdict, str):
        return "not judged", verdict
    return verdict.answer, verdict.in_numbers()


def titles(path):
    """Read the texts of the claims, without roles, by their keys."""
    import yaml

    listed = yaml.safe_load(Path(path).read_text("utf8"))
    plain = re.compile(r"\{[\w:]+\}`([^`<]+?)(?: <[^>]*>)?`|\*")
    return {
        each["verdict"]: plain.sub(lambda role: role[1] or "", each["claim"]).rstrip(".")
        for each in listed
        if "verdict" in each
    }


class NormMatrix(SphinxDirective):
    """The ablation of norms as a table that scrolls sideways where the page is narrow."""

    def run(self):
        """Read the stores and write the table."""
        folder, claims = (Path(self.env.srcdir, p) for p in (MATRIX, "book/claims.yml"))
        for path in (claims, *sorted(folder.glob("*.json"))):
            self.env.note_dependency(str(path))
        head, *rows = matrix_rows(folder, titles(claims))
        names = "".join(f'<th scope="col">{escape(each)}</th>' for each in head)
        lines = [f"<tr>{names}</tr>"]
        for name, *cells in rows:
            columns = [
                f'<td><strong class="verdict verdict-{sign(answer)}">{escape(answer)}</strong>'
                f"<br/>{escape(numbers)}</td>"
                for answer, numbers in cells
            ]
            lines.append(f'<tr><th scope="row">{escape(name)}</th>{"".join(columns)}</tr>')
        region = 'class="norm-matrix" tabindex="0" role="region" aria-label="Norms and claims"'
        table = f"<div {region}><table>{''.join(lines)}</table></div>"
        return [nodes.raw("", table, format="html")]
