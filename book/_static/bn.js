// What scrolls sideways is within reach of the keyboard, and only that. A box is measured when it
// comes near the window: to measure all at once would lay out the whole page before it can be used.
const BOXES = `.katex-display, div.math > math, pre, .cell_output > .output, figure > .output,
  .pst-scrollable-table-container`;
const nearby = new IntersectionObserver(
  (entries) => {
    for (const { target, isIntersecting } of entries) {
      if (!isIntersecting) continue;
      if (target.scrollWidth > target.clientWidth + 1) target.setAttribute("tabindex", "0");
      else target.removeAttribute("tabindex");
    }
  },
  { rootMargin: "300px" },
);
function markScrollable() {
  nearby.disconnect();
  for (const box of document.querySelectorAll(BOXES)) nearby.observe(box);
}
window.addEventListener("load", markScrollable);
window.addEventListener("resize", markScrollable);

// Paper is white: print in light colours whatever the screen shows.
let theme;
window.addEventListener("beforeprint", () => {
  theme = document.documentElement.dataset.theme;
  document.documentElement.dataset.theme = "light";
});
window.addEventListener("afterprint", () => {
  document.documentElement.dataset.theme = theme;
});

// A link to something in a fold opens the fold.
function openTarget() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  for (let box = target; box; box = box.parentElement) {
    if (box.tagName === "DETAILS") box.open = true;
    if (box.classList.contains("toggle-hidden"))
      box.querySelector(":scope > .admonition-title .toggle-button")?.click();
  }
  target?.scrollIntoView();
}
window.addEventListener("load", () => location.hash && openTarget());
window.addEventListener("hashchange", openTarget);
