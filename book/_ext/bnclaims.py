"""The ledger: what people say, with the verdicts that the chapters computed in this very build.

* ```` ```{claims} claims.yml ```` makes a table of the claims in that file: all of them in short,
  or with `:show: tested` and `:show: planned` one of the two kinds in full.
* ``{verdict}`key` `` is the verdict alone, in a sentence.

A chapter delivers a verdict with `bnlib.experiments.records.ledger.glue_verdict`. A verdict that no
chapter delivered, or that no table shows, is a warning, which fails the build. After a chapter has
been executed again, the pages that show a verdict are written again.
"""

import ast
import json
from dataclasses import dataclass
from pathlib import Path

import yaml
from docutils import nodes
from docutils.parsers.rst import directives
from docutils.statemachine import StringList
from myst_nb.sphinx_ import NbMetadataCollector
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective, SphinxRole

from bnlib.experiments.records.verdict import Verdict

LOGGER = logging.getLogger(__name__)
PREFIX = "verdict-"  # of the glued names


@dataclass(frozen=True)
class Claim:
    """An entry of the list. The texts are MyST; the last three belong to a tested claim."""

    claim: str
    source: str
    where: str  # the figure or section that shows it, or the chapter that is planned
    verdict: str = ""  # the key under which a chapter delivers it
    measured: str = ""  # of what the effect is a difference, and which way round
    percent: bool = False  # the effect is a share: show it times 100

    def __post_init__(self):
        if bool(self.verdict) != bool(self.measured):
            raise TypeError(f"{self.claim!r} needs both `verdict` and `measured`, or neither")


def read_claims(path):
    """Read the list of claims."""
    return [Claim(**entry) for entry in yaml.safe_load(Path(path).read_text("utf8"))]


def table(claims, show="short"):
    """Return the table in Markdown, with a role for each verdict."""
    columns = {name: COLUMNS[name] for name in VIEWS[show]}
    rows = [columns, ["---"] * len(columns)]
    for claim in claims:
        if show == "short" or (show == "tested") == bool(claim.verdict):
            rows.append([write(claim) for write in columns.values()])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _measured(claim):
    unit = " %" if claim.percent else ""
    return f"{claim.measured} {{verdict-numbers}}`{claim.verdict}{unit}`"


def _verdict(claim):
    return f"{{verdict}}`{claim.verdict}`" if claim.verdict else "planned"


COLUMNS = {
    "The claim": lambda claim: claim.claim,
    "Who says so": lambda claim: claim.source,
    "The claim, and who says so": lambda claim: f"**{claim.claim}** {claim.source}",
    "What was measured": _measured,
    "Verdict": _verdict,
    "Where": lambda claim: claim.where,
    "The verdict, and where": lambda claim: f"{_verdict(claim)} {claim.where}",
}
VIEWS = {
    "short": ("The claim", "Verdict", "Where"),
    "tested": ("The claim, and who says so", "What was measured", "The verdict, and where"),
    "planned": ("The claim", "Who says so", "Where"),
}


def numbers(record, percent=False):
    """Put a verdict's numbers into words: a line a case, and one that says how they came about."""
    factor, unit = (100, " %") if percent else (1, "")
    lines, designs = [], {}  # the keys of a dict keep their order
    for case, fields in record["cases"].items():
        verdict = Verdict(**fields)
        line = verdict.in_numbers(factor, unit)
        lines.append(f"{case}: {line}, {verdict.answer}" if case else line)
        margin = f"{factor * verdict.margin:g}{unit}"
        designs[f"{verdict.seeds} seeds, 95 % intervals, margin {margin}"] = None
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


class Claims(SphinxDirective):
    """The table of the claims in a file."""

    required_arguments = 1
    option_spec = {"show": lambda view: directives.choice(view, tuple(VIEWS))}  # noqa: RUF012

    def run(self):
        """Write the table as Markdown and parse it."""
        relative, path = self.env.relfn2path(self.arguments[0])
        self.env.note_dependency(relative)
        self.env.note_dependency(__file__)
        try:
            claims = read_claims(path)
        except (OSError, TypeError, yaml.YAMLError) as error:
            raise self.error(f"claims: {error}") from error
        listed = {claim.verdict for claim in claims}
        self.env.metadata[self.env.docname]["bn_listed_verdicts"] = listed
        lines = StringList(table(claims, self.options.get("show", "short")).splitlines(), path)
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
                node.replace_self(nodes.strong("", record["answer"]))
            else:  # lines of their own, below the paragraph
                lines = numbers(record, node["percent"])
                node.parent.parent += nodes.line_block("", *(nodes.line("", x) for x in lines))
                node.parent.remove(node)


def setup(app):
    """Register with Sphinx."""
    app.add_node(PendingVerdict)
    app.add_directive("claims", Claims)
    app.add_role("verdict", VerdictRole())
    app.add_role("verdict-numbers", VerdictRole("numbers"))
    app.add_post_transform(ShowVerdicts)
    app.connect("env-get-updated", _update)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
