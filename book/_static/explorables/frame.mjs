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
  figure.prepend(live);
  figure.dataset.ready = ""; // the style sheet hides the static figure
  start(live);
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
    { rootMargin: "400px" },
  );
  for (const figure of document.querySelectorAll("[data-explorable]")) near.observe(figure);
}
