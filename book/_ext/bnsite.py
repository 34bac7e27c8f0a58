"""The site around the pages: its root, a page for wrong addresses, a map, light icons, search."""

import html
import re
import shutil
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import pydata_sphinx_theme
from bnbook import ROOT
from bnlight import lighten, subset_font
from jupyter_notebooks import commit_of

SEARCH = re.compile(
    r'\s*<script src="[^"]*(?:searchtools|language_data|searchindex)\.js[^"]*"></script>'
)
NO_TEXT = '[".headerlink",', '[".katex-mathml", "#jb-print-docs-body", ".headerlink",'
ICON = re.compile(r"\bfa-([a-z0-9-]+)\b")
GLYPH = re.compile(r'((?:\.fa-[a-z0-9-]+:before,?)+)\{content:"\\([0-9a-f]+)')


def _set_pages(app, config):
    config.html_additional_pages["404"] = "404.html"
    versions = (f"{name} {metadata.version(name)}" for name in ("numpy", "torch"))
    commit = commit_of(ROOT)[:7]
    facts = [
        f"Version {metadata.version('batchnorm-book')}",
        f"{datetime.now(UTC):%d %B %Y}".lstrip("0"),
        *([f"commit {commit}"] if commit else []),
        f"computed with {', '.join(versions)}",
    ]
    config.html_theme_options["extra_footer"] = f"<p>{', '.join(facts)}</p>"


def _write_sources_anew(app, env, added, changed, removed):
    # Sphinx writes the page of a module's source only where the module changed. So what an API page
    # shows for the first time would have a link to its source, but no place there.
    if any(name.startswith("book/api/") for name in added | changed):
        shutil.rmtree(Path(app.outdir, "_modules"), ignore_errors=True)
    return []


def _finish(app, exception):
    if exception is not None or app.builder.format != "html":
        return
    out, site = Path(app.outdir), app.config.html_baseurl
    pages = sorted(out.rglob("*.html"))
    for page in pages:
        before = page.read_text("utf8")
        after = SEARCH.sub("", before)  # only the page of the search needs the index
        if after != before and page.name != "search.html":
            page.write_text(after, "utf8")
    _mend_excerpts(out / "_static" / "searchtools.js")
    _subset_icons(out, pages)
    lighten(out, pages)
    # The address that people share is a page, not a redirect; and a server shows the page for a
    # wrong address at any depth, so that its links start at the root.
    _copy(out / "book" / "index.html", out / "index.html", base="book/index.html")
    _copy(out / "404.html", out / "404.html", base=site or "/")
    if site:
        names = (page.relative_to(out).as_posix() for page in pages)
        found = (name for name in names if not name.startswith(("_", "404", "search")))
        urls = (f"<url><loc>{site}{name}</loc></url>" for name in found)
        start = '<?xml version="1.0" encoding="utf-8"?>\n<urlset xmlns='
        schema = '"http://www.sitemaps.org/schemas/sitemap/0.9">'
        (out / "sitemap.xml").write_text(start + schema + "\n".join(urls) + "</urlset>\n", "utf8")
        (out / "robots.txt").write_text(f"Sitemap: {site}sitemap.xml\n", "utf8")


def _mend_excerpts(tools: Path) -> None:
    # What the search shows of a page has its formulas once, and no list of contents.
    text = tools.read_text("utf8")
    if NO_TEXT[1] not in text:
        if NO_TEXT[0] not in text:
            raise LookupError(
                f"{tools.name}: {NO_TEXT[0]} not found, this Sphinx has another search"
            )
        tools.write_text(text.replace(*NO_TEXT), "utf8")


def _copy(page: Path, target: Path, base: str) -> None:
    text = page.read_text("utf8")
    target.write_text(
        text.replace("<head>", f'<head>\n<base href="{html.escape(base)}">', 1), "utf8"
    )


def _subset_icons(out: Path, pages: list[Path]) -> None:
    # The fonts have two thousand icons, the book uses some twenty.
    fonts = Path("static", "vendor", "fontawesome", "webfonts")
    source = Path(pydata_sphinx_theme.__file__).parent / "theme" / "pydata_sphinx_theme" / fonts
    styles = "".join(file.read_text("utf8") for file in out.rglob("*.css"))
    scripts = "".join(file.read_text("utf8") for file in (out / "_static").glob("*.js"))
    names = {name for page in pages for name in ICON.findall(page.read_text("utf8"))}
    names |= {*ICON.findall(scripts)}
    code = {
        name: int(value, 16)
        for selectors, value in GLYPH.findall(styles)
        for name in ICON.findall(selectors)
    }
    drawn = {code[name] for name in names if name in code}
    # What a style sheet draws itself, such as the icon of a note, no page names.
    drawn |= {ord(icon) for icon in re.findall("[\ue000-\uf8ff]", styles)}
    rest = GLYPH.sub("", styles)
    drawn |= {int(icon, 16) for icon in re.findall(r'content:"\\([ef][0-9a-f]{3})"', rest)}
    for font in source.glob("*.ttf"):
        target = out / "_static" / Path(*fonts.parts[1:]) / f"{font.stem}.woff2"
        subset_font(font, target, drawn)


def setup(app):
    """Register with Sphinx."""
    app.connect("config-inited", _set_pages)
    app.connect("env-get-outdated", _write_sources_anew)
    app.connect("build-finished", _finish, priority=900)  # behind the repairs of bntheme
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
