"""The ledger: what people say, with the verdicts that the chapters computed in this very build.

* ```` ```{claims} claims.yml ```` makes a table of the claims in that file: all of them in short,
  or with `:show: planned` those without a verdict. With `:show: tested` it makes a card for each of
  the others.
* ``{verdict}`key` `` is the verdict alone, in a sentence.

A claim with a multiverse (`bnmultiverse`) has its answer over all settings as the headline, in the
tables and on the card; the card shows the verdict of the chapter's own setting below it.

A chapter delivers a verdict with `bnlib.experiments.records.ledger.glue_verdict`. A verdict that no
chapter delivered, or that no table shows, is a warning, which fails the build. After a chapter has
been executed again, the pages that show a verdict are written again.
"""

import ast
import json
from dataclasses import dataclass
from pathlib import Path

import bnmultiverse
import yaml
from docutils import nodes
from docutils.parsers.rst import directives
from docutils.statemachine import StringList
from myst_nb.sphinx_ import NbMetadataCollector
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective, SphinxRole

LOGGER = logging.getLogger(__name__)
PREFIX = "verdict-"  # of the glued names
INF = float("inf")


@dataclass(frozen=True)
class Claim:
    """An entry of the list. The texts are MyST; the last four belong to a tested claim."""

    claim: str
    source: str
    where: str  # the figure or section that shows it, or the chapter that is planned
    verdict: str = ""  # the key under which a chapter delivers it
    measured: str = ""  # of what the effect is a difference, and which way round
    percent: bool = False  # the effect is a share: show it times 100
    proof: str = ""  # why the answer is that of all settings, if it is a theorem

    def __post_init__(self):
        if bool(self.verdict) != bool(self.measured):
            raise TypeError(f"{self.claim!r} needs both `verdict` and `measured`, or neither")


def read_claims(path):
    """Read the list of claims."""
    return [Claim(**entry) for entry in yaml.safe_load(Path(path).read_text("utf8"))]


def listing(claims, show="short", stored=()):
    """Return the claims in Markdown, with roles for what the chapters found.

    "short" and "planned" are tables. "tested" is a card for each claim: the verdict comes first,
    and the interval of each case is drawn. Claims whose keys are `stored` have a multiverse.
    """
    if show == "tested":
        return "\n".join(_card(c, c.verdict in stored) for c in claims if c.verdict)
    columns = {name: COLUMNS[name] for name in VIEWS[show]}
    rows = [columns, ["---"] * len(columns)]
    for claim in claims if show == "short" else [c for c in claims if not c.verdict]:
        rows.append([write(claim) for write in columns.values()])
        if claim.verdict in stored:
            rows[-1] = [cell.replace("{verdict}", "{multiverse-answer}") for cell in rows[-1]]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _card(claim, stored):
    card = CARD.replace(*OVER_SETTINGS) if stored else CARD
    card = card.replace(*PROVED) if claim.proof else card
    return card.format(c=claim, numbers=_numbers(claim))


def _numbers(claim):
    return f"{{verdict-numbers}}`{claim.verdict}{' %' if claim.percent else ''}`"


CARD = """\
````{{container}} claim
**{c.claim}** {{verdict}}`{c.verdict}`

Who says so: {c.source}

Where: {c.where}

Measured: {c.measured} {numbers}
````
"""
OVER_SETTINGS = (
    "{{verdict}}`{c.verdict}`",
    """{{multiverse-answer}}`{c.verdict}`

Over many settings: {{multiverse}}`{c.verdict}`.

```{{multiverse-plot}} {c.verdict}
```

In the chapter's own setting: {{verdict}}`{c.verdict}`""",
)
"""What the card of a claim with a multiverse has in the place of the chapter's verdict."""
PROVED = ("\nWhere:", "\nA theorem for all settings: {c.proof}.\n\nWhere:")
"""What the card of a claim that is proved has before the place where it is shown."""
COLUMNS = {
    "The claim": lambda claim: claim.claim,
    "Who says so": lambda claim: claim.source,
    "Verdict": lambda claim: f"{{verdict}}`{claim.verdict}`" if claim.verdict else "planned",
    "Where": lambda claim: claim.where,
}
VIEWS = {
    "short": ("The claim", "Verdict", "Where"),
    "planned": ("The claim", "Who says so", "Where"),
    "tested": (),
}


def badge(answer):
    """Return the answer as a badge, whose colour and sign the style sheet knows."""
    return nodes.strong("", answer, classes=["verdict", f"verdict-{bnmultiverse.sign(answer)}"])


WIDTH, HEIGHT = 120, 12


def interval(verdict, reach):
    """Draw an interval, its effect and the margin, from -reach to reach; infinite ends are cut."""

    def x(value):
        return bnmultiverse.on_scale(value, reach, WIDTH)

    def across(left, right, y, height, kind):
        return (
            f'<rect class="{kind}" x="{x(left):.1f}" y="{y}" height="{height}" '
            f'width="{max(x(right) - x(left), 1):.1f}"/>'
        )

    effect = verdict.effect
    dot = f'<circle class="effect" cx="{x(effect):.1f}" cy="6" r="3"/>' if effect == effect else ""
    return (
        f'<svg class="interval" viewBox="0 0 {WIDTH} {HEIGHT}" aria-hidden="true">'
        + across(-verdict.margin, verdict.margin, 0, HEIGHT, "margin")
        + across(verdict.low, verdict.high, 5, 2, "range")
        + f"{dot}</svg>"
    )


def reach(verdicts):
    """Return how far from 0 the drawings of some verdicts reach: beyond all finite ends."""
    ends = (end for v in verdicts for end in (v.low, v.high, 1.5 * v.margin) if abs(end) < INF)
    return 1.2 * max(map(abs, ends)) or 1.0


def numbers(record, percent=False):
    """Put a verdict's numbers into words: a line a case, and one that says how they came about.

    Each line comes with the drawing of its interval, if it has one.
    """
    from bnlib.experiments.records.verdict import Verdict  # a book without claims needs no library

    factor, unit = (100, " %") if percent else (1, "")
    lines, designs = [], {}  # the keys of a dict keep their order
    verdicts = {case: Verdict(**fields) for case, fields in record["cases"].items()}
    widest = reach(verdicts.values())
    for case, verdict in verdicts.items():
        line = verdict.in_numbers(factor, unit)
        words = f"{case}: {line}, {verdict.answer}" if case else line
        lines.append((words, interval(verdict, widest)))
        margin = f"{factor * verdict.margin:g}{unit}"
        designs[f"{verdict.seeds} seeds, 95 % intervals, margin {margin}", ""] = None
    return [*lines, *designs]


class PendingVerdict(nodes.Inline, nodes.Element):
    """Stands for a verdict until every chapter has been read."""


class VerdictRole(SphinxRole):
    """A verdict; or its numbers, in a cell of a table, where ``key %`` shows them in percent."""

    def __init__(self, show="answer"):
        self.show = show

    def run(self):
        """Leave a place for it, and remember that this page shows verdicts."""
        key, *percent = self.text.split()
        self.env.metadata[self.env.docname]["bn_shows_verdicts"] = True
        node = PendingVerdict(key=key, show=self.show, percent=bool(percent))
        self.set_source_info(node)
        return [node], []


class MultiverseAnswer(SphinxRole):
    """The badge of the answer over all settings."""

    def run(self):
        """Read the store."""
        store = bnmultiverse.read(bnmultiverse.path_of(self.env, self.text))
        return [badge(bnmultiverse.headline(store))], []


class Claims(SphinxDirective):
    """The claims in a file, as a table or as cards."""

    required_arguments = 1
    option_spec = {"show": lambda view: directives.choice(view, tuple(VIEWS))}  # noqa: RUF012

    def run(self):
        """Write them as Markdown and parse it."""
        relative, path = self.env.relfn2path(self.arguments[0])
        self.env.note_dependency(relative)
        self.env.note_dependency(__file__)
        try:
            claims = read_claims(path)
        except (OSError, TypeError, yaml.YAMLError) as error:
            raise self.error(f"claims: {error}") from error
        listed = {claim.verdict for claim in claims}
        self.env.metadata[self.env.docname]["bn_listed_verdicts"] = listed
        stored = {key for key in listed if bnmultiverse.path_of(self.env, key).is_file()}
        text = listing(claims, self.options.get("show", "short"), stored)
        lines = StringList(text.splitlines(), path)
        node = nodes.Element()
        self.state.nested_parse(lines, self.content_offset, node)
        for each in node.findall(nodes.table):
            each["classes"] += ["claims", *self.options.values()]
        return node.children


def collect(env):
    """Map each key to what the executed chapters of this build delivered."""
    found = {}
    for docname, data in NbMetadataCollector.get_doc_data(env).items():
        keys = [key for key in data.get("glue", ()) if key.startswith(PREFIX)]
        if not keys:
            continue
        path = Path(env.mystnb_config.output_folder, *docname.split("/"))
        glued = json.loads(path.with_name(f"{path.name}.glue.json").read_text("utf8"))
        for key in keys:
            name = key.removeprefix(PREFIX)
            if name in found:
                LOGGER.warning("two chapters deliver the verdict %r", name, location=docname)
            found[name] = json.loads(ast.literal_eval(glued[key]["data"]["text/plain"]))
    return found


def _update(app, env):
    """After reading: gather the verdicts, and name the pages that must be written again."""
    before, env.bn_verdicts = getattr(env, "bn_verdicts", None), collect(env)
    listed = set().union(*(data.get("bn_listed_verdicts", ()) for data in env.metadata.values()))
    for key in sorted(env.bn_verdicts.keys() - listed):
        LOGGER.warning("the verdict %r is in no table of claims", key)
    if env.bn_verdicts == before:
        return []
    return [name for name, data in env.metadata.items() if data.get("bn_shows_verdicts")]


class ShowVerdicts(SphinxPostTransform):
    """Put the verdicts in their places."""

    default_priority = 5

    def run(self):
        """Replace each place, or warn."""
        for node in list(self.document.findall(PendingVerdict)):
            record = self.env.bn_verdicts.get(node["key"])
            if record is None:
                LOGGER.warning("no chapter delivered the verdict %r", node["key"], location=node)
                node.parent.remove(node)
            elif node["show"] == "answer":
                node.replace_self(badge(record["answer"]))
            else:  # lines of their own, below the paragraph
                block = nodes.line_block()
                for words, drawing in numbers(record, node["percent"]):
                    drawn = [nodes.raw("", drawing, format="html")] if drawing else []
                    block += nodes.line("", "", *drawn, nodes.Text(words))
                node.parent.parent += block
                node.parent.remove(node)


def setup(app):
    """Register with Sphinx."""
    app.add_node(PendingVerdict)
    app.add_directive("claims", Claims)
    app.add_directive("multiverse-plot", bnmultiverse.ForestPlot)
    app.add_directive("norm-matrix", bnmultiverse.NormMatrix)
    app.add_role("verdict", VerdictRole())
    app.add_role("multiverse", bnmultiverse.MultiverseRole())
    app.add_role("multiverse-answer", MultiverseAnswer())
    app.add_role("verdict-numbers", VerdictRole("numbers"))
    app.add_post_transform(ShowVerdicts)
    app.connect("env-get-updated", _update)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
