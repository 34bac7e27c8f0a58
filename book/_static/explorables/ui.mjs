// What the explorables are made of: elements, controls that keys and screen readers can use, the
// question before the answer, the sentence that says what changed, and a drawing in pixels.

export function html(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

// A number as the book prints it: a real minus sign, no digits of rounding errors.
export function number(v, digits = 2) {
  const text = (Math.abs(v) < 1e-9 ? 0 : v).toFixed(digits).replace(/(\.\d*?)0+$/, "$1").replace(/\.$/, "");
  return (text === "-0" ? "0" : text).replace("-", "\u2212");
}

export const vector = (a) => `(${a.map((v) => number(v)).join(", ")})`;

let ids = 0;

// A slider over a list of values, with what it is set to beside it.
export function slider(label, values, value, format, change) {
  const id = `explorable-${++ids}`;
  const shown = html("span", { class: "explorable-value", "aria-hidden": "true" });
  const input = html("input", { id, type: "range", min: 0, max: values.length - 1, step: 1 });
  const set = (v) => {
    input.value = values.indexOf(v);
    show();
  };
  const show = () => {
    shown.textContent = format(values[input.value]);
    input.setAttribute("aria-valuetext", shown.textContent);
  };
  input.addEventListener("input", () => {
    show();
    change(values[input.value]);
  });
  // A finger that scrolls the page first moves the slider that it comes down on.
  let held = 0;
  input.addEventListener("pointerdown", () => (held = input.value));
  input.addEventListener("pointercancel", () => {
    if (input.value === held) return;
    input.value = held;
    input.dispatchEvent(new Event("input"));
  });
  set(value);
  const row = html("div", { class: "explorable-slider" }, html("label", { for: id }, label), input);
  row.append(shown);
  return { row, set };
}

// One of a few values, as radio buttons.
export function choice(legend, options, value, change) {
  const name = `explorable-${++ids}`;
  const inputs = options.map(([v, text]) => {
    const input = html("input", { type: "radio", name, value: v, onchange: () => change(v) });
    input.checked = v === value;
    return [v, input, html("label", {}, input, ` ${text}`)];
  });
  const labels = inputs.map(([, , label]) => label);
  const row = html("fieldset", { class: "explorable-choice" }, html("legend", {}, legend), ...labels);
  return { row, set: (v) => inputs.forEach(([own, input]) => (input.checked = own === v)) };
}

export function button(text, click) {
  return html("button", { type: "button", onclick: click }, text);
}

// A row of controls.
export function controls(...children) {
  return html("div", { class: "explorable-controls" }, ...children);
}

// Asks for a prediction; whatever is chosen, the answer is explained, and `answered` is called once.
export function prediction(question, options, right, answer, answered) {
  const row = controls();
  const text = html("p", { role: "status" });
  let asked = true;
  const buttons = options.map((option) =>
    button(option, () => {
      buttons.forEach((b) => b.setAttribute("aria-pressed", b.textContent === option));
      text.textContent = `${option === right ? "Right" : `No: ${right}`}. ${answer}`;
      if (asked) answered();
      asked = false;
    }),
  );
  row.append(...buttons);
  const words = html("p", {}, html("strong", {}, "Predict: "), question);
  return html("div", { class: "explorable-prediction" }, words, row, text);
}

// The sentence that says what the reader has just done. While changes follow each other it waits, so
// that assistive technology reads it once.
export function sentence() {
  const output = html("output", { class: "explorable-sentence", "aria-live": "polite" });
  let timer;
  let last = -Infinity;
  const say = (text, wait = performance.now() - last < REST ? REST : 100) => {
    last = performance.now();
    clearTimeout(timer);
    timer = setTimeout(() => write(output, text), wait);
  };
  return { output, say };
}

const REST = 700; // milliseconds without a change

// A live region is read again when it is written, even with the same text.
function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// A task that the page notices when it is done.
export function task(text) {
  const done = html("span", { role: "status" });
  const row = html("p", { class: "explorable-task" }, html("strong", {}, "Task: "), `${text} `, done);
  return { row, solve: (praise) => write(done, `\u2713 ${praise}`) };
}

// A drawing as wide as its place, in pixels, so that text keeps its size on a telephone. `draw` is
// called with the width, now and whenever it changes; the focus stays where it is.
export function drawing(label, height, draw) {
  const element = svg("svg", { role: "group", "aria-label": label, height });
  new ResizeObserver(([{ contentRect }]) => {
    const width = Math.max(280, Math.round(contentRect.width));
    if (+element.dataset.width === width) return;
    element.dataset.width = width;
    element.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const stops = () => [...element.querySelectorAll("[tabindex]")];
    const focused = stops().indexOf(document.activeElement);
    draw(width);
    stops()[focused]?.focus({ preventScroll: true });
  }).observe(element);
  return element;
}

// Keys of the browser, as Alt and an arrow, which goes back.
export const forBrowser = (event) => event.altKey || event.ctrlKey || event.metaKey;

// A point that is dragged up and down, or moved with the arrow keys: a slider.
// `place` is where a value is drawn, `value` the value of a place. `rest` is called after a move. A
// value that is set from outside may leave the range.
export function handle({ label, range: [min, max], step, place, value, change, rest = () => {} }) {
  const point = svg("circle", {
    r: 8,
    class: "explorable-handle",
    tabindex: 0,
    role: "slider",
    "aria-label": label,
    "aria-orientation": "vertical",
  });
  let [now, low, high, moved] = [0, min, max, false];
  const move = (v) => {
    const next = Math.min(high, Math.max(low, Math.round(v / step) * step));
    if (next === now) return;
    moved = true;
    change(next);
  };
  const end = () => {
    if (moved) rest();
    moved = false;
  };
  point.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    point.setPointerCapture(event.pointerId);
    point.focus();
  });
  point.addEventListener("pointermove", (event) => {
    if (!point.hasPointerCapture(event.pointerId)) return;
    move(value(event.clientY - point.ownerSVGElement.getBoundingClientRect().top));
  });
  for (const type of ["pointerup", "pointercancel"]) point.addEventListener(type, end);
  point.addEventListener("keydown", (event) => {
    if (forBrowser(event)) return;
    const steps = { ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1, PageUp: 4, PageDown: -4 };
    const ends = { Home: low, End: high };
    if (event.key in steps) move(now + steps[event.key] * step);
    else if (event.key in ends) move(ends[event.key]);
    else return;
    event.preventDefault();
    end();
  });
  const set = (v) => {
    [now, low, high] = [v, Math.min(min, v), Math.max(max, v)];
    point.setAttribute("aria-valuemin", low);
    point.setAttribute("aria-valuemax", high);
    point.setAttribute("cy", place(v));
    point.setAttribute("aria-valuenow", v);
    point.setAttribute("aria-valuetext", number(v));
  };
  return { point, set };
}
