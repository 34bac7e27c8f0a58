"""Light pages: one style sheet with rules in use, scripts that wait, figures that share letters.

The theme has a style sheet of 400 kB for all pages that it can make, and a page shows no word
before it has that one, 13 others, and ten scripts. `lighten` takes from pages what they do not use.
"""

import base64
import hashlib
import html
import logging
import re
from collections.abc import Iterable, Iterator
from itertools import pairwise
from os.path import relpath
from pathlib import Path

import tinycss2
from fontTools import subset
from fontTools.ttLib import TTFont

STYLE = "_static/book.css"
ICONS = "fontawesome"  # its few icons cost less in the style sheet than as one more request
FIRST_FONTS = "KaTeX_Main-Regular", "KaTeX_Math-Italic"  # nearly every formula has both

SHEETS = re.compile(r'(?:<link [^>]*(?:rel="stylesheet"|as="font")[^>]*>\s*)+')
HREF = re.compile(r'href="([^"?]*\.css)')
IMPORT = re.compile(r'@import "([^"]+)";')
COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
FILE = re.compile(r"url\(([\"']?)(?!data:|#)([^)\"']+)\1\)")
NAMES = re.compile(r'\b(?:class|id)="([^"]*)"')
WORD = re.compile(r"[\w-]+")
USED = re.compile(r"var\(\s*(--[\w-]+)")
VARIABLE = re.compile(r"(?<=[{;])(--[\w-]+):[^;{}]*(?:;|(?=\}))")

OPTIONS = re.compile(r'<script src="[^"]*documentation_options\.js[^"]*"></script>')
EAGER = re.compile(r"<script(?= [^>]*src=)(?![^>]* defer)")
NEEDLESS = re.compile(
    r'<link rel="preload" as="script"[^>]*>\s*'  # overtakes the style sheet
    r"|<script[^>]*fontawesome\.js[^>]*></script>\s*"  # the icons come from a font
)
VIEWPORT = re.compile(r'<meta name="viewport"[^>]*>\s*')
SCROLLABLE = re.compile(r'document\.querySelectorAll\(\["pre",[^]]*\]\.join\(", "\)\)')
MODE = 'localStorage.getItem("theme") || "auto"'  # all styles are computed again when it is known
MODE_AT_ONCE = MODE.replace(
    '"auto"', '(matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")'
)

FIGURE = re.compile(r'<svg [^>]*class="bn-figure".*?</svg>', re.DOTALL)
GLYPH = re.compile(r'<path id="([\w.-]+)" (d="[^"]*" transform="scale[^"]*") ?/>')
ID = re.compile(r' id="([^"]+)"')
REFERENCE = re.compile(r'(?:href="|url\()#([^")]+)')


def lighten(out: Path, pages: Iterable[Path]) -> None:
    """Rewrite finished pages; one that is light already changes only with the style sheet."""
    before = {page: page.read_text("utf8") for page in pages if "_static" not in page.parts}
    letters = [ord(letter) for letter in {*html.unescape("".join(before.values()))}]
    for font in (out / "_static" / "katex" / "fonts").glob("*.woff2"):
        subset_font(font, font, letters)
    links = {
        page: HREF.findall(found[0])
        for page, text in before.items()
        if (found := SHEETS.search(text))
    }
    page = max(links, key=lambda page: len(links[page]))
    if len(links[page]) > 1:
        scripts = (script.read_text("utf8") for script in (out / "_static").rglob("*.*js"))
        used = names_in_use(before.values(), scripts)
        sheets = ((page.parent / link).resolve() for link in links[page])
        style = "".join(light_sheet(sheet, (out / STYLE).parent, used) for sheet in sheets)
        style = drop_variables(style, used.union(*(USED.findall(text) for text in before.values())))
        (out / STYLE).write_text(style, "utf8")
    drop_layout(out / "_static" / "scripts" / "pydata-sphinx-theme.js")
    version = hashlib.sha256((out / STYLE).read_bytes()).hexdigest()[:8]
    options = (out / "_static" / "documentation_options.js").read_text("utf8")
    for page, text in before.items():
        root = relpath(out, page.parent).replace("\\", "/")
        after = light_head(text, root, version, options)
        after = light_figures(after)
        if after != text:
            page.write_text(after, "utf8")


def names_in_use(pages: Iterable[str], scripts: Iterable[str]) -> set[str]:
    """Return the classes and ids of pages, and every word of a script, which may be one."""
    found = {name for text in pages for names in NAMES.findall(text) for name in names.split()}
    return found.union(*(WORD.findall(script) for script in scripts))


def light_sheet(sheet: Path, folder: Path, used: set[str]) -> str:
    """Return the rules of a style sheet that can apply, for a style sheet in `folder`."""

    def move(match):
        file = (sheet.parent / match[2].partition("?")[0]).resolve()
        if file.suffix == ".woff2" and ICONS in file.parts:
            data = base64.b64encode(file.read_bytes()).decode()
            return f"url(data:font/woff2;base64,{data})"
        return f"url({relpath(file, folder)})".replace("\\", "/")

    text = COMMENT.sub("", sheet.read_text("utf8"))
    imported = [
        light_sheet((sheet.parent / name).resolve(), folder, used) for name in IMPORT.findall(text)
    ]
    rules = tinycss2.parse_stylesheet(
        FILE.sub(move, IMPORT.sub("", text)), skip_comments=True, skip_whitespace=True
    )
    return "".join([*imported, *(light_rules(rules, used))])


def light_rules(rules: list, used: set[str]) -> Iterator[str]:
    """Yield the rules that can apply to an element with one of the names."""
    for rule in rules:
        if rule.type == "qualified-rule":
            kept = [short(each) for each in split(rule.prelude) if can_apply(each, used)]
            if kept:
                yield f"{','.join(kept)}{{{short(rule.content)}}}"
        elif rule.type == "at-rule" and rule.content:
            inner = short(rule.content)
            if rule.at_keyword in ("media", "supports"):
                rules_inside = tinycss2.parse_rule_list(rule.content, True, True)
                inner = "".join(light_rules(rules_inside, used))
            if inner:
                yield f"@{rule.at_keyword}{tinycss2.serialize(rule.prelude)}{{{inner}}}"


def drop_variables(style: str, used: set[str]) -> str:
    """Drop the variables that nothing uses, and those that only these use."""
    needed = used | {*USED.findall(style)}
    lighter = VARIABLE.sub(lambda match: match[0] if match[1] in needed else "", style)
    return lighter if lighter == style else drop_variables(lighter, used)


def short(tokens: list) -> str:
    """Write a selector or what a rule says on one line."""
    return re.sub(r"\s*\n\s*", " ", tinycss2.serialize(tokens)).strip()


def split(prelude: list) -> list[list]:
    """Split a list of selectors at its commas."""
    selectors = [[]]
    for token in prelude:
        if token == ",":
            selectors.append([])
        else:
            selectors[-1].append(token)
    return selectors


def can_apply(selector: list, used: set[str]) -> bool:
    """Say whether each class and id of a selector is in use; those in parentheses do not count."""
    return all(
        token.value in used
        for before, token in pairwise([None, *selector])
        if token.type == "hash" or (token.type == "ident" and before == ".")
    )


def drop_layout(script: Path) -> None:
    """Leave boxes that scroll to `bn.js`: the theme lays out the whole page to find them."""
    text = script.read_text("utf8")
    if not SCROLLABLE.search(text) and "[].forEach" not in text:
        raise LookupError(f"{script.name} looks for boxes that scroll in another way")
    script.write_text(SCROLLABLE.sub("[]", text), "utf8")


def light_head(text: str, root: str, version: str, options: str) -> str:
    """Return a page with one style sheet, and with scripts that wait until the page is there."""
    head = f'<link rel="stylesheet" href="{root}/{STYLE}?v={version}" />\n'
    if 'class="katex"' in text:
        fonts = (f"{root}/_static/katex/fonts/{name}.woff2" for name in FIRST_FONTS)
        line = '<link rel="preload" as="font" type="font/woff2" crossorigin href="{}" />\n'
        head += "".join(line.format(font) for font in fonts)
    text = SHEETS.sub(lambda match: head, NEEDLESS.sub("", text), count=1)
    text = OPTIONS.sub(lambda match: f"<script>{options}</script>", text)
    text = text.replace(MODE, MODE_AT_ONCE)
    more = len(VIEWPORT.findall(text)) - 1
    if more:
        text = VIEWPORT.sub("", text, count=more)
    return text if "searchindex.js" in text else EAGER.sub("<script defer", text)


def light_figures(text: str) -> str:
    """Let the figures of a page share the shapes of letters, and drop ids that nothing names."""
    shapes = {}

    def lighten_figure(match):
        figure = match[0]
        same = {}
        for name, shape in GLYPH.findall(figure):
            same[name] = shapes.setdefault(shape, f"g{len(shapes)}")
        figure = GLYPH.sub("", figure)
        figure = REFERENCE.sub(lambda m: m[0].replace(m[1], same.get(m[1], m[1])), figure)
        named = {*REFERENCE.findall(figure)}
        start = figure.index(">")
        rest = ID.sub(lambda m: m[0] if m[1] in named else "", figure[start:])
        return figure[:start] + rest.replace("  ", " ")

    text = FIGURE.sub(lighten_figure, text)
    if not shapes:
        return text
    paths = "".join(f'<path id="{name}" {shape}/>' for shape, name in shapes.items())
    letters = (
        f'<svg class="letters" width="0" height="0" aria-hidden="true"><defs>{paths}</defs></svg>'
    )
    return text.replace("</article>", f"{letters}</article>", 1)


def subset_font(font: Path, target: Path, characters: Iterable[int]) -> None:
    """Cut a font down to the characters that are drawn."""
    logging.getLogger("fontTools").setLevel(logging.WARNING)  # a line for each table otherwise
    wanted = subset.Subsetter()
    wanted.populate(unicodes=characters)
    letters = TTFont(font)
    wanted.subset(letters)
    letters.flavor = "woff2"
    letters.save(target)
