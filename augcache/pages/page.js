"use strict";
// Everything a store says is put in as text (textContent), never as markup.
const data = JSON.parse(document.getElementById("data").textContent);
const PAGE = 24;
const by = (id) => document.getElementById(id);
const state = { recipe: 0, page: 0, seed: 1 };

function make(tag, text, name) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (name) element.className = name;
  return element;
}

// ---- bytes --------------------------------------------------------------------------------------------------

const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));

async function unpacked(text) {
  const stream = new Blob([bytes(text)]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).arrayBuffer();
}

// ---- views --------------------------------------------------------------------------------------------------

function random(seed) {  // mulberry32: small, and the same on every machine
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

// As augcache.PaletteJitter: some colours trade places, then every channel of each is shifted.
function recoloured(palette, seed) {
  const swap = Number(by("swap").value), strength = Number(by("strength").value) * 255;
  const draw = random(seed), count = palette.length / 3, out = palette.slice();
  const order = [...Array(count).keys()].map((k) => [draw(), k]).sort((a, b) => a[0] - b[0]).map((pair) => pair[1]);
  const chosen = order.slice(0, Math.round(swap * count)), places = chosen.slice().sort((a, b) => a - b);
  places.forEach((place, n) => out.set(palette.subarray(3 * chosen[n], 3 * chosen[n] + 3), 3 * place));
  return out.map((value) => Math.min(255, Math.max(0, Math.round(value + (2 * draw() - 1) * strength))));
}

function canvas(card, colour) {  // colour(i): red, green, blue, alpha of pixel i
  const element = make("canvas"), context = element.getContext("2d");
  element.width = card.columns;
  element.height = card.rows;
  const image = context.createImageData(card.columns, card.rows);
  for (let i = 0; i < card.columns * card.rows; i++) image.data.set(colour(i), 4 * i);
  context.putImageData(image, 0, 0);
  return element;
}

const flat = (card, palette) => canvas(card, (i) => {
  const k = 3 * card.map[i];
  return [palette[k], palette[k + 1], palette[k + 2], 255];
});

async function prepare(card) {
  if (card.map || !card.labels) return;
  const raw = await unpacked(card.labels);
  if (card.cut) card.mask = new Uint8Array(await unpacked(card.cut));
  card.colours = bytes(card.palette);
  card.map = card.wide ? new Uint16Array(raw) : new Uint8Array(raw);
}

async function cutOut(card) {  // what is outside the cut is dimmed
  const element = flat(card, card.colours), context = element.getContext("2d");
  if (card.original) {
    const image = new Image();
    image.src = card.original;
    await image.decode();
    context.drawImage(image, 0, 0, card.columns, card.rows);
  }
  context.drawImage(canvas(card, (i) => [255, 255, 255, card.mask[i] ? 0 : 190]), 0, 0);
  return element;
}

function figure(image, caption) {
  const element = make("figure");
  image.setAttribute("role", "img");
  image.setAttribute("aria-label", caption || "image");
  element.append(image);
  if (caption) element.append(make("figcaption", caption));
  return element;
}

function image(uri) {
  const element = make("img");
  element.src = uri;
  return element;
}

async function saliencyTiles(card) {
  await prepare(card);
  const tiles = [figure(card.original ? image(card.original) : make("div", "original not at hand", "absent"), "original")];
  if (card.saliency) {
    const grey = bytes(card.saliency);
    tiles.push(figure(canvas(card, (i) => [grey[card.map[i]], grey[card.map[i]], grey[card.map[i]], 255]), "saliency"));
  }
  tiles.push(figure(flat(card, card.colours), "segments"));
  if (card.mask) tiles.push(figure(await cutOut(card), "cut"));
  for (const n of [0, 1]) {
    const seed = state.seed * 7919 + parseInt(card.key.slice(0, 6), 16) + n;
    tiles.push(figure(flat(card, recoloured(card.colours, seed)), "re-coloured"));
  }
  return tiles;
}

// ---- gallery ------------------------------------------------------------------------------------------------

async function drawn(card) {
  const element = make("article", undefined, card.reason ? "card bad" : "card");
  if (!card.reason) {
    const tiles = make("div", undefined, "tiles");
    if (card.labels) tiles.append(...(await saliencyTiles(card)));
    for (const [title, uri] of card.images || []) tiles.append(figure(image(uri), title));
    element.append(tiles);
  }
  element.append(make("p", card.name));
  if (card.reason) element.append(make("p", card.reason, "reason"));
  const facts = [card.label && `class ${card.label}`, card.frame, card.width && `${card.width} x ${card.height}`];
  facts.push(card.regions && `${card.regions} regions`);
  facts.push(card.area !== undefined && `cut ${Math.round(100 * card.area)} %`, card.status !== "ok" && card.status);
  const told = facts.filter(Boolean).join(" · ") || card.arrays;
  if (told && !card.reason) element.append(make("p", told, "note"));
  return element;
}

const number = (id, none) => (by(id).value === "" ? none : Number(by(id).value));
const inside = (value, low, high) => value === undefined || (value >= low && value <= high);

function wanted() {
  const status = by("status").value, name = by("name").value.toLowerCase();
  const cards = status === "failed" ? data.failures : status ? data.cards : [...data.cards, ...data.failures];
  const limits = [number("area-from", 0) / 100, number("area-to", 100) / 100];
  const counts = [number("regions-from", 0), number("regions-to", Infinity)];
  const narrowed = limits[0] > 0 || limits[1] < 1 || counts[0] > 0 || counts[1] < Infinity;
  return cards.filter((card) => card.recipe === state.recipe && (!status || card.status === status)
    && `${card.name} ${card.label || ""}`.toLowerCase().includes(name) && !(narrowed && card.status === "failed")
    && inside(card.area, ...limits) && inside(card.regions, ...counts));
}

let turn = 0;
async function show() {
  const mine = ++turn, cards = wanted(), recipe = data.recipes[state.recipe];
  const pages = Math.max(1, Math.ceil(cards.length / PAGE));
  state.page = Math.min(Math.max(0, state.page), pages - 1);
  const some = cards.slice(state.page * PAGE, (state.page + 1) * PAGE);
  const elements = await Promise.all(some.map(drawn));
  if (mine !== turn) return;  // a later call has the page by now
  by("gallery").className = recipe.shown && data.cards.some((c) => c.recipe === state.recipe && c.labels) ? "" : "plain";
  by("gallery").replaceChildren(...elements);
  const drawnOf = recipe.shown < recipe.total ? `; of ${recipe.total.toLocaleString("en")} records this page holds `
    + `${recipe.shown.toLocaleString("en")}, chosen as at random` : "";
  by("count").textContent = `${cards.length.toLocaleString("en")} shown${drawnOf}.`;
  by("place").textContent = `page ${state.page + 1} of ${pages}`;
  by("previous").disabled = state.page === 0;
  by("next").disabled = state.page === pages - 1;
  by("pager").hidden = false;  // before, its place is empty
}

// ---- distributions and provenance ---------------------------------------------------------------------------

function spread(one) {
  const element = make("div", undefined, "spread"), bars = make("div", undefined, "bars");
  const most = Math.max(...one.bars.map((bar) => bar[1]), 1);
  for (const [label, count, low, high] of one.bars) {
    const bar = make(one.field ? "button" : "div"), fill = make("i");
    fill.style.height = count ? `${Math.max(2, (100 * count) / most)}%` : "0";
    bar.title = `${label}: ${count.toLocaleString("en")}`;
    bar.setAttribute("aria-label", bar.title);
    if (one.field) bar.addEventListener("click", () => narrow(one.field, low, high));
    bar.append(fill);
    bars.append(bar);
  }
  const ends = make("div", undefined, "ends");
  ends.append(make("span", one.ends[0]), make("span", one.ends[1]));
  element.append(make("h3", one.title), make("p", one.note + (one.field ? " · click to filter" : ""), "note"));
  element.append(bars, ends);
  return element;
}

function narrow(field, low, high) {
  const [from, to] = field === "area" ? [Math.round(100 * low), Math.round(100 * high)] : [low, high - 1];
  by(`${field}-from`).value = from;
  by(`${field}-to`).value = to;
  state.page = 0;
  show();
  by("images").scrollIntoView();
}

function table(rows, heads) {
  const element = make("table"), around = make("div", undefined, "scroll");
  if (heads) element.append(make("tr"));
  for (const head of heads || []) element.firstChild.append(make("th", head));
  for (const row of rows) {
    const line = make("tr");
    row.forEach((cell, n) => line.append(make(n || heads ? "td" : "th", cell, n && !heads ? "long" : "")));
    element.append(line);
  }
  around.append(element);
  return around;
}

const listed = (values) => Object.entries(values).map(([name, value]) => `${name} ${value}`).join(", ");

function provenance(recipe) {
  const element = make("div", undefined, "recipe");
  element.append(make("h3", `${recipe.name}, version ${recipe.version}`));
  element.append(table([["digest", recipe.digest], ["parameters", listed(recipe.params) || "none"],
    ["first made", recipe.created], ["with", listed(recipe.versions)], ["status", listed(recipe.statuses)]]));
  if (recipe.runs.length) {
    const rows = recipe.runs.map((r) => [r.started, r.ended, r.took, r.times, r.computed, r.failed, r.workers, r.host]);
    element.append(table(rows, ["run", "", "took", "of that", "computed", "failed", "workers", "on"]));
  }
  return element;
}

// ---- start --------------------------------------------------------------------------------------------------

function choose(index) {
  state.recipe = index;
  state.page = 0;
  [...by("recipes").children].forEach((button, n) => button.setAttribute("aria-pressed", n === index));
  const recipe = data.recipes[index], failed = data.failures.some((each) => each.recipe === index);
  const statuses = Object.keys(recipe.statuses).concat(failed ? ["failed"] : []);
  by("status").replaceChildren(make("option", "all"), ...statuses.map((name) => make("option", name)));
  [...by("status").options].forEach((option, n) => { option.value = n ? statuses[n - 1] : ""; });
  by("distributions").replaceChildren(...recipe.distributions.map(spread));
  const fields = recipe.distributions.map((each) => each.field);
  by("area-range").hidden = !fields.includes("area");
  by("regions-range").hidden = by("jitter").hidden = !fields.includes("regions");
  by("filters").reset();  // no field of the form may be called reset
  show();
}

function start() {
  document.querySelector("h1").textContent = data.store;
  for (const [name, value] of data.totals) {
    const pair = make("div");
    pair.append(make("dt", name), make("dd", value));
    by("totals").append(pair);
  }
  const many = data.recipes.length > 1;
  data.recipes.forEach((recipe, n) => {
    const button = make("button", `${recipe.name} ${recipe.digest.slice(0, 8)} · ${recipe.total.toLocaleString("en")}`);
    button.addEventListener("click", () => choose(n));
    if (many) by("recipes").append(button);
    by("provenance").append(provenance(recipe));
  });
  document.querySelector("footer").textContent = `Made on ${data.made}.`;
  const anew = () => { state.page = 0; show(); };
  for (const id of ["status", "name", "area-from", "area-to", "regions-from", "regions-to"]) by(id).addEventListener("input", anew);
  for (const id of ["swap", "strength"]) by(id).addEventListener("input", show);
  by("again").addEventListener("click", () => { state.seed++; show(); });
  by("filters").addEventListener("submit", (event) => event.preventDefault());
  by("filters").addEventListener("reset", () => setTimeout(anew));
  by("previous").addEventListener("click", () => { state.page--; show(); });
  by("next").addEventListener("click", () => { state.page++; show(); });
  document.querySelector("main").hidden = false;
  choose(0);
}

start();
