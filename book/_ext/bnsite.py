"""The site around the pages: its root, a page for wrong addresses, a map, light icons, search."""

import html
import logging
import os
import re
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import pydata_sphinx_theme
from fontTools import subset
from fontTools.ttLib import TTFont

ROOT = Path(__file__).resolve().parents[2]
SEARCH = re.compile(
    r'\s*<script src="[^"]*(?:searchtools|language_data|searchindex)\.js[^"]*"></script>'
)
NO_TEXT = '[".headerlink",', '[".katex-mathml", "#jb-print-docs-body", ".headerlink",'
ICON = re.compile(r"\bfa-([a-z0-9-]+)\b")
GLYPH = re.compile(r'((?:\.fa-[a-z0-9-]+:before,?)+)\{content:"\\([0-9a-f]+)')


def _set_pages(app, config):
    config.html_additional_pages["404"] = "404.html"
    versions = (f"{name} {metadata.version(name)}" for name in ("numpy", "torch"))
    commit = os.environ.get("BOOK_COMMIT") or _commit()
    facts = [
        f"Version {metadata.version('batchnorm-book')}",
        f"{datetime.now(UTC):%d %B %Y}".lstrip("0"),
        *([f"commit {html.escape(commit)}"] if commit else []),
        f"computed with {', '.join(versions)}",
    ]
    config.html_theme_options["extra_footer"] = f"<p>{', '.join(facts)}</p>"


def _commit() -> str:
    git = ["git", "rev-parse", "--short", "HEAD"]
    try:
        return subprocess.run(
            git, cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):  # an archive without its history
        return ""


def _finish(app, exception):
    if exception is not None or app.builder.format != "html":
        return
    out, site = Path(app.outdir), app.config.html_baseurl
    pages = sorted(page for page in out.rglob("*.html") if page.name != "search.html")
    for page in pages:
        before = page.read_text("utf8")
        after = SEARCH.sub("", before)  # only the page of the search needs the index
        if after != before:
            page.write_text(after, "utf8")
    _mend_excerpts(out / "_static" / "searchtools.js")
    # The address that people share is a page, not a redirect; and a server shows the page for a
    # wrong address at any depth, so that its links start at the root.
    _copy(out / "book" / "index.html", out / "index.html", base="book/index.html")
    _copy(out / "404.html", out / "404.html", base=site or "/")
    _subset_icons(out, pages)
    if site:
        names = (p.relative_to(out).as_posix() for p in pages)
        urls = (f"<url><loc>{site.rstrip('/')}/{n}</loc></url>" for n in names if n[0] != "_")
        start = '<?xml version="1.0" encoding="utf-8"?>\n<urlset xmlns='
        schema = '"http://www.sitemaps.org/schemas/sitemap/0.9">'
        (out / "sitemap.xml").write_text(start + schema + "\n".join(urls) + "</urlset>\n", "utf8")
        (out / "robots.txt").write_text(f"Sitemap: {site.rstrip('/')}/sitemap.xml\n", "utf8")


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
    # The font has two thousand icons, the book uses some twenty.
    fonts = Path("static", "vendor", "fontawesome", "webfonts")
    font = Path(pydata_sphinx_theme.__file__).parent / "theme" / "pydata_sphinx_theme" / fonts
    styles = "".join(file.read_text("utf8") for file in out.rglob("*.css"))
    scripts = "".join(file.read_text("utf8") for file in (out / "_static").glob("*.js"))
    names = {name for page in pages for name in ICON.findall(page.read_text("utf8"))}
    names |= {*ICON.findall(scripts)}
    code = {
        name: int(value, 16)
        for selectors, value in GLYPH.findall(styles)
        for name in ICON.findall(selectors)
    }
    logging.getLogger("fontTools").setLevel(logging.WARNING)  # a line for each table otherwise
    wanted = subset.Subsetter()
    wanted.populate(unicodes=[code[name] for name in names if name in code])
    icons = TTFont(font / "fa-solid-900.ttf")
    wanted.subset(icons)
    icons.flavor = "woff2"
    icons.save(out / "_static" / Path(*fonts.parts[1:]) / "fa-solid-900.woff2")


def setup(app):
    """Register with Sphinx."""
    app.connect("config-inited", _set_pages)
    app.connect("build-finished", _finish, priority=900)  # behind the repairs of bntheme
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
