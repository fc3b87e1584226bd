"use strict";
(() => {
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const plots = Array.from(document.querySelectorAll(".plot"));

  // Figures come without text and paper colours; these follow the page, so that one file suits both schemes and print.
  const colours = (isDark) => {
    const ink = isDark ? "#c3cad6" : "#48515e";
    const label = isDark ? "#1a2029" : "#ffffff";
    return { "font.color": ink, "legend.font.color": ink, "hoverlabel.bgcolor": label, "hoverlabel.font.color": ink };
  };
  const paint = (isDark) => plots.filter((p) => p._fullLayout).map((p) => Plotly.relayout(p, colours(isDark)));

  for (const plot of plots) {
    const { data, layout } = JSON.parse(plot.nextElementSibling.textContent);
    for (const [path, colour] of Object.entries(colours(dark.matches))) {
      path.split(".").reduce((at, key, i, keys) =>
        i === keys.length - 1 ? (at[key] = colour) : (at[key] ??= {}), layout);
    }
    Plotly.newPlot(plot, data, layout, { responsive: true, displaylogo: false,
      modeBarButtons: [["zoom2d", "pan2d", "resetScale2d", "toImage"]] });
  }

  dark.addEventListener("change", (event) => paint(event.matches));
  const folded = Array.from(document.querySelectorAll("details:not([open])"));
  window.addEventListener("beforeprint", () => { paint(false); folded.forEach((d) => { d.open = true; }); });
  window.addEventListener("afterprint", () => { paint(dark.matches); folded.forEach((d) => { d.open = false; }); });

  for (const button of document.querySelectorAll(".copy")) {
    const code = button.parentElement.querySelector("code");
    button.hidden = false;
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(code.textContent);
        button.textContent = "Copied";
      } catch {  // no clipboard for files in some browsers: select it, so that the usual key copies it
        window.getSelection().selectAllChildren(code);
        button.textContent = "Selected";
      }
      setTimeout(() => { button.textContent = "Copy"; }, 1600);
    });
  }
})();
