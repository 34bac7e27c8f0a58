// Loads the explorables of a page, each when it comes near the window.
//
// The page holds <figure data-explorable="name"> with a static figure. It is replaced when name.mjs
// has run; it stays on paper, without JavaScript, where data are to be saved, and after an error.

const saveData =
  navigator.connection?.saveData || matchMedia("(prefers-reduced-data: reduce)").matches;

async function load(figure) {
  const live = document.createElement("div");
  live.className = "explorable-live";
  const { start } = await import(`./${figure.dataset.explorable}.mjs`);
  await start(live); // may load data
  lock(live, true);
  live.addEventListener("click", ({ target }) => {
    if (target.closest(".explorable-prediction button")) lock(live, false);
  });
  for (const type of ["keydown", "click"])
    live.addEventListener(type, (event) => {
      if (event.target.closest("[aria-disabled=true]")) event.stopPropagation();
    }, true);
  figure.prepend(live);
  figure.setAttribute("aria-label", live.querySelector(".explorable-title").textContent);
  figure.dataset.ready = ""; // the style sheet hides the static figure
}

// Nothing can be moved before the prediction: what is explained then is about the first state.
function lock(live, locked) {
  const controls = live.querySelectorAll(":is(input, button):not(.explorable-prediction *)");
  for (const control of controls) control.disabled = locked;
  for (const picture of live.querySelectorAll("svg")) picture.setAttribute("aria-disabled", locked);
}

if (!saveData) {
  const near = new IntersectionObserver(
    (entries) => {
      for (const { isIntersecting, target } of entries) {
        if (!isIntersecting) continue;
        near.unobserve(target);
        load(target);
      }
    },
    { rootMargin: "800px" }, // so that it is there when the reader is
  );
  for (const figure of document.querySelectorAll("[data-explorable]")) near.observe(figure);
}
