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
  const text = (Math.abs(v) < 1e-9 ? 0 : v).toFixed(digits).replace(/\.?0+$/, "");
  return (text === "-0" || text === "" ? "0" : text).replace("-", "\u2212");
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

// Asks for a prediction; whatever is chosen, `answered` is called and the answer is explained.
export function prediction(question, options, right, answer, answered) {
  const row = controls();
  const text = html("p", { role: "status" });
  const buttons = options.map((option) =>
    button(option, () => {
      buttons.forEach((b) => b.setAttribute("aria-pressed", b.textContent === option));
      text.textContent = `${option === right ? "Right" : `No: ${right}`}. ${answer}`;
      answered();
    }),
  );
  row.append(...buttons);
  const asked = html("p", {}, html("strong", {}, "Predict: "), question);
  return html("div", { class: "explorable-prediction" }, asked, row, text);
}

// The sentence that says what the reader has just done. Assistive technology reads it when the
// values have come to rest.
export function sentence() {
  const output = html("output", { class: "explorable-sentence", "aria-live": "polite" });
  let timer;
  const say = (text) => {
    clearTimeout(timer);
    timer = setTimeout(() => (output.textContent = text), 200);
  };
  return { output, say };
}

// A task that the page notices when it is done.
export function task(text) {
  const done = html("span", { role: "status" });
  const row = html("p", { class: "explorable-task" }, html("strong", {}, "Task: "), `${text} `, done);
  return { row, solve: (praise) => (done.textContent = `\u2713 ${praise}`) };
}

// A drawing as wide as its place, in pixels, so that text keeps its size on a telephone. `draw` is
// called with the width, now and whenever it changes.
export function drawing(label, height, draw) {
  const element = svg("svg", { role: "group", "aria-label": label, height });
  new ResizeObserver(([{ contentRect }]) => {
    const width = Math.max(280, Math.round(contentRect.width));
    if (+element.dataset.width === width) return;
    element.dataset.width = width;
    element.setAttribute("viewBox", `0 0 ${width} ${height}`);
    draw(width);
  }).observe(element);
  return element;
}

// A point that is dragged up and down, or moved with the arrow keys: a slider.
// `place` is where a value is drawn, `value` the value of a place.
export function handle({ label, range: [min, max], step, place, value, change, rest = () => {} }) {
  const point = svg("circle", {
    r: 8,
    class: "explorable-handle",
    tabindex: 0,
    role: "slider",
    "aria-label": label,
    "aria-orientation": "vertical",
    "aria-valuemin": min,
    "aria-valuemax": max,
  });
  let now = 0;
  const move = (v) => change(Math.min(max, Math.max(min, Math.round(v / step) * step)));
  point.addEventListener("pointerdown", (event) => {
    point.setPointerCapture(event.pointerId);
    point.focus();
  });
  point.addEventListener("pointermove", (event) => {
    if (!point.hasPointerCapture(event.pointerId)) return;
    move(value(event.clientY - point.ownerSVGElement.getBoundingClientRect().top));
  });
  for (const type of ["pointerup", "pointercancel"]) point.addEventListener(type, () => rest());
  point.addEventListener("keydown", (event) => {
    const steps = { ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1, PageUp: 4, PageDown: -4 };
    const ends = { Home: min, End: max };
    if (event.key in steps) move(now + steps[event.key] * step);
    else if (event.key in ends) move(ends[event.key]);
    else return;
    event.preventDefault();
    rest();
  });
  const set = (v) => {
    now = v;
    point.setAttribute("cy", place(v));
    point.setAttribute("aria-valuenow", v);
    point.setAttribute("aria-valuetext", number(v));
  };
  return { point, set };
}
