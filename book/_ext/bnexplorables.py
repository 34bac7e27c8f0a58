"""Figures that the reader can touch: a static figure that a JavaScript module replaces.

    ```{explorable} backward_pass
    What the static figure shows, as its caption.
    ```

The static figure is drawn here, by `explorable_figures`; the module is
`book/_static/explorables/backward_pass.mjs`. Pages without an explorable load nothing of it.
"""

import json
from pathlib import Path

import explorable_figures
from bnbook import ROOT
from docutils import nodes
from sphinx.util.docutils import SphinxDirective

FOLDER = "explorables"
BANDS = ROOT / "book" / "_data" / FOLDER / "training.json"


class explorable(nodes.General, nodes.Element):  # noqa: N801  (docutils names its nodes so)
    """The frame: its children are the caption."""


class Explorable(SphinxDirective):
    """```` ```{explorable} name ````, with the caption as its content."""

    required_arguments = 1
    has_content = True

    def run(self):
        """Return the frame with its caption."""
        name = self.arguments[0]
        if name not in explorable_figures.FIGURES:
            raise self.error(f"no explorable {name!r}: {', '.join(explorable_figures.FIGURES)}")
        node = explorable(name=name)
        self.set_source_info(node)
        self.state.nested_parse(self.content, self.content_offset, node)
        return [node]


def _open(self, node):
    name = node["name"]
    figure = explorable_figures.svg(name)
    self.body.append(
        f'<figure class="explorable" data-explorable="{name}">'
        f'<div class="explorable-static">{figure}</div><figcaption>'
    )


def _close(self, node):
    self.body.append("</figcaption></figure>\n")


def _caption_only(self, node):
    """Leave the caption as text where no page of HTML is made."""


def _add_files(app, pagename, templatename, context, doctree):
    if doctree is not None and next(doctree.findall(explorable), None) is not None:
        app.add_css_file(f"{FOLDER}/explorables.css")
        app.add_js_file(f"{FOLDER}/frame.mjs", type="module")


def _write_data(app, exception):
    """Write what `training` loads: the digits as one byte a pixel or label, and the bands."""
    target = Path(app.outdir, "_static", FOLDER)
    if exception is not None or app.builder.format != "html":
        return
    pages = (page.read_text("utf8") for page in Path(app.outdir).rglob("*.html"))
    if not any('data-explorable="training"' in page for page in pages):
        return
    (target / "digits.bin").write_bytes(explorable_figures.digits())
    store = json.loads(BANDS.read_text("utf8"))
    for setting in store["settings"]:
        del setting["made"]
    (target / "bands.json").write_text(json.dumps(store, separators=(",", ":")), "utf8")


def setup(app):
    """Register with Sphinx."""
    only_text = _caption_only, _caption_only
    app.add_node(explorable, html=(_open, _close), latex=only_text, text=only_text)
    app.add_directive("explorable", Explorable)
    app.connect("html-page-context", _add_files)
    app.connect("build-finished", _write_data)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
