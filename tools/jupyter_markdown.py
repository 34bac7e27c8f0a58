"""Turn the book's Markdown, which Sphinx reads, into Markdown that Jupyter and Colab show.

No role, directive or label is left: each becomes the words, the number or the link that the page
shows. Two forms differ between the front ends (`FORMS`), because jupyterlab-myst sets no formulas
in a `<details>`, and numbers every `$$` itself.
"""

import ast
import base64
import json
import re
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import nbformat
import yaml
from pybtex.database import parse_file
from pybtex.plugin import find_plugin

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "book" / "_ext"))

import bndoctor  # noqa: E402
import bnmultiverse  # noqa: E402
import explorable_figures  # noqa: E402
from bntext import MINUS, POWER  # noqa: E402

FORMS = {
    "plain": {
        "fold": "<details>\n<summary>{title}</summary>\n\n{body}\n\n</details>",
        "equation": "{indent}$$\n{body}\n{indent}$$",
    },
    "myst": {
        "fold": "`````{{admonition}} {title}\n:class: dropdown\n\n{body}\n`````",
        "equation": "{indent}\\begin{{equation*}}\n{body}\n{indent}\\end{{equation*}}",
    },
}
NUMBERED = {"glue:figure": "Fig. {}", "prf:theorem": "Theorem {}", "exercise-start": "Exercise {}"}
TARGET = re.compile(
    r"^`{3,}\{(?P<kind>glue:figure|prf:theorem|exercise-start|math)\}.*\n"
    r"(?::(?!label|name).*\n)*:(?:label|name): (?P<label>\S+)"
    r"|^ *\$\$ \((?P<equation>\S+)\)$|^\((?P<place>\S+)\)=\n#+ (?P<title>.+)",
    re.MULTILINE,
)
DIRECTIVE = re.compile(
    r"^(?P<ticks>`{3,})\{(?P<kind>[\w:-]+)\} *(?P<title>.*)\n"
    r"(?P<options>(?::[\w-]+:.*\n)*)(?P<body>(?:.*\n)*?)(?P=ticks)$",
    re.MULTILINE,
)
EQUATION = re.compile(
    r"^(?P<indent> *)\$\$\n(?P<body>.*?)\n *\$\$(?: \((?P<label>\S+)\))?$", re.DOTALL | re.MULTILINE
)
ROLE = re.compile(r"\{(?P<kind>[\w:-]+)\}`(?P<text>[^`]+)`")
LINK = re.compile(r"\[([^]]+)\]\(([\w/]+)\.(?:md|ipynb)\)")


def pages_of(root: Path) -> dict[str, int | None]:
    """Map each page of the table of contents to its number as a chapter, if it has one."""
    toc = yaml.safe_load((root / "_toc.yml").read_text("utf8"))
    found, count = {Path(toc["root"]).name: None}, 0
    for part in toc.get("parts", [toc]):
        for entry in part["chapters"]:
            count += part.get("numbered", False)
            found[Path(entry["file"]).name] = count if part.get("numbered") else None
    return found


def printed(text: str) -> str:
    """Set minus signs and powers of ten as the page does."""
    text = POWER.sub(lambda power: f"${power[1]} \\times 10^{{{int(power[2])}}}$", text)
    return MINUS.sub("\N{MINUS SIGN}", text)


class Book:
    """What the text of a page may refer to: numbers, titles, sources, and what cells computed.

    `glued` maps names to Python literals, and those of figures to SVG. A name that is not there
    stands where its value would.
    """

    def __init__(self, root: Path, glued: Mapping[str, str] | None = None, site: str = ""):
        self.root, self.glued, self.site = root, glued or {}, site.rstrip("/")
        self.notebooks, self.targets = {}, {}
        self.pages = pages_of(root)
        for page in self.pages:
            path = root / "book" / f"{page}.ipynb"
            if path.exists():
                self.notebooks[page] = notebook = nbformat.read(path, as_version=4)
                texts = (cell.source for cell in notebook.cells if cell.cell_type == "markdown")
                self._note_targets(page, "\n\n".join(texts))
            elif (path := path.with_suffix(".md")).exists():
                self._note_targets(page, path.read_text("utf8"))
        self.sources = parse_file(root / "book" / "references.bib", "bibtex").entries

    def _note_targets(self, page: str, text: str) -> None:
        counts, chapter = Counter(), self.pages[page]
        for found in TARGET.finditer(text):
            if found["place"]:
                self.targets[found["place"]] = page, found["title"]
                continue
            kind = found["kind"] or "math"
            counts[kind] += 1
            number = f"{chapter}.{counts[kind]}" if chapter else str(counts[kind])
            words = NUMBERED.get(kind, "({})").format(number)
            self.targets[found["label"] or found["equation"]] = page, words

    def to_jupyter(self, text: str, page: str, form: str, *, folded: bool = False) -> str:
        """Return the Markdown of a page, or of a fold, for a front end, one of `FORMS`."""

        def equation(found):
            return self._equation(form, **found.groupdict())

        def directive(found):
            return self._directive(form, page, folded, **found.groupdict())

        text = EQUATION.sub(equation, DIRECTIVE.sub(directive, text))
        text = re.sub(r"^\(\S+\)=\n", "", text, flags=re.MULTILINE)
        text = ROLE.sub(lambda found: self._role(page, **found.groupdict()), text)
        return LINK.sub(lambda found: self._link(found[1], Path(found[2]).name, page), text).strip()

    def _equation(self, form, body, label=None, indent=""):
        if label:
            body += f"\n{indent}\\tag{{{self.targets[label][1][1:-1]}}}"
        return FORMS[form]["equation"].format(body=body, indent=indent)

    def _directive(self, form, page, folded, kind, title, options, body, ticks):
        options = dict(re.findall(r"^:(\w+): *(.*)$", options, re.MULTILINE))
        body = body.strip("\n")
        label = options.get("label") or options.get("name")
        if kind == "math":
            return self._equation(form, body, label)
        folds = kind == "admonition" and "dropdown" in options.get("class", "")
        body = self.to_jupyter(body, page, form, folded=folded or folds)
        if kind in ("glue:figure", "prf:theorem", "exercise-start"):
            number = self.targets[label][1]
        if kind == "glue:figure":
            figure, hint = self._figure(title) if folded else ("", "")
            return f"{figure}**{number}:** {hint}{body}"
        if kind == "prf:theorem":
            return f"***\n\n**{number}** ({title}).\n{body}\n\n***"
        if kind == "prf:proof":
            return f"*Proof.* {body}\n\n∎"
        if kind == "exercise-start":
            return f"### {number}: {title}"
        if kind == "norm-matrix":
            return self._matrix()
        if kind == "exercise-end":
            return ""
        if kind == "explorable":
            return f"{_picture(explorable_figures.svg(title))}{body}"
        if kind == "doctor-table":
            return bndoctor.markdown(bndoctor.read(self.root))
        if folds:
            return FORMS[form]["fold"].format(title=title, body=body)
        if kind == "admonition":
            return f"**{title}.** {body}"
        raise ValueError(f"{page}: no form for the directive {kind!r}")

    def _matrix(self):
        """Return the ablation of norms as a table."""
        titles = bnmultiverse.titles(self.root / "book" / "claims.yml")
        head, *rows = bnmultiverse.matrix_rows(self.root / bnmultiverse.MATRIX, titles)
        lines = [head, ["---"] * len(head)]
        lines += [[name, *(f"{answer}, {found}" for answer, found in row)] for name, *row in rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)

    def _figure(self, name):
        """Return a figure for a fold, which no cell can be in, or how to see it."""
        if not (svg := self.glued.get(name)):
            return "", "(Run the cell above to see it.) "
        return _picture(svg), ""

    def _role(self, page, kind, text):
        shown, _, target = " ".join(text.split()).removesuffix(">").partition(" <")
        if kind == "glue:text":
            name, _, spec = shown.partition(":")
            value = self.glued.get(name)
            return f"`{name}`" if value is None else printed(format(ast.literal_eval(value), spec))
        if kind in ("ref", "eq", "numref", "prf:ref"):
            place, words = self.targets[target or shown]
            return self._link(shown if target else words, place, page)
        if kind in ("cite:t", "cite:p"):
            cited = [self._cited(key.strip(), kind) for key in shown.split(",")]
            return ", ".join(cited) if kind == "cite:t" else f"({'; '.join(cited)})"
        if kind == "verdict":
            return f"**{self._answer(shown)}**"
        if kind == "multiverse":
            store = bnmultiverse.read(self.root / bnmultiverse.FOLDER / f"{shown}.json")
            return bnmultiverse.sentence(store)
        if kind == "doctor":
            return bndoctor.sentence(bndoctor.read(self.root), shown)
        if kind == "term":
            return shown
        if kind.startswith("py:"):
            return f"`{shown}`"
        raise ValueError(f"{page}: no form for the role {kind!r}")

    def _answer(self, key):
        record = self.glued.get(f"verdict-{key}")
        return json.loads(ast.literal_eval(record))["answer"] if record else f"`{key}`"

    def _cited(self, key, kind):
        entry = self.sources[key]
        names = [" ".join(p.prelast_names + p.last_names) for p in entry.persons["author"]]
        names = [name.replace("{", "").replace("}", "") for name in names]
        who = " and ".join(names) if len(names) < 3 else f"{names[0]} et al."
        year = entry.fields["year"]
        return f"{who} ({year})" if kind == "cite:t" else f"{who}, {year}"

    def bibliography(self, text: str) -> str:
        """List what the source of a page cites."""
        cited = ",".join(re.findall(r"\{cite:\w\}`([^`]+)`", text))
        keys = sorted({key.strip() for key in cited.split(",")})
        style = find_plugin("pybtex.style.formatting", "plain")()
        entries = style.format_entries([self.sources[key] for key in keys])
        lines = (f"- {' '.join(e.text.render_as('markdown').split())}" for e in entries)
        return "\n".join(["## Sources", "", *lines])

    def _link(self, words, target, page):
        """Link another page: on the web if it is there, otherwise the notebook beside this one."""
        if target == page:
            return words
        if self.site:
            return f"[{words}]({self.site}/book/{target}.html)"
        return f"[{words}]({target}.ipynb)" if target in self.notebooks else words


def _picture(svg: str) -> str:
    alt = re.search(r'aria-label="([^"]*)"', svg)[1]
    data = base64.b64encode(svg.encode()).decode()
    return f'<img alt="{alt}" src="data:image/svg+xml;base64,{data}">\n\n'
