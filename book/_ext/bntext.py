"""Typography: numbers as they are printed, punctuation beside its formula, names of folds."""

import re

from docutils import nodes
from sphinx.transforms.post_transforms import SphinxPostTransform

POWER = re.compile(r"(?<![\w.])([+-]?\d[\d.]*)e([+-]?\d+)")
MINUS = re.compile(r"(?<![\w.])-(?=\d)")
PUNCTUATION = re.compile(r"[.,;:?!)]+")
SHORT = 24  # characters of a formula that fits on a line of a telephone


def typographic(text: str) -> list[nodes.Node]:
    """Set a real minus sign, and 3.1e-09 as a power of ten."""
    found, at = [], 0
    for match in POWER.finditer(text):
        mantissa, exponent = match[1], str(int(match[2])).replace("-", "\N{MINUS SIGN}")
        before = f"{text[at : match.start()]}{mantissa}\N{NO-BREAK SPACE}\N{MULTIPLICATION SIGN}"
        found += [nodes.Text(_minus(f"{before}\N{NO-BREAK SPACE}10"))]
        found += [nodes.superscript("", exponent)]
        at = match.end()
    return [*found, nodes.Text(_minus(text[at:]))] if text[at:] else found


def _minus(text: str) -> str:
    return MINUS.sub("\N{MINUS SIGN}", text)


class TypographicNumbers(SphinxPostTransform):
    """Set the numbers that cells have glued into the text."""

    default_priority = 900

    def run(self, **kwargs):
        """Replace the text of each of them."""
        for node in self.document.findall(nodes.inline):
            if "pasted-text" in node["classes"]:
                node[:] = typographic(node.astext())


class StickyPunctuation(SphinxPostTransform):
    """Keep what follows a short formula on its line."""

    default_priority = 900
    formats = ("html",)

    def run(self, **kwargs):
        """Put both into one element that does not wrap."""
        for formula in list(self.document.findall(nodes.math)):
            after = formula.next_node(descend=False, siblings=True)
            mark = PUNCTUATION.match(after) if isinstance(after, nodes.Text) else None
            if mark and len(formula.astext()) <= SHORT:
                parent = formula.parent
                at = parent.index(formula)
                kept = nodes.inline("", "", formula.deepcopy(), nodes.Text(mark[0]))
                kept["classes"].append("nobreak")
                parent[at : at + 2] = [kept, nodes.Text(after[mark.end() :])]


def fold_name(source: str, tags: list[str]) -> str:
    """Say what a folded cell holds."""
    if "tag_check" in tags:
        return "Check"
    if source.startswith(("import ", "from ")):
        return "Imports"
    return "Code of the figure" if "show(" in source else "Code"


class NamedFolds(SphinxPostTransform):
    """Name folds by what is in them."""

    default_priority = 198  # MyST-NB folds the cells at 199
    formats = ("html",)

    def run(self, **kwargs):
        """Name the folded cells and outputs of a notebook."""
        for cell in self.document.findall(nodes.container):
            if "hide_mode" in cell:
                name = "Output"
                if cell["hide_mode"] != "output":
                    name = fold_name(cell.children[0].astext(), cell["classes"])
                cell["prompt_show"] = cell["prompt_hide"] = name


def setup(app):
    """Register with Sphinx."""
    app.add_post_transform(TypographicNumbers)
    app.add_post_transform(StickyPunctuation)
    app.add_post_transform(NamedFolds)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
