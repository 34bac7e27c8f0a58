"""Who wrote the book: for readers who cite it, for search engines, and for those who share a link.

`CITATION.cff` is the one source. What needs the book's address is there when the build knows it.
"""

import html
import json
import re
from pathlib import Path

import yaml
from bnbook import ROOT

CARD = "_static/card.png"
LICENCE = "https://creativecommons.org/licenses/by/4.0/"
NUMBER = re.compile(r"^[\d.]+\s+")
TAG = re.compile(r"<[^>]+>")
OG_URL = re.compile(r'<meta property="og:url"[^>]*>\n?')


def read_citation() -> dict:
    """Return what `CITATION.cff` says."""
    return yaml.safe_load((ROOT / "CITATION.cff").read_text("utf8"))


def bibtex(cff: dict, year: str, site: str) -> str:
    """Return the entry for a bibliography."""
    fields = {
        "author": "{" + " and ".join(author["name"] for author in cff["authors"]) + "}",
        "title": cff["title"],
        "year": year,
        "note": f"Version {cff['version']}",
        **({"url": site} if site else {}),
    }
    lines = "".join(f"  {name:6} = {{{value}}},\n" for name, value in fields.items())
    return f"@book{{batchnormbook,\n{lines}}}"


def _set_citation(app, config):
    site, cff = config.html_baseurl, read_citation()
    entry = bibtex(cff, config.copyright, site)
    authors = " and ".join(author["name"] for author in cff["authors"])
    sentence = f"{authors} ({config.copyright}). *{cff['title']}*. Version {cff['version']}."
    config.myst_substitutions["citation"] = f"{sentence} {site}\n\n```bibtex\n{entry}\n```"
    if site:
        config.ogp_image, config.ogp_image_alt = f"{site}{CARD}", cff["title"]
        config.ogp_custom_meta_tags = [
            '<meta name="twitter:card" content="summary_large_image" />',
            '<meta property="og:image:width" content="1200" />',
            '<meta property="og:image:height" content="630" />',
        ]


def _describe_page(app, pagename, templatename, context, doctree):
    site = app.config.html_baseurl
    if not site:  # an address that begins nowhere
        context["metatags"] = OG_URL.sub("", context.get("metatags") or "")
    chapter = context.get("page_source_suffix") == ".ipynb"
    if not (chapter or pagename == app.config.root_doc):
        return
    title = NUMBER.sub("", html.unescape(TAG.sub("", context["title"])))
    address = {"url": f"{site}{pagename}.html"} if site else {}
    data = describe(read_citation(), title if chapter else "", app.config.copyright, address)
    script = json.dumps(data, ensure_ascii=False).replace("<", "\\u003c")
    tags = citation_tags(data, address)
    script = f'<script type="application/ld+json">{script}</script>'
    context["metatags"] = f"{context.get('metatags') or ''}{tags}\n{script}\n"


def describe(cff: dict, chapter: str, year: str, address: dict) -> dict:
    """Describe the book, or a chapter of it, in the terms of schema.org."""
    about = {
        "author": [{"@type": "Organization", "name": author["name"]} for author in cff["authors"]],
        "datePublished": year,
        "inLanguage": "en",
        "license": LICENCE,
        "version": str(cff["version"]),
    }
    book = {"@type": "Book", "name": cff["title"]}
    this = {"@type": "Chapter", "name": chapter, "isPartOf": book}
    if not chapter:
        this = book | {"description": cff["abstract"], "keywords": cff["keywords"]}
    return {"@context": "https://schema.org", **this, **about, **address}


def citation_tags(data: dict, address: dict) -> str:
    """Return the same for programs that collect citations."""
    names = {
        "citation_title": data["name"],
        "citation_publication_date": data["datePublished"],
        "citation_language": data["inLanguage"],
    }
    if "isPartOf" in data:
        names["citation_inbook_title"] = data["isPartOf"]["name"]
    if address:
        names["citation_fulltext_html_url"] = address["url"]
    tags = [*names.items(), *(("citation_author", author["name"]) for author in data["author"])]
    return "\n".join(f'<meta name="{name}" content="{html.escape(text)}" />' for name, text in tags)


def _draw_card(app):
    if app.builder.format == "html":
        target = Path(app.outdir, CARD)
        target.parent.mkdir(parents=True, exist_ok=True)
        draw_card(target, app.config.project, read_citation()["title"].partition(": ")[2])


def draw_card(target: Path, title: str, subtitle: str) -> None:
    """Draw the picture that is shown beside a link: many scales, and what BN makes of them."""
    import numpy as np
    from matplotlib.figure import Figure

    fig = Figure(figsize=(12, 6.3), dpi=100, facecolor="white")
    fig.text(0.06, 0.79, title, fontsize=54, weight="bold")
    fig.text(0.06, 0.68, subtitle, fontsize=30, color="#444444")
    x = np.linspace(-6, 6, 400)
    scales = [(-3.2, 0.5), (-1.0, 1.6), (1.5, 0.8), (3.0, 1.2)]
    for left, color, curves in ((0.06, "#0072B2", scales), (0.56, "#BF4F00", [(0, 1)])):
        ax = fig.add_axes((left, 0.08, 0.38, 0.5))
        ax.set_axis_off()
        ax.set_ylim(0, 0.85)
        for mean, std in curves:
            y = np.exp(-0.5 * ((x - mean) / std) ** 2) / (std * np.sqrt(2 * np.pi))
            ax.plot(x, y, color=color, linewidth=4)
            ax.fill_between(x, y, color=color, alpha=0.15)
        ax.axhline(0, color="#444444", linewidth=2)
    fig.text(0.5, 0.3, "\N{RIGHTWARDS ARROW}", fontsize=60, ha="center", va="center")
    fig.savefig(target, metadata={"Software": None})


def setup(app):
    """Register with Sphinx."""
    app.connect("config-inited", _set_citation, priority=900)
    app.connect("html-page-context", _describe_page, priority=950)  # behind the tags of others
    app.connect("builder-inited", _draw_card)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
