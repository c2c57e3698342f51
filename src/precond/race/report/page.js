"use strict";
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const root = document.documentElement;
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const drawn = new Map(); // element -> function that draws it again
  const variable = (name) => getComputedStyle(root).getPropertyValue(name).trim();
  const config = {
    responsive: true, displaylogo: false, scrollZoom: false,
    modeBarButtonsToRemove: ["lasso2d", "select2d", "autoScale2d"],
  };

  /* The figure in the colours of the page, which follow the reader's preference. */
  function themed(figure) {
    const ink = variable("--ink-2"), grid = variable("--grid"), line = variable("--line");
    const data = figure.data.map((trace) => {
      const index = trace.meta && trace.meta.colour;
      const colour = index === null || index === undefined ? variable("--ink-3") : variable(`--c${index}`);
      const copy = { ...trace };
      if (trace.line && trace.line.width > 0) copy.line = { ...trace.line, color: colour };
      if (trace.marker) copy.marker = { ...trace.marker, color: colour };
      if (trace.fillcolor) copy.fillcolor = colour + "24";
      return copy;
    });
    const layout = { ...figure.layout, font: { color: ink, size: 12.5, family: getComputedStyle(document.body).fontFamily } };
    layout.hoverlabel = { ...layout.hoverlabel, bgcolor: variable("--card"), bordercolor: line, font: { color: variable("--ink") } };
    layout.modebar = { bgcolor: "rgba(0,0,0,0)", color: variable("--ink-3"), activecolor: ink };
    for (const key of Object.keys(layout)) {
      if (/^[xy]axis/.test(key)) layout[key] = { ...layout[key], gridcolor: grid, linecolor: line, zerolinecolor: grid };
    }
    if (layout.shapes) {
      layout.shapes = layout.shapes.map((shape) => ({
        ...shape, line: { ...shape.line, color: ink }, label: { ...shape.label, font: { color: ink, size: 12 } },
      }));
    }
    return { data, layout };
  }

  function draw(element, make) {
    const again = () => {
      const { data, layout } = themed(make());
      return Plotly.react(element, data, layout, config);
    };
    drawn.set(element, again);
    return again();
  }
  dark.addEventListener("change", () => drawn.forEach((again) => again()));

  const press = (button, on) => button.setAttribute("aria-pressed", String(on));
  const pressed = (button) => button.getAttribute("aria-pressed") === "true";

  /* The curves of one problem, with their controls. */
  function curves(panel) {
    const entry = figures[panel.dataset.figure];
    const chart = panel.querySelector(".chart");
    const axes = [...panel.querySelectorAll("[data-axis]")];
    const legend = [...panel.querySelectorAll("[data-contestant]")];
    const toggles = Object.fromEntries([...panel.querySelectorAll("[data-toggle]")].map((b) => [b.dataset.toggle, b]));
    const on = (name) => pressed(toggles[name]);
    let axis = axes.find(pressed).dataset.axis;

    const make = () => {
      const figure = entry[axis];
      const shown = new Set(legend.filter(pressed).map((b) => b.dataset.contestant));
      const data = figure.data.map((trace) => {
        const { contestant, role } = trace.meta;
        const wanted = role === "mean" || (role === "band" && on("band"))
          || ((role === "seed" || role === "failed") && on("seeds"));
        return { ...trace, visible: wanted && shown.has(contestant) };
      });
      const layout = structuredClone(figure.layout);
      layout.xaxis.type = on("logx") ? "log" : "linear";
      layout.yaxis.type = on("logy") ? "log" : "linear";
      layout.uirevision = `${axis} ${on("logx")} ${on("logy")}`; // keep the zoom while contestants come and go
      return { data, layout };
    };
    const again = () => drawn.get(chart)();
    axes.forEach((button) => button.addEventListener("click", () => {
      axis = button.dataset.axis;
      axes.forEach((other) => press(other, other === button));
      again();
    }));
    Object.values(toggles).forEach((button) => button.addEventListener("click", () => {
      press(button, !pressed(button));
      again();
    }));
    legend.forEach((button) => {
      button.addEventListener("click", () => { press(button, !pressed(button)); again(); });
      button.addEventListener("dblclick", () => { legend.forEach((other) => press(other, other === button)); again(); });
    });
    panel.querySelectorAll("[data-all]").forEach((button) => button.addEventListener("click", () => {
      legend.forEach((other) => press(other, button.dataset.all === "true"));
      again();
    }));
    draw(chart, make);
  }

  document.querySelectorAll("[data-curves]").forEach(curves);
  document.querySelectorAll("[data-plot]").forEach((element) => {
    const make = () => figures[element.dataset.plot];
    const details = element.closest("details");
    if (!details || details.open) draw(element, make);
    else details.addEventListener("toggle", () => { if (details.open && !drawn.has(element)) draw(element, make); });
  });

  /* Tables sort by a click on a header: numbers as numbers, what is missing always last. */
  document.querySelectorAll("table.sortable").forEach((table) => {
    const heads = [...table.tHead.rows[0].cells];
    const body = table.tBodies[0];
    heads.forEach((head, column) => head.querySelector("button")?.addEventListener("click", () => {
      const direction = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      heads.forEach((other) => { if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none"); });
      head.setAttribute("aria-sort", direction === 1 ? "ascending" : "descending");
      const key = (row) => row.cells[column].dataset.value ?? "";
      const numeric = head.dataset.kind === "number";
      const rows = [...body.rows].map((row) => [key(row), row]);
      rows.sort(([one], [other]) => {
        if (one === "" || other === "") return (one === "") - (other === "");
        return direction * (numeric ? Number(one) - Number(other) : one.localeCompare(other));
      });
      rows.forEach(([, row]) => body.append(row));
    }));
  });
})();
