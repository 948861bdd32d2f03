"use strict";
// Cells of the confusion matrix open their images. Names come from data: they are only ever put in as text.
(() => {
  const { classes, counts, cells } = JSON.parse(document.getElementById("confusion-data").textContent);
  const element = (id) => document.getElementById(id);
  const dialog = element("cell");

  function line(kind, text) {
    const span = document.createElement("span");
    span.className = kind;
    span.textContent = text;
    return span;
  }

  function picture([id, src, width, height, sure], right) {
    const item = document.createElement("li");
    item.className = `picture ${right ? "right" : "wrong"}`;
    if (src) {
      const image = document.createElement("img");
      Object.assign(image, { src, width, height, alt: `image ${id}` });
      item.append(image);
    } else {
      item.append(line("missing", "no image"));
    }
    item.append(line("predicted", sure.toFixed(2)), line("id", id));
    return item;
  }

  function sentence(truth, taken, count) {
    const what = truth === taken ? `${classes[truth]}, found rightly` : `${classes[truth]} taken for ${classes[taken]}`;
    return `${what}: ${count} ${count === 1 ? "image" : "images"}`;
  }

  function open(key) {
    const [truth, taken] = key.split("-").map(Number);
    const rows = cells[key] ?? [];
    const count = counts[key] ?? 0;
    element("cell-heading").textContent = sentence(truth, taken, count);
    element("cell-note").textContent = rows.length < count ? `${rows.length} of them are shown.` : "";
    element("cell-images").replaceChildren(...rows.map((row) => picture(row, truth === taken)));
    dialog.showModal();
  }

  for (const button of document.querySelectorAll("button[data-cell]")) {
    button.addEventListener("click", () => open(button.dataset.cell));
  }
  element("cell-close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });

  const heat = element("heat");
  if (heat) {
    const at = (event) => {
      const box = heat.getBoundingClientRect();
      const place = (value, size) => Math.min(classes.length - 1, Math.max(0, Math.floor((value / size) * classes.length)));
      return `${place(event.clientY - box.top, box.height)}-${place(event.clientX - box.left, box.width)}`;
    };
    heat.addEventListener("mousemove", (event) => {
      const key = at(event);
      const [truth, taken] = key.split("-").map(Number);
      element("heat-status").textContent = sentence(truth, taken, counts[key] ?? 0);
    });
    heat.addEventListener("click", (event) => {
      const key = at(event);
      if (counts[key]) open(key);
    });
  }
})();
