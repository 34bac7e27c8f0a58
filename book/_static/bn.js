// Formulas that scroll sideways are within reach of the keyboard, and only those.
function markScrollable() {
  for (const box of document.querySelectorAll(".katex-display, div.math > math")) {
    if (box.scrollWidth > box.clientWidth + 1) box.setAttribute("tabindex", "0");
    else box.removeAttribute("tabindex");
  }
}
window.addEventListener("load", markScrollable);
window.addEventListener("resize", markScrollable);
