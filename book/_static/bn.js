// Formulas that scroll sideways are within reach of the keyboard, and only those.
function markScrollable() {
  for (const box of document.querySelectorAll(".katex-display, div.math > math")) {
    if (box.scrollWidth > box.clientWidth + 1) box.setAttribute("tabindex", "0");
    else box.removeAttribute("tabindex");
  }
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
