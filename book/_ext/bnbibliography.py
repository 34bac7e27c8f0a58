"""The bibliography's labels are those of the citations: [Ioffe and Szegedy, 2015]."""

from pybtex.plugin import register_plugin
from pybtex.style.formatting.plain import Style as PlainStyle
from pybtex.style.labels import BaseLabelStyle


class AuthorYearLabels(BaseLabelStyle):
    """Label each entry as the text cites it."""

    def format_labels(self, sorted_entries):
        """Yield one label an entry."""
        for entry in sorted_entries:
            names = [" ".join(p.prelast_names + p.last_names) for p in entry.persons["author"]]
            shown = " and ".join(names) if len(names) < 3 else f"{names[0]} et al."
            yield f"{shown}, {entry.fields['year']}"


class AuthorYearStyle(PlainStyle):
    """Pybtex's plain style with those labels."""

    default_label_style = AuthorYearLabels


def setup(app):
    """Register with Sphinx."""
    register_plugin("pybtex.style.formatting", "author_year", AuthorYearStyle)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
