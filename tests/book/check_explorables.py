"""Touch every explorable of the built book in Chromium: its numbers, its keys, its weight.

Run by ``make browser`` after ``make book``, like `check_pages`.
"""

import gzip
import json
import re
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.append(str(HERE))

from check_pages import (  # noqa: E402, F401
    AUDIT,
    AXE,
    HTML,
    ROOT,
    SCREENSHOTS,
    TAGS,
    VIEWS,
    address,
    browser,
    visit,
)

PAGES = {
    "backward_pass": "backward_pass",
    "inference": "inference",
    "learning_rate_and_convergence": "training",
    "index": "training",
    "alternatives": "alternatives",
    "forward_pass": "forward_pass",
    "depth_and_signal_propagation": "depth_and_signal_propagation",
}
ANSWERED = {"training": "After 200", "depth_and_signal_propagation": "decades"}  # of the sentence
FILES = HTML / "_static" / "explorables"
CODE = {
    "backward_pass": ["bn.mjs"],
    "inference": ["bn.mjs", "mlp.mjs"],
    "alternatives": ["bn.mjs", "mlp.mjs"],
    "forward_pass": ["bn.mjs"],
    "depth_and_signal_propagation": ["depth_worker.mjs", "bn.mjs", "mlp.mjs"],
    "training": ["training_worker.mjs", "digits.mjs", "mlp.mjs", "bn.mjs"],
}
TO_FIGURE = """() => {
  const figure = document.querySelector('[data-explorable]');
  figure.scrollIntoView({behavior: 'instant'}); // again, as sections above it are laid out late
  return 'ready' in figure.dataset;
}"""
WEIGHT = 15_000  # bytes of code that a page gains, compressed
BANDS = json.loads((ROOT / "book" / "_data" / "explorables" / "training.json").read_text("utf8"))


@pytest.fixture
def touch(visit):  # noqa: F811
    """Return a function that opens a page, waits for its explorable, and makes the prediction."""

    def open_explorable(page, view="light", answer=0):
        tab, faults = visit(f"book/{page}.html", view)
        figure = tab.locator("[data-explorable]")
        tab.wait_for_function(TO_FIGURE, polling=200)
        if answer is not None:
            figure.locator(".explorable-prediction button").nth(answer).click()
        return tab, figure, faults

    return open_explorable


def said(tab, part, timeout=5_000):
    """Wait until the sentence has this part, and return it."""
    tab.wait_for_function(
        "part => document.querySelector('.explorable-sentence').textContent.includes(part)",
        arg=part,
        timeout=timeout,
    )
    return tab.locator(".explorable-sentence").inner_text()


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("page", PAGES)
def test_each_explorable_is_accessible(touch, page, view):
    tab, figure, faults = touch(page, view)
    said(tab, ANSWERED.get(PAGES[page], "="), 120_000)
    assert figure.get_attribute("data-explorable") == PAGES[page]
    assert not figure.locator(".explorable-static").is_visible()
    figure.screenshot(path=SCREENSHOTS / f"explorable-{page}-{view}.png")
    root = "document.documentElement"
    assert tab.evaluate(f"{root}.scrollWidth - {root}.clientWidth") <= 0
    faults += audit(tab)
    assert not faults, "\n".join(faults)


def audit(tab):
    """Return what axe finds in the explorable as it is now."""
    tab.add_script_tag(path=AXE)
    found = tab.evaluate(AUDIT.replace("document", "document.querySelector('.explorable')"), TAGS)
    return [f"{v['id']}: {v['nodes'][0]['html'][:160]}" for v in found["violations"]]


def test_the_answer_waits_for_the_prediction(touch):
    tab, figure, _ = touch("backward_pass", answer=None)
    assert figure.locator("td").all_inner_texts()[1:] == ["4", "4", "?", "?"]
    assert tab.locator(".explorable-sentence").inner_text() == ""
    figure.locator(".explorable-prediction button").first.click()
    assert "No: 0." in figure.locator(".explorable-prediction").inner_text()
    assert figure.locator("td").all_inner_texts()[1:] == ["4", "4", "0", "0"]


def test_the_gradient_starts_with_the_example_of_the_chapter_and_follows_the_keys(touch):
    tab, figure, faults = touch("backward_pass")
    assert "dx = (2, −1.33, −1.33, 0.67)" in said(tab, "dx =")
    first = figure.get_by_role("slider", name="dy of example 1")
    first.focus()
    tab.keyboard.press("ArrowUp")
    said(tab, "You set dy of example 1 to 1.5")
    assert figure.locator("td").all_inner_texts()[1:] == ["4.5", "3.5", "0", "0"]
    tab.keyboard.press("End")
    said(tab, "to 12")
    assert first.get_attribute("aria-valuetext") == "12"
    for preset, part in (("dy: all ones", "All dy are 1."), ("dy = y", "dy is y,")):
        figure.get_by_role("button", name=preset).click()
        assert "nothing passes" in said(tab, part)
    figure.get_by_role("button", name="the chapter’s example").click()
    figure.get_by_role("radio", name="2", exact=True).check()
    assert "no direction is left" in said(tab, "There are 2 examples")
    figure.get_by_role("radio", name="4", exact=True).check()
    eps = figure.get_by_role("slider", name="ε")
    eps.focus()
    for _ in range(6):
        tab.keyboard.press("ArrowRight")
    assert "0.526 passes" in said(tab, "ε is 10")  # 10 / (9 + 10)
    assert "✓" in figure.locator(".explorable-task").inner_text()
    assert not faults, "\n".join(faults)


def test_a_value_can_be_dragged(touch):
    tab, figure, _ = touch("backward_pass")
    point = figure.get_by_role("slider", name="x of example 4")
    box = point.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    tab.mouse.move(x, y)
    tab.mouse.down()
    tab.mouse.move(x, y + 20)
    tab.mouse.up()
    assert float(point.get_attribute("aria-valuenow")) < 6
    said(tab, "You set x of example 4")


def test_companions_start_with_the_numbers_of_the_chapter(touch):
    tab, figure, faults = touch("inference", answer=None)
    assert "mean 0.3" in figure.inner_text()
    assert "variance 1.37" in figure.inner_text()
    figure.locator(".explorable-prediction button").nth(1).click()
    assert "(4, 5, 8), x = 3 becomes y = −1.07" in said(tab, "Among")
    figure.get_by_role("button", name="50 times").focus()
    tab.keyboard.press("Enter")
    assert "Of 52 predictions" in said(tab, "Of 52")
    figure.get_by_role("radio", name="eval").check()
    y = re.search(r"y = (\S+),", said(tab, "In eval mode"))[1]
    figure.get_by_role("button", name="50 times").click()
    assert f"y = {y}," in said(tab, "Of 51")
    share = re.search(r"Of 51 predictions, (\d+)", said(tab, "Of 51"))[1]
    assert share in ("0", "51")
    assert not faults, "\n".join(faults)


def test_two_networks_train_in_the_page(touch):
    tab, figure, faults = touch("learning_rate_and_convergence", answer=None)
    asked = []
    tab.on("request", lambda request: asked.append(request.url.rsplit("/", 1)[-1]))
    assert "digits.bin" not in str(tab.evaluate("performance.getEntries().map(e => e.name)"))
    figure.locator(".explorable-prediction button").nth(2).click()
    sentence = said(tab, "After 200", 120_000)
    assert "digits.bin" in asked
    assert stored_means(rate=0.1) in sentence
    none, bn = map(int, re.findall(r"(\d+) %", sentence)[:2])
    assert bn > 85  # the lowest of 16 seeds is well above that
    assert none > 40
    figure.get_by_role("slider", name="learning rate").focus()
    tab.keyboard.press("ArrowRight")
    tab.keyboard.press("ArrowRight")
    sentence = said(tab, "The learning rate is 1.", 120_000)
    assert stored_means(rate=1.0) in sentence
    assert "Only the network with BN trains." in sentence
    assert "✓" in figure.locator(".explorable-task").inner_text()
    assert not faults, "\n".join(faults)


def test_with_reduced_motion_only_the_end_of_a_training_is_drawn(touch):
    tab, figure, faults = touch("learning_rate_and_convergence", answer=None)
    seen = """() => {
      window.lengths = [];
      const picture = document.querySelector('.explorable-live svg');
      const own = () => picture.querySelectorAll('polyline:not(.mean)');
      new MutationObserver(() => own().forEach(p => lengths.push(p.points.length)))
        .observe(picture, {childList: true});
    }"""
    lengths = {}
    for motion in ("reduce", "no-preference"):
        tab.emulate_media(reduced_motion=motion)
        tab.evaluate(seen)
        if motion == "reduce":
            figure.locator(".explorable-prediction button").first.click()
        else:
            figure.get_by_role("button", name="Train again").click()
        said(tab, "After 200" if motion == "reduce" else "New weights", 120_000)
        lengths[motion] = set(tab.evaluate("lengths"))
    assert lengths["reduce"] == {21}
    assert len(lengths["no-preference"]) > 5
    assert not faults, "\n".join(faults)


def stored_means(rate, depth=6, scale=1.0, batch=32):
    """Return what the explorable says of the book's seeds."""
    wanted = {"depth": depth, "scale": scale, "batch": batch}
    found = next(s for s in BANDS["settings"] if wanted.items() <= s.items())
    row = BANDS["rates"].index(rate)
    none, bn = (found["bands"][norm][row][0][-1] / 10 for norm in ("none", "batch"))
    return f"The means of the book’s {BANDS['seeds']} seeds are {none:.0f} % and {bn:.0f} %."


@pytest.fixture
def finger(browser, address):  # noqa: F811
    """Return a function that opens a page on a telephone, and one that drags by pixels."""
    context = browser.new_context(has_touch=True, **VIEWS["narrow"])

    def open_explorable(page):
        tab = context.new_page()
        tab.goto(f"{address}/book/{page}.html")
        tab.wait_for_function(TO_FIGURE, polling=200)
        tab.locator(".explorable-prediction button").first.tap()
        return tab

    def drag(tab, point, down):
        point.scroll_into_view_if_needed()
        box = point.bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        session = context.new_cdp_session(tab)
        for kind, at in (
            ("Start", [y]),
            ("Move", [y + down / 2]),
            ("Move", [y + down]),
            ("End", []),
        ):
            points = [{"x": x, "y": each} for each in at]
            session.send(
                "Input.dispatchTouchEvent", {"type": f"touch{kind}", "touchPoints": points}
            )

    yield open_explorable, drag
    context.close()


def test_a_finger_chooses_a_value(finger):
    open_explorable, _ = finger
    tab = open_explorable("alternatives")
    tab.get_by_role("gridcell", name="example 2, channel 5, row 2, column 3").tap()
    said(tab, "example 2, channel 5, row 2, column 3")


def test_a_finger_moves_a_value_and_x_hat(finger):
    open_explorable, drag = finger
    tab = open_explorable("forward_pass")
    said(tab, "ε is 6")
    point = tab.get_by_role("slider", name="x 3")
    drag(tab, point, 57)  # of 190 pixels for 20
    assert "x = (3, 0, 0)" in said(tab, "You set x\u20093 to 0")
    assert point.get_attribute("aria-valuenow") == "0"


def test_companions_light_up_with_their_number(touch):
    tab, figure, faults = touch("alternatives", answer=None)
    lit = figure.locator("[role=gridcell].batch, [role=gridcell].layer, [role=gridcell].group")
    assert figure.locator("[role=gridcell]").count() == 3 * 6 * 4 * 5
    assert lit.count() == 0
    figure.get_by_role("button", name="60", exact=True).click()
    assert "Right" in figure.locator(".explorable-prediction").inner_text()
    assert "60 values share its mean, channel 1 in all examples" in said(tab, "Batch norm")
    assert lit.count() == 60
    for norm, count, means in (("layer", 120, 3), ("instance", 20, 18), ("group", 60, 6)):
        figure.get_by_role("radio", name=norm, exact=True).check()
        sentence = said(tab, f"{norm.capitalize()} norm")
        assert f"{count} values share its mean" in sentence
        assert f"There are {means} such means" in sentence
        assert "does not depend on the mini-batch" in sentence
        assert lit.count() == count
    assert "✓" not in figure.locator(".explorable-task").inner_text()
    figure.get_by_role("radio", name="one per channel").check()
    said(tab, "20 values share its mean, channel 1 of example 1")
    assert "✓ At these sizes instance norm and" in figure.locator(".explorable-task").inner_text()
    assert not faults, "\n".join(faults)


def test_a_value_is_chosen_with_keys_and_with_a_click(touch):
    tab, figure, faults = touch("alternatives")
    figure.get_by_role("grid").focus()
    for key in ("End", "ArrowDown", "ArrowDown", "ArrowDown", "ArrowDown", "ArrowLeft"):
        tab.keyboard.press(key)
    said(tab, "example 2, channel 6, row 1, column 4")
    figure.get_by_role("gridcell", name="example 3, channel 2, row 4, column 5").click()
    assert "channel 2 in all examples" in said(tab, "example 3, channel 2, row 4, column 5")
    chosen = figure.get_by_role("grid").get_attribute("aria-activedescendant")
    assert "example 3" in figure.locator(f"#{chosen}").get_attribute("aria-label")
    assert not faults, "\n".join(faults)


def test_the_norms_of_the_example_of_the_chapter(touch):
    tab, figure, faults = touch("alternatives")
    figure.get_by_role("button", name="the chapter’s example").click()
    for norm, x_hat in (("batch", "−1"), ("layer", "−1.34"), ("group", "−1")):
        figure.get_by_role("radio", name=norm, exact=True).check()
        sentence = said(tab, f"{norm.capitalize()} norm, x = 1, example 1, channel 1")
        assert f"x̂ is {x_hat}." in sentence
    shown = figure.locator(".explorable-numbers text").all_text_contents()
    assert shown[:4] == ["1", "−1", "3", "1"]  # x and x_hat
    figure.get_by_role("radio", name="instance", exact=True).check()
    assert "alone in its mean" in said(tab, "Instance norm")
    faults += audit(tab)
    assert not faults, "\n".join(faults)


def test_eps_moves_x_hat_inward_and_a_shift_does_not_move_it(touch):
    tab, figure, faults = touch("forward_pass", answer=None)
    eps = figure.get_by_role("slider", name="ε")
    assert eps.is_disabled()
    radius = "() => +document.querySelector('circle.inner').getAttribute('r')"
    assert tab.evaluate(radius) == 0
    figure.get_by_role("button", name="straight inward").click()
    assert "x̂ = (0, −0.87, 0.87) has the length 1.22" in said(tab, "ε is 6")  # 3/sqrt(12)
    assert tab.evaluate(radius) == pytest.approx(92 / 2**0.5)
    figure.get_by_role("button", name="add 2 to all").click()
    said(tab, "x̂ has not moved")
    figure.get_by_role("button", name="times 2").click()
    said(tab, "That would leave the picture.")
    figure.get_by_role("button", name="half").click()
    said(tab, "You halved all values. x̂ has moved")
    figure.get_by_role("button", name="Start again").click()
    assert "x̂ = (0, −1.22, 1.22) has the length 1.73" in said(tab, "These are the first values")
    figure.get_by_role("button", name="times −1").click()
    assert "x̂ = (0, 1.22, −1.22)" in said(tab, "You changed all signs")
    assert not faults, "\n".join(faults)


def test_an_outlier_reaches_the_root_of_two(touch):
    tab, figure, faults = touch("forward_pass")
    figure.get_by_role("button", name="Start again").click()
    for name, key in (("x 1", "End"), ("x 2", "Home"), ("x 3", "Home")):
        assert "✓" not in figure.locator(".explorable-task").inner_text()
        figure.get_by_role("slider", name=name).focus()
        tab.keyboard.press(key)
    assert "x̂ = (1.41, −0.71, −0.71)" in said(tab, "to −10. x = (10, −10, −10)")
    assert "✓" in figure.locator(".explorable-task").inner_text()
    figure.get_by_role("slider", name="x 1").focus()
    tab.keyboard.press("Home")
    said(tab, "BN is not defined")
    assert not faults, "\n".join(faults)


def test_halved_weights_change_only_the_network_without_bn(touch):
    tab, figure, faults = touch("depth_and_signal_propagation", answer=None)
    scale = figure.get_by_role("slider", name="factor on the weights")
    assert scale.is_disabled()
    assert tab.locator(".explorable-sentence").inner_text() == ""
    figure.get_by_role("button", name="it grows as before").click()
    half = decades(said(tab, "The weights are 0.5 times He’s."))
    scale.focus()
    for _ in range(4):
        tab.keyboard.press("ArrowRight")
    he = decades(said(tab, "The weights are 1 times He’s."))
    assert half[4] == he[4] == 4.2  # the theory, 25 log10(pi / (pi - 1))
    assert half[2] < -10  # without BN
    assert abs(he[2]) < 2
    assert abs(half[3] - he[3]) < 0.11  # with BN, but for eps
    assert 3 < he[3] < 5.5
    assert "✓" not in figure.locator(".explorable-task").inner_text()
    figure.get_by_role("radio", name="none").check()
    linear = decades(said(tab, "1 times Xavier’s"))
    assert linear[4] == 0.4  # 25 log10(30 / 29)
    assert abs(linear[3]) < 1
    assert "✓" in figure.locator(".explorable-task").inner_text()
    figure.get_by_role("button", name="New weights").click()
    said(tab, "These are new weights.")
    assert not faults, "\n".join(faults)


def decades(sentence):
    """Return signal and gradient, each without and with BN, and the theory."""
    found = re.findall(r"([+−]?\d+(?:\.\d)?) (?:decades|with)", sentence)
    return [float(v.replace("−", "-")) for v in found]


def test_with_reduced_motion_both_directions_are_drawn_at_once(touch):
    tab, figure, _ = touch("depth_and_signal_propagation", answer=None)
    seen = """() => {
      window.lengths = [];
      const picture = document.querySelector('.explorable-live svg');
      new MutationObserver(() => picture.querySelectorAll('polyline')
        .forEach(p => lengths.push(p.points.length))).observe(picture, {childList: true});
    }"""
    lengths = {}
    tab.evaluate(seen)
    for motion in ("reduce", "no-preference"):
        tab.emulate_media(reduced_motion=motion)
        tab.evaluate("lengths = []")
        if motion == "reduce":
            figure.locator(".explorable-prediction button").first.click()
        else:
            figure.get_by_role("button", name="New weights").click()
        tab.wait_for_function("lengths.filter(n => n === 51).length >= 4")
        lengths[motion] = set(tab.evaluate("lengths"))
    assert lengths["reduce"] == {51}
    assert len(lengths["no-preference"]) > 1  # how many depends on the machine


@pytest.mark.parametrize("page", PAGES)
def test_paper_has_the_static_figure(touch, page):
    tab, figure, _ = touch(page, answer=None)
    tab.emulate_media(media="print")
    assert figure.locator(".explorable-static svg").is_visible()
    assert figure.locator("figcaption").is_visible()
    assert not figure.locator(".explorable-live").is_visible()


@pytest.mark.parametrize("options", [{"java_script_enabled": False}, {}])
def test_the_static_figure_stays_without_javascript_and_where_data_are_saved(
    browser,  # noqa: F811
    address,  # noqa: F811
    options,
):
    context = browser.new_context(**options)
    context.add_init_script(
        "Object.defineProperty(navigator, 'connection', {value: {saveData: true}})"
    )
    tab = context.new_page()
    tab.goto(f"{address}/book/backward_pass.html")
    figure = tab.locator("[data-explorable]")
    figure.scroll_into_view_if_needed()
    tab.wait_for_timeout(500)
    assert figure.locator(".explorable-static svg").is_visible()
    assert figure.locator("figcaption").is_visible()
    assert figure.locator(".explorable-live").count() == 0
    context.close()


def test_other_pages_load_nothing_of_it(visit):  # noqa: F811
    tab, _ = visit("book/motivation.html", "light")
    assert "explorables" not in str(tab.evaluate("performance.getEntries().map(e => e.name)"))


@pytest.mark.parametrize("name", CODE)
def test_a_page_gains_little(name):
    files = ["frame.mjs", "ui.mjs", "explorables.css", f"{name}.mjs", *CODE[name]]
    size = sum(len(gzip.compress((FILES / file).read_bytes())) for file in files)
    print(f"{name}: {size} bytes compressed")
    assert size <= WEIGHT
