// What a link to an equation, a theorem, a term or a source leads to, shown beside the link while
// the mouse or the keyboard is on it. Another page is fetched once; from a file, where nothing can
// be fetched, there are previews of the same page and of sources only.
const LINKS = ["#equation-", "#thm-", "#term-", "bibliography.html#"]
  .map((place) => `article a.reference[href*='${place}']`)
  .join();
const DELAY = 250; // ms: a mouse that passes over a link asks for nothing

const pages = new Map();
const box = document.createElement("div");
box.id = "preview";
box.className = "preview";
box.setAttribute("role", "tooltip");
let shown, timer;

function pageOf(link) {
  const address = link.href.split("#")[0];
  if (address === location.href.split("#")[0]) return document;
  if (!pages.has(address)) {
    const text = fetch(address).then((answer) => (answer.ok ? answer.text() : ""));
    pages.set(address, text.then((html) => new DOMParser().parseFromString(html, "text/html")));
  }
  return pages.get(address);
}

async function contentOf(link) {
  if (link.dataset.source) return [document.createTextNode(link.dataset.source)];
  const target = (await pageOf(link)).getElementById(decodeURIComponent(link.hash.slice(1)));
  if (!target) return [];
  const isTerm = target.matches("dt");
  const meant = isTerm ? target.parentElement.querySelector(`#${target.id} ~ dd`) : target;
  const copy = document.importNode(meant, true);
  for (const mark of copy.querySelectorAll(".headerlink, .toggle-button, .eqno")) mark.remove();
  for (const link of copy.querySelectorAll("a")) link.replaceWith(...link.childNodes);
  for (const part of [copy, ...copy.querySelectorAll("*")]) {
    part.removeAttribute("id");
    part.removeAttribute("tabindex");
  }
  return isTerm ? [...copy.childNodes] : [copy];
}

async function show(link) {
  hide();
  shown = link;
  const content = await contentOf(link).catch(() => []);
  if (shown !== link || !content.length) return; // the reader has gone on
  box.replaceChildren(...content);
  link.closest("article").append(box);
  link.setAttribute("aria-describedby", box.id);
  const at = link.getClientRects()[0];
  const left = Math.min(at.left, document.documentElement.clientWidth - box.offsetWidth - 8);
  const above = at.bottom + box.offsetHeight + 8 > innerHeight && at.top > box.offsetHeight + 8;
  const top = above ? at.top - box.offsetHeight - 4 : at.bottom + 4;
  const frame = (box.offsetParent ?? document.body).getBoundingClientRect();
  box.style.left = `${Math.max(left, 8) - frame.left}px`;
  box.style.top = `${top - frame.top}px`;
}

function hide() {
  clearTimeout(timer);
  shown?.removeAttribute("aria-describedby");
  shown = undefined;
  box.remove();
}

function later(action, ...what) {
  clearTimeout(timer);
  timer = setTimeout(action, DELAY, ...what);
}

function watch() {
  for (const link of document.querySelectorAll(LINKS)) {
    if (link.title) {
      link.dataset.source = link.title; // in the place of the browser's own, which no key opens
      link.removeAttribute("title");
    }
    link.addEventListener("pointerenter", (e) => e.pointerType === "mouse" && later(show, link));
    link.addEventListener("pointerleave", () => later(hide));
    link.addEventListener("focus", () => link.matches(":focus-visible") && show(link));
    link.addEventListener("blur", hide);
    link.addEventListener("click", hide);
  }
  box.addEventListener("pointerenter", () => clearTimeout(timer)); // to read it, or to copy from it
  box.addEventListener("pointerleave", () => later(hide));
  document.addEventListener("keydown", (e) => e.key === "Escape" && hide());
}
document.addEventListener("DOMContentLoaded", watch);
