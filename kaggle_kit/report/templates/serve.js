"use strict";
// Every text from an answer goes through textContent: names are text, whatever they hold.
const limits = JSON.parse(document.getElementById("data").textContent);
const at = (id) => document.getElementById(id);

function part(kind, text, name) {
  const element = document.createElement(kind);
  element.textContent = text;
  if (name) element.className = name;
  return element;
}

function card(file, said) {
  const figure = document.createElement("figure");
  const image = document.createElement("img");
  image.src = URL.createObjectURL(file);
  image.alt = "";
  image.addEventListener("load", () => URL.revokeObjectURL(image.src));
  const caption = part("figcaption", "");
  caption.append(part("strong", said.error ? "cannot be read" : said.labels.join(" + ") || "none"), part("small", file.name));
  if (said.error) caption.append(part("p", said.error, "fault"));
  for (const [name, share] of Object.entries(said.probabilities || {})) {
    const line = part("label", name);
    const bar = document.createElement("progress");
    bar.max = 1;
    bar.value = share;
    line.append(bar, share.toFixed(3));
    caption.append(line);
  }
  figure.append(image, caption);
  at("found").prepend(figure);
}

async function send(files) {
  at("fault").textContent = "";
  const images = Array.from(files).slice(0, limits.files);
  if (!images.length) return;
  const form = new FormData();
  images.forEach((file) => form.append("files", file));
  at("said").textContent = `Predicting ${images.length}…`;
  const started = performance.now();
  try {
    const answer = await fetch("predict", {method: "POST", body: form});
    const content = await answer.json();
    if (!answer.ok) throw new Error([content.detail].flat().map((one) => one.msg || one).join(" "));
    for (let number = images.length - 1; number >= 0; number--) card(images[number], content.predictions[number]);
    const left = files.length - images.length;
    at("said").textContent = `${images.length} in ${((performance.now() - started) / 1000).toFixed(2)} s` +
      (left > 0 ? `; ${left} more than are taken at once were left out` : "");
  } catch (error) {
    at("said").textContent = "";
    at("fault").textContent = String(error.message || error);
  }
}

at("files").addEventListener("change", (event) => send(event.target.files));
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => { event.preventDefault(); send(event.dataTransfer.files); });
