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
    assert figure.locator("td").all_inner_texts()[1:] == ["4", "2", "?", "?"]
    assert tab.locator(".explorable-sentence").inner_text() == ""
    figure.locator(".explorable-prediction button").first.click()
    assert "No: 0." in figure.locator(".explorable-prediction").inner_text()
    assert figure.locator("td").all_inner_texts()[1:] == ["4", "2", "0", "0"]


def test_the_gradient_starts_with_the_example_of_the_chapter_and_follows_the_keys(touch):
    tab, figure, faults = touch("backward_pass")
    assert "dx = (2, −1.33, −1.33, 0.67)" in said(tab, "dx =")
    first = figure.get_by_role("slider", name="dy of example 1")
    first.focus()
    tab.keyboard.press("ArrowUp")
    said(tab, "You set dy of example 1 to 1.5")
    assert figure.locator("td").all_inner_texts()[1:] == ["4.5", "1.75", "0", "0"]
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
    none, bn = map(int, re.findall(r"(\d+)\s%", sentence)[:2])
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
    return f"The means of the book’s {BANDS['seeds']} seeds are {none:.0f}\xa0% and {bn:.0f}\xa0%."


@pytest.fixture
def finger(browser, address):  # noqa: F811
    """Return a function that opens a page on a telephone, and one that drags by pixels."""
    context = browser.new_context(has_touch=True, **VIEWS["narrow"])

    def open_explorable(page, answer=0):
        tab = context.new_page()
        tab.goto(f"{address}/book/{page}.html")
        tab.wait_for_function(TO_FIGURE, polling=200)
        tab.locator(".explorable-prediction button").nth(answer).tap()
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
    tab.get_by_role("gridcell", name="example 2, channel 5, row 2, column 1").tap()
    said(tab, "example 2, channel 5, row 2, column 1")


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
    figure.get_by_role("radio", name="linear").check()
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


STATE = """() => [...document.querySelectorAll('.explorable-live :is(input, [role])')].map(e =>
  [e.value, e.checked, e.getAttribute('aria-valuenow'), e.getAttribute('aria-activedescendant')])"""


@pytest.mark.parametrize("page", PAGES)
def test_nothing_can_be_moved_before_the_prediction(touch, page):
    tab, figure, faults = touch(page, answer=None)
    controls = figure.locator(":is(input, button):not(.explorable-prediction *)")
    assert controls.count() >= 4
    before = tab.evaluate(STATE)
    for control in controls.all():
        assert control.is_disabled()
    for stop in figure.locator("[tabindex='0']").all():
        stop.focus()
        for key in ("ArrowUp", "ArrowRight", "End"):
            tab.keyboard.press(key)
        box = stop.bounding_box()
        tab.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        tab.mouse.down()
        tab.mouse.move(box["x"] + box["width"] / 2, box["y"] + 40)
        tab.mouse.up()
    assert tab.evaluate(STATE) == before
    faults += audit(tab)
    figure.locator(".explorable-prediction button").first.click()
    assert not any(c.is_disabled() for c in figure.locator("button, [type=range]").all())
    for stop in figure.locator("[tabindex='0']").all()[:1]:
        stop.focus()
        tab.keyboard.press("ArrowRight")
        assert tab.evaluate(STATE) != before
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("page", PAGES)
def test_the_name_of_the_figure_is_its_title(touch, page):
    _, figure, _ = touch(page, answer=None)
    title = figure.locator(".explorable-title").inner_text()
    assert figure.get_attribute("aria-label") == title


def test_the_share_that_passes_is_that_of_the_table(touch):
    tab, figure, _ = touch("backward_pass")
    task = figure.locator(".explorable-task")
    eps = figure.get_by_role("slider", name="ε")
    eps.focus()
    for _ in range(6):
        tab.keyboard.press("ArrowRight")
    sentence = said(tab, "ε is 10")
    _, dy, _, dx = map(float, figure.locator("td").all_inner_texts()[1:])
    share = float(re.search(r"([\d.]+) passes", sentence)[1])
    factor = float(re.search(r"= ([\d.]+) as all that passes", sentence)[1])
    assert dy == 2  # whatever eps is
    assert share == pytest.approx(10 / 19, abs=1e-3)
    assert factor == pytest.approx(6 / 19**0.5, abs=1e-3)
    assert dx == pytest.approx(share * factor * dy, abs=0.01)
    assert "✓" in task.inner_text()


def test_equal_values_have_no_part_along_x_hat(touch):
    tab, figure, _ = touch("backward_pass")
    for i in range(1, 5):
        figure.get_by_role("slider", name=f"x of example {i}").focus()
        tab.keyboard.press("End")
    said(tab, "BN is not defined")
    figure.get_by_role("button", name="dy = y").click()
    assert "dy is y" not in said(tab, "So there is no y.")
    eps = figure.get_by_role("slider", name="ε")
    eps.focus()
    tab.keyboard.press("End")
    said(tab, "dy has no part along x̂")
    assert "✓" not in figure.locator(".explorable-task").inner_text()


def test_a_point_that_was_not_moved_says_nothing(touch):
    tab, figure, _ = touch("backward_pass")
    figure.get_by_role("slider", name="dy of example 1").focus()
    tab.keyboard.press("ArrowUp")
    said(tab, "You set dy of example 1")
    figure.get_by_role("button", name="the chapter’s example").click()
    now = said(tab, "This is the example of the chapter.")
    figure.get_by_role("slider", name="x of example 3").click()
    tab.wait_for_timeout(1000)
    assert tab.locator(".explorable-sentence").inner_text() == now


def test_the_mouse_and_the_browser_keep_their_gestures(touch):
    tab, figure, _ = touch("backward_pass")
    point = figure.get_by_role("slider", name="x of example 1")
    point.scroll_into_view_if_needed()
    box = point.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    tab.mouse.move(x, y)
    tab.mouse.down(button="right")
    tab.mouse.move(x, y + 20)
    tab.mouse.up(button="right")
    point.focus()
    for keys in ("Control+ArrowUp", "Alt+ArrowUp"):
        tab.keyboard.press(keys)
    assert point.get_attribute("aria-valuenow") == "0"


def test_a_value_outside_its_range_has_a_range_that_holds_it(touch):
    tab, figure, _ = touch("backward_pass")
    figure.get_by_role("radio", name="6", exact=True).check()
    for i in range(1, 7):
        figure.get_by_role("slider", name=f"x of example {i}").focus()
        tab.keyboard.press("Home" if i < 6 else "End")
    figure.get_by_role("button", name="dy = y").click()
    last = figure.get_by_role("slider", name="dy of example 6")
    value = float(last.get_attribute("aria-valuenow"))
    assert value > 12
    assert float(last.get_attribute("aria-valuemax")) == value
    last.focus()
    tab.keyboard.press("ArrowUp")
    assert float(last.get_attribute("aria-valuenow")) == value


def test_arrows_of_a_dragged_gradient_stay_in_their_chart(touch):
    tab, figure, _ = touch("backward_pass")
    point = figure.get_by_role("slider", name="dy of example 2")
    box = point.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    tab.mouse.move(x, y)
    tab.mouse.down()
    tab.mouse.move(x, y - 150)
    arrows = "[...document.querySelectorAll('line[marker-end]')]"
    ends = f"() => {arrows}.map(line => +line.getAttribute('y2'))"
    assert point.get_attribute("aria-valuenow") == "8.5"  # of an axis that ends at 4
    assert min(tab.evaluate(ends)) > 165  # the words above it end at 154
    assert max(tab.evaluate(ends)) < 345
    tab.mouse.up()
    said(tab, "You set dy of example 2 to 8.5")


def test_held_keys_are_announced_once_and_a_resize_says_nothing(touch):
    tab, figure, _ = touch("backward_pass")
    said(tab, "dx =")
    eps = figure.get_by_role("slider", name="ε")
    eps.focus()
    tab.keyboard.press("End")
    said(tab, "ε is 100")
    tab.wait_for_timeout(1000)
    tab.evaluate("""() => {
      window.written = [];
      for (const live of document.querySelectorAll('.explorable-live :is(output, [role=status])'))
        new MutationObserver(() => written.push(live.textContent)).observe(live, {childList: true});
    }""")
    point = figure.get_by_role("slider", name="dy of example 1")
    point.focus()
    for _ in range(8):
        tab.keyboard.press("ArrowUp")
        tab.wait_for_timeout(200)
    said(tab, "You set dy of example 1 to 5")
    assert len(tab.evaluate("written")) <= 2, tab.evaluate("written")
    width = "document.querySelector('.explorable-live svg').dataset.width"
    before = tab.evaluate(width)
    tab.set_viewport_size({"width": 700, "height": 800})
    tab.wait_for_function(f"{width} !== '{before}'")
    tab.wait_for_timeout(1000)
    assert len(tab.evaluate("written")) <= 2
    focused = tab.evaluate("document.activeElement.getAttribute('aria-label')")
    assert focused == "dy of example 1"


def test_start_again_is_the_start(touch):
    tab, figure, _ = touch("inference")
    size = figure.get_by_role("slider", name="size of the mini-batch")
    for key in ("End", "Home"):
        size.focus()
        tab.keyboard.press(key)
        figure.get_by_role("radio", name="eval").check()
        figure.get_by_role("button", name="Start again").click()
        sentence = said(tab, "The running statistics are 0 and 1")
        assert "Among the companions (1, 2, 6), x = 3 becomes y = 0." in sentence
        assert size.get_attribute("aria-valuetext") == "4"
        assert figure.get_by_role("radio", name="train").is_checked()
        assert "1 mini-batch in" in figure.locator("svg[role=group]").inner_html()
        tab.wait_for_timeout(800)
        figure.get_by_role("button", name="Redraw the companions").click()
        said(tab, "Of 2 predictions")


def test_two_examples_have_two_bars(touch):
    tab, figure, _ = touch("inference")
    figure.get_by_role("slider", name="size of the mini-batch").focus()
    tab.keyboard.press("Home")
    figure.get_by_role("button", name="50 times").click()
    said(tab, "Of 51 predictions")
    assert figure.locator("rect.batch").count() == 3  # and x


def test_the_momentum_of_the_task_is_one_that_a_mini_batch_has_seen(touch):
    tab, figure, _ = touch("inference")
    size = figure.get_by_role("slider", name="size of the mini-batch")
    size.focus()
    tab.keyboard.press("End")
    figure.get_by_role("button", name="50 times").click()
    figure.get_by_role("radio", name="eval").check()
    said(tab, "You switched to eval mode")
    solved = figure.locator(".explorable-task").inner_text()
    assert "the last momentum being 0.1." in solved
    figure.get_by_role("slider", name="momentum").focus()
    tab.keyboard.press("End")
    said(tab, "The momentum is 0.99 from the next mini-batch on.")
    assert figure.locator(".explorable-task").inner_text() == solved


def test_equal_values_have_no_x_hat_that_could_move(touch):
    tab, figure, _ = touch("forward_pass")
    figure.get_by_role("button", name="Start again").click()
    for i in (1, 2, 3):
        figure.get_by_role("slider", name=f"x {i}").focus()
        tab.keyboard.press("Home")
    said(tab, "BN is not defined")
    figure.get_by_role("button", name="add 2").click()
    assert "moved" not in said(tab, "You added 2 to all values.")


def test_values_are_halved_as_long_as_decimals_show_them(touch):
    tab, figure, _ = touch("forward_pass")
    figure.get_by_role("button", name="Start again").click()
    for _ in range(8):
        figure.get_by_role("button", name="half").click()
    said(tab, "too close together")
    figure.get_by_role("button", name="times −1").click()
    assert "the variance 0.01." in said(tab, "You changed all signs")


def test_the_bands_wait_for_the_prediction_and_have_names(touch):
    _, figure, _ = touch("learning_rate_and_convergence", answer=None)
    assert figure.locator("polygon, polyline").count() == 0
    figure.locator(".explorable-prediction button").first.click()
    assert figure.locator("polygon").count() == 2
    assert figure.locator("svg text.batch").text_content() == "BN"
    assert figure.locator("svg text.none").text_content() == "none"


def test_a_network_that_diverged_counts_as_nothing(touch):
    tab, figure, _ = touch("learning_rate_and_convergence")
    said(tab, "After 200", 120_000)
    figure.get_by_role("slider", name="learning rate").focus()
    tab.keyboard.press("End")
    said(tab, "Training…")  # and no more the last result
    assert "without BN has diverged" in said(tab, "The learning rate is 3.2", 120_000)


@pytest.mark.parametrize(
    "lost", ["bands.json", "training.mjs", "digits.bin", "training_worker.mjs", "depth_worker.mjs"]
)
def test_what_cannot_be_loaded_is_said_or_leaves_the_static_figure(browser, address, lost):  # noqa: F811
    tab = browser.new_page()
    asked = []
    tab.route(f"**/{lost}", lambda route: asked.append(route.abort()))
    depth = lost.startswith("depth")
    page = "depth_and_signal_propagation" if depth else "learning_rate_and_convergence"
    tab.goto(f"{address}/book/{page}.html")
    figure = tab.locator("[data-explorable]")
    if lost in ("digits.bin", "training_worker.mjs"):
        tab.wait_for_function(TO_FIGURE, polling=200)
        figure.locator(".explorable-prediction button").first.click()
        said(tab, "Nothing is trained")
        tab.unroute(f"**/{lost}")
        figure.get_by_role("button", name="Train again").click()
        said(tab, "After 200", 120_000)
    else:
        for _ in range(25):
            tab.evaluate(TO_FIGURE)
            tab.wait_for_timeout(100)
        assert asked
        assert figure.locator(".explorable-static svg").is_visible()
        assert figure.locator(".explorable-live").count() == 0
    tab.close()


def test_a_scroll_that_begins_on_a_slider_leaves_its_value(finger):
    open_explorable, drag = finger
    tab = open_explorable("forward_pass")
    said(tab, "ε is 6")
    eps = tab.get_by_role("slider", name="ε")
    eps.evaluate("e => scrollBy({top: e.getBoundingClientRect().top - 450, behavior: 'instant'})")
    top = tab.evaluate("scrollY")
    drag(tab, eps, -200)
    tab.wait_for_timeout(500)
    assert tab.evaluate("scrollY") > top + 50
    assert eps.get_attribute("aria-valuetext") == "6"


def test_a_finger_has_cells_to_choose_from(finger):
    open_explorable, _ = finger
    tab = open_explorable("alternatives", answer=1)
    assert "(n, c, h, w) = (3, 6, 2, 2)" in tab.locator(".explorable-prediction").inner_text()
    assert "Right. " in tab.locator(".explorable-prediction").inner_text()
    said(tab, "12 values share its mean")
    box = tab.get_by_role("gridcell").first.bounding_box()
    assert min(box["width"], box["height"]) >= 20
    assert tab.locator(".explorable-numbers").text_content()


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
