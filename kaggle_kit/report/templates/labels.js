"use strict";
// Every text from the data goes through textContent: names are text, whatever they hold.
const data = JSON.parse(document.getElementById("data").textContent);
const at = (id) => document.getElementById(id);
const past = [];
let place = Math.max(0, data.items.findIndex((item) => !item.said));
let chosen = new Set();
let busy = false;

function words(labels) {
  return labels.length ? labels.join(" + ") : "no label";
}

function show() {
  const item = data.items[place];
  if (!item) { at("place").textContent = "There is nothing to review."; return; }
  chosen = new Set(item.said && item.said.decision === "wrong" ? item.said.labels : item.labels);
  at("image").classList.add("loading"); // or the row before would be judged in its place
  at("image").src = "image/" + place;
  at("image").alt = "image " + item.id;
  at("caption").textContent = item.id;
  at("place").textContent = `${place + 1} of ${data.items.length}; quality ${item.quality.toFixed(3)}${item.issue ? ", likely wrong" : ""}`;
  at("labels").textContent = words(item.labels);
  at("other").value = "";
  drawChoices(item);
  drawSaid(item);
}

function part(kind, text) {
  const element = document.createElement(kind);
  element.textContent = text;
  return element;
}

function drawChoices(item) {
  const names = item.suggestions.slice();
  const listed = new Set(names.map((pair) => pair[0]));
  if (data.multilabel) for (const name of chosen) if (!listed.has(name)) names.push([name, null]);
  at("suggestions").replaceChildren(...names.map(([name, share], number) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(part("kbd", number + 1), name, ...(share === null ? [] : [part("small", share.toFixed(2))]));
    if (data.multilabel) button.setAttribute("aria-pressed", String(chosen.has(name)));
    else button.disabled = item.labels.includes(name);
    button.addEventListener("click", () => choose(name));
    return button;
  }));
}

function drawSaid(item) {
  const said = item.said;
  at("said").textContent = !said ? "Not reviewed yet." :
    "Decided: " + said.decision + (said.decision === "wrong" ? ", it is " + words(said.labels) : "") + ".";
  at("counts").textContent = Object.entries(data.counts).map(([name, count]) => `${count} ${name}`).join(", ");
}

function choose(name) {
  if (!data.multilabel) { decide("wrong", [name]); return; }
  if (chosen.has(name)) chosen.delete(name); else chosen.add(name);
  drawChoices(data.items[place]);
}

async function send(what, body, next) {
  if (busy || !data.items.length) return;
  busy = true;
  at("fault").textContent = "";
  try {
    const answer = await fetch(what, {
      method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(body),
    });
    if (!answer.ok) throw new Error(await answer.text());
    const state = await answer.json();
    data.items[state.number].said = state.said;
    data.counts = state.counts;
    next(state);
    show();
  } catch (error) {
    at("fault").textContent = "Not kept: " + error.message;
  } finally {
    busy = false;
  }
}

function decide(decision, labels) {
  send("decide", {number: place, decision, labels: labels || []}, (state) => {
    past.push(state.number);
    place = Math.min(place + 1, data.items.length - 1);
  });
}

function undo() {
  const number = past.length ? past.pop() : place;
  send("undo", {number}, () => { place = number; });
}

function go(step) {
  place = Math.max(0, Math.min(place + step, data.items.length - 1));
  show();
}

const actions = {
  r: () => decide("right"), u: () => decide("unsure"), d: () => decide("drop"), z: undo,
  c: () => at("other").focus(), ArrowLeft: () => go(-1), ArrowRight: () => go(1),
};
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target === at("other")) {
    const name = at("other").value;
    if (event.key === "Escape") at("other").blur();
    if (event.key === "Enter" && data.classes.includes(name)) { at("other").blur(); choose(name); event.preventDefault(); }
    else if (event.key === "Enter") at("fault").textContent = "There is no class of that name.";
    return;
  }
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const button = /^[1-9]$/.test(key) ? at("suggestions").children[Number(key) - 1] : null;
  if (button) { button.click(); event.preventDefault(); }
  else if (key === "Enter" && data.multilabel && event.target === document.body) decide("wrong", [...chosen]);
  else if (Object.hasOwn(actions, key)) { event.preventDefault(); actions[key](); }
});
for (const ended of ["load", "error"]) at("image").addEventListener(ended, () => at("image").classList.remove("loading"));
for (const name of ["right", "unsure", "drop"]) at(name).addEventListener("click", () => decide(name));
at("keep").addEventListener("click", () => decide("wrong", [...chosen]));
at("keep").hidden = !data.multilabel;
at("undo").addEventListener("click", undo);
at("back").addEventListener("click", () => go(-1));
at("on").addEventListener("click", () => go(1));
at("classes").replaceChildren(...data.classes.map((name) => { const one = document.createElement("option"); one.value = name; return one; }));
show();
