"""The notebooks of the book by kind, and their prose: chapters are those in the numbered parts."""

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]


def notebooks(*, numbered):
    """List the notebooks of the numbered parts of the table of contents, or those of the others."""
    parts = yaml.safe_load((ROOT / "_toc.yml").read_text("utf8"))["parts"]
    entries = [
        entry["file"]
        for part in parts
        if part.get("numbered", False) == numbered
        for entry in part["chapters"]
    ]
    return [entry for entry in entries if (ROOT / f"{entry}.ipynb").is_file()]


def prose(chapter):
    return "\n\n".join(cell.source for cell in chapter.cells if cell.cell_type == "markdown")


def words(text):
    """Count the words of the main path: no mathematics, code, exercises, or boxes to skip."""
    gated = r"```+\{(exercise|solution)-start\}.*?```+\{\1-end\}\s*```+"
    text = re.sub(gated, " ", text, flags=re.DOTALL)
    optional = r"^(?:### Try it.*\n\n)?(```+)\{(?:admonition\} Optional|explorable\}).*?^\1$"
    text = re.sub(optional, " ", text, flags=re.DOTALL | re.M)
    text = re.sub(
        r"^(```+)(?:math|\{math\}|python|sh|text).*?^\1", " ", text, flags=re.DOTALL | re.M
    )
    text = re.sub(r"\$\$.*?\$\$|\\begin\{(\w+\*?)\}.*?\\end\{\1\}", " ", text, flags=re.DOTALL)
    text = re.sub(r"\$[^$]*\$|^```.*$|^:\w+:.*$|^\(.*\)=$|\{[\w:]+\}`[^`]*`", " ", text, flags=re.M)
    return len(re.findall(r"[^\W\d_][\w’'-]*", text))
