import re
import sys
from types import SimpleNamespace
from xml.etree import ElementTree

import matplotlib.pyplot as plt
import numpy as np
import pytest

from bnlib import plots
from bnlib.plots.style import COLORS, PAPER
from bnlib.plots.svg import MAX_VECTOR_POINTS

ALT = "Two lines over five steps: the first one rises, the second one stays flat."


def make_figure(points=5):
    fig, ax = plt.subplots()
    for meaning in COLORS:
        ax.plot(np.linspace(0, 1, points), **plots.line_style(meaning), label=meaning)
    ax.fill_between(np.arange(5), 0, 1, color=COLORS["batch"], alpha=0.2)
    ax.text(0.5, 0.5, "$\\sigma^2$", color="black")
    ax.add_patch(plt.Rectangle((1, 0), 1, 0.2, facecolor=PAPER, edgecolor="black"))
    ax.set(xlabel="step", ylabel="accuracy")
    plots.label_ends(ax)
    return fig


def render_elements(name="fig-a", **options):
    svg = plots.render(make_figure(**options), name, ALT).svg
    return svg, list(ElementTree.fromstring(svg).iter())


def test_ids_of_two_figures_are_disjoint_and_unique():
    ids = [
        element.get("id")
        for name in ("fig-a", "fig-b")
        for element in render_elements(name)[1]
        if element.get("id")
    ]
    assert len(ids) > 40
    assert len(set(ids)) == len(ids)


def test_every_reference_has_its_target():
    svg, elements = render_elements()
    ids = {element.get("id") for element in elements}
    references = re.findall(r'href="#([^"]+)"', svg) + re.findall(r"url\(#([^)]+)\)", svg)
    assert len(references) > 20
    assert set(references) <= ids


def test_no_black_is_left():
    svg, _ = render_elements()
    assert not re.search(r"#000(000)?\b", svg)
    assert "black" not in svg
    assert "stroke: currentColor" in svg
    assert "fill: currentColor" in ElementTree.fromstring(svg).get("style")


def test_every_palette_color_is_a_variable_in_a_style_attribute():
    svg, elements = render_elements()
    styles = " ".join(element.get("style", "") for element in elements)
    for meaning, color in {**COLORS, "paper": PAPER}.items():
        assert f"var(--bn-{meaning}, {color})" in styles
        uses = re.findall(color, svg, flags=re.IGNORECASE)
        assert len(uses) == styles.count(f"var(--bn-{meaning}, {color})"), meaning
    assert not any(key in ("fill", "stroke") for element in elements for key in element.attrib)


def test_frame_has_role_label_and_no_fixed_size():
    svg, (root, *_) = render_elements()
    assert svg.startswith("<svg ")
    assert root.get("role") == "img"
    assert root.get("aria-label") == ALT
    assert root.get("viewBox").startswith("0 0 432 ")
    assert "--bn-width: 576px; width: 100%; max-width: var(--bn-width)" in root.get("style")
    assert "height" not in root.attrib
    assert "width" not in root.attrib
    assert "metadata" not in svg


def test_style_rules_stay_inside_the_figure():
    _, elements = render_elements()
    rules = [element.text for element in elements if element.tag.endswith("style")]
    assert rules
    assert all(rule.startswith("#fig-a-svg *{") for rule in rules)


def test_same_figure_gives_the_same_bytes():
    assert render_elements()[0] == render_elements()[0]


def test_alternative_text_is_escaped():
    alt = 'The "loss" <b> of two networks & their mean: it falls, then stays.'
    svg = plots.render(make_figure(), "fig-a", alt).svg
    assert ElementTree.fromstring(svg).get("aria-label") == alt


def test_large_figures_are_rasterized_small_ones_are_not():
    count = len(COLORS)
    assert "<image" not in render_elements(points=MAX_VECTOR_POINTS // (2 * count))[0]
    svg, _ = render_elements(points=MAX_VECTOR_POINTS)
    assert "<image" in svg
    assert len(svg) < 200_000


def test_empty_height_is_cut_off():
    fig, ax = plt.subplots()
    plots.batch_norm_graph(ax)
    _, _, width, height = map(
        float, re.search(r'viewBox="([^"]+)"', plots.render(fig, "fig-a", ALT).svg)[1].split()
    )
    assert width == 432
    assert height < 200


def test_render_closes_the_figure():
    fig = make_figure()
    plots.render(fig, "fig-a", ALT)
    assert not plt.fignum_exists(fig.number)


@pytest.mark.parametrize("alt", ["", "   ", "fig-a", "accuracy over steps"])
def test_alternative_text_must_say_something(alt):
    fig = make_figure()
    with pytest.raises(ValueError, match="alt: expected at least 8 words"):
        plots.render(fig, "fig-a", alt)
    assert plt.fignum_exists(fig.number)


@pytest.mark.parametrize("name", ["", "Fig a", "fig_a", 'a"b', "fig-"])
def test_name_must_fit_into_an_id(name):
    with pytest.raises(ValueError, match="name: expected lower-case words"):
        plots.render(make_figure(), name, ALT)


def test_only_figures_are_rendered():
    with pytest.raises(TypeError, match="fig: expected a matplotlib Figure, got Axes"):
        plots.render(make_figure().axes[0], "fig-a", ALT)


def test_figure_is_html_and_plain_text_only():
    figure = plots.render(make_figure(), "fig-a", ALT)
    assert figure._repr_html_() == figure.svg
    assert repr(figure) == f"<figure fig-a: {ALT}>"
    assert [name for name in dir(figure) if name.startswith("_repr_")] == ["_repr_html_"]


@pytest.fixture
def notebook(monkeypatch):
    """Pretend to run in a notebook and record what is glued and displayed."""
    plt.close(plt.figure())  # Matplotlib looks for IPython at its first figure: let it find none
    record = []
    ipython = SimpleNamespace(get_ipython=lambda: object())
    display = SimpleNamespace(display=lambda figure: record.append(("display", figure.name)))
    glue = SimpleNamespace(
        glue=lambda name, figure, display: record.append(("glue", name, figure.name, display))
    )
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    monkeypatch.setitem(sys.modules, "myst_nb", glue)
    return record


def test_show_glues_and_displays(notebook):
    assert plots.show(make_figure(), "fig-a", ALT) is None
    assert notebook == [("glue", "fig-a", "fig-a", False), ("display", "fig-a")]


def test_show_without_myst_nb_only_displays(notebook, monkeypatch):
    monkeypatch.setitem(sys.modules, "myst_nb", None)
    plots.show(make_figure(), "fig-a", ALT)
    assert notebook == [("display", "fig-a")]


def test_show_in_a_script_checks_and_closes(capsys):
    fig = make_figure()
    plots.show(fig, "fig-a", ALT)
    assert not plt.fignum_exists(fig.number)
    assert capsys.readouterr().out == ""
    with pytest.raises(ValueError, match="alt"):
        plots.show(make_figure(), "fig-a", "too short")
