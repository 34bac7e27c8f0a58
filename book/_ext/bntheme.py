"""Repairs of the theme's pages: scripts emitted twice, accessibility, doubled icons."""

import re
from pathlib import Path

# Live code: it comes with Jupyter Book, the book does not use it, and on every page it
# names a stranger's repository and declares a JavaScript constant twice.
LIVE_CODE = re.compile(
    r'<script type="text/x-thebe-config">.*?</script>\s*<script>kernelName = .*?</script>',
    re.DOTALL,
)
BODY_REPAIRS = {
    # MyST-NB names every fold so, which hides its visible text from assistive technology.
    '<summary aria-label="Toggle hidden content">': "<summary>",
    # Deprecated, and not allowed where docutils puts it.
    'role="doc-biblioentry"': 'role="listitem"',
    # The same for every theorem, exercise and solution of a page.
    ' id="proof-content"': "",
    ' id="exercise-content"': "",
    ' id="solution-content"': "",
}
PAGE_REPAIRS = {  # applied to a repaired page, they change nothing
    # The left sidebar (logo, search) lies outside every landmark.
    'id="pst-primary-sidebar" class': (
        'id="pst-primary-sidebar" role="region" aria-label="Book" class'
    ),
    # The switch that unfolds a part of the contents has no name.
    '<summary><span class="toctree-toggle"': (
        '<summary aria-label="Pages of this part"><span class="toctree-toggle"'
    ),
    # A browser may show a notebook as text.
    'target="_blank"\n   class="btn btn-sm btn-notebook': (
        'download\n   class="btn btn-sm btn-notebook'
    ),
}
DESCRIPTION = re.compile(r'<meta content="([^"]*)" name="description" />')
OG_DESCRIPTION = re.compile(r'<meta[^>]*(?:name|property)="og:description"[^>]*>\n?')


def _drop_live_code(app, pagename, templatename, context, doctree):
    for kind in ("script_files", "css_files"):
        context[kind] = [
            file
            for file in context.get(kind, [])
            if "thebe" not in str(getattr(file, "filename", file))
            and "THEBE_JS_URL" not in (getattr(file, "attributes", {}).get("body") or "")
        ]
    if "body" in context:
        context["body"] = LIVE_CODE.sub("", context["body"])


def _repair_body(app, pagename, templatename, context, doctree):
    if "body" in context:
        for fault, repair in BODY_REPAIRS.items():
            context["body"] = context["body"].replace(fault, repair)


def _repair_description(app, pagename, templatename, context, doctree):
    # The extension takes the first lines of the page with their formulas: use the page's own.
    tags = context.get("metatags") or ""
    if given := DESCRIPTION.search(tags):
        tags = OG_DESCRIPTION.sub("", tags)
        context["metatags"] = f'{tags}<meta property="og:description" content="{given[1]}" />\n'


def _repair_pages(app, exception):
    if exception is not None or app.builder.format != "html":
        return
    out = Path(app.outdir)
    # The theme's style sheet carries the icons as a font; the script is a second copy, 1.5 MB.
    icons = out / "_static" / "scripts" / "fontawesome.js"
    if icons.exists():
        icons.write_text("/* the icons come from the theme's font */\n", "utf8")
    for page in out.rglob("*.html"):
        before = after = page.read_text("utf8")
        for fault, repair in PAGE_REPAIRS.items():
            after = after.replace(fault, repair)
        if after != before:
            page.write_text(after, "utf8")


def setup(app):
    """Register with Sphinx."""
    app.connect("html-page-context", _drop_live_code, priority=900)
    app.connect("html-page-context", _repair_body, priority=900)
    app.connect("html-page-context", _repair_description, priority=900)
    app.connect("build-finished", _repair_pages)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
