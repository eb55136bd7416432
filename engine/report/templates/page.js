"use strict";
// Model text only ever enters the page through textContent, never as markup.
const data = (id) => JSON.parse(document.getElementById("data-" + id).textContent);
const meta = data("meta");
const SVG = "http://www.w3.org/2000/svg";

function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(props)) key === "class" ? (node.className = value) : node.setAttribute(key, value);
  for (const child of children.flat()) if (child !== null && child !== undefined) node.append(child);
  return node;
}
function svg(tag, props) {
  const node = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(props)) node.setAttribute(key, value);
  return node;
}
const textOf = (text, extra = "") => el("p", { class: "text " + extra }, text === "" ? "(empty)" : String(text ?? "(none)"));
const fixed = (value, digits = 2) => (typeof value === "number" ? value.toFixed(digits) : "n/a");

// Tooltips: one element for the whole page.
const tip = document.getElementById("tip");
function showTip(target, x, y) {
  tip.textContent = target.dataset.tip;
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  tip.style.left = Math.max(6, Math.min(x + 14, innerWidth - box.width - 6)) + "px";
  tip.style.top = (y + 18 + box.height > innerHeight ? y - box.height - 12 : y + 18) + "px";
}
for (const kind of ["pointermove", "pointerdown"]) {
  document.addEventListener(kind, (event) => {
    const target = event.target.closest?.("[data-tip]");
    target ? showTip(target, event.clientX, event.clientY) : (tip.hidden = true);
  });
}
addEventListener("scroll", () => (tip.hidden = true), { passive: true });

// Theme: follows the system until the button is pressed.
const theme = document.getElementById("theme");
const isDark = () => (document.documentElement.style.colorScheme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
const nameTheme = () => (theme.textContent = isDark() ? "Light" : "Dark");
theme.addEventListener("click", () => { document.documentElement.style.colorScheme = isDark() ? "light" : "dark"; nameTheme(); });
nameTheme();

// Highlight the section in view.
const links = new Map([...document.querySelectorAll("nav .links a")].map((link) => [link.hash.slice(1), link]));
const seen = new IntersectionObserver((entries) => {
  for (const entry of entries) if (entry.isIntersecting) {
    for (const [id, link] of links) link.classList.toggle("here", id === entry.target.id);
    const link = links.get(entry.target.id);
    link.parentElement.scrollTo({ left: link.offsetLeft - link.parentElement.clientWidth / 2 });
  }
}, { rootMargin: "-20% 0px -70% 0px" });
for (const id of links.keys()) seen.observe(document.getElementById(id));

// The map of prompts.
const HUES = ["--s0", "--hard", "--train", "--contrast", "--failure", "--refusal", "--review", "--s2"];
function drawMap() {
  const plot = document.getElementById("map-plot");
  if (!plot) return;
  const fields = ["x", "y", "cluster", "pool", "dropped_by", "duplicate_of", "layer", "text"];
  const points = data("points").map((row) => Object.fromEntries(row.map((item, i) => [fields[i], item])));
  const legend = document.getElementById("map-legend"), read = document.getElementById("map-read");
  const range = (key) => { const all = points.map((p) => p[key]); const low = Math.min(...all), high = Math.max(...all); return [low, high - low || 1]; };
  const [x0, w] = range("x"), [y0, h] = range("y");
  const place = (p) => [24 + (712 * (p.x - x0)) / w, 456 - (432 * (p.y - y0)) / h];
  let by = "cluster", only = null;
  const value = (p) => (by === "dropped_by" ? p.dropped_by || "kept" : String(p[by]));
  const colour = (name) => {
    if (by === "pool") return `var(--${name})`;
    if (by === "dropped_by") return name === "kept" ? "var(--kept)" : `var(${["--failure", "--hard", "--contrast", "--s0", "--review", "--aside", "--out"][["exact", "minhash", "semantic", "contaminated", "quota", "sample", "pool"].indexOf(name)] || "--out"})`;
    if (by === "layer") return `var(${HUES[["core", "failure_mode", "long_tail"].indexOf(name)] || "--out"})`;
    return Number(name) < 0 ? "var(--out)" : `var(${HUES[Number(name) % HUES.length]})`;
  };
  const dots = points.map((p, index) => {
    const [cx, cy] = place(p);
    const dot = svg("circle", { cx, cy, r: p.dropped_by ? 3.6 : 4.2, "data-i": index });
    plot.append(dot);
    return dot;
  });
  const over = svg("g", {});
  plot.append(over);
  function paint() {
    const groups = new Map();
    points.forEach((p, i) => {
      const name = value(p);
      groups.set(name, [...(groups.get(name) || []), p]);
      dots[i].style.stroke = colour(name);
      dots[i].style.fill = p.dropped_by ? "transparent" : colour(name);
      dots[i].classList.toggle("dim", only !== null && only !== name);
    });
    over.replaceChildren();
    if (by === "cluster") for (const [name, members] of groups) {
      if (Number(name) < 0) continue;
      const middle = (key) => members.map((p) => p[key]).sort((a, b) => a - b)[Math.floor(members.length / 2)];
      const [x, y] = place({ x: middle("x"), y: middle("y") });
      const label = svg("text", { x, y: y + 4 });
      label.textContent = name;
      over.append(label);
    }
    const order = [...groups].sort((a, b) => (by === "cluster" ? a[0] - b[0] : b[1].length - a[1].length));
    legend.replaceChildren(...order.map(([name, members]) => {
      const swatch = el("i", { class: "swatch" });
      swatch.style.background = colour(name);
      const button = el("button", { type: "button", "aria-pressed": only === name }, swatch, by === "cluster" ? (Number(name) < 0 ? "none" : "cluster " + name) : name, el("span", { class: "num" }, String(members.length)));
      button.addEventListener("click", () => { only = only === name ? null : name; paint(); });
      return button;
    }));
  }
  function showPoint(index) {
    const p = points[index], [x1, y1] = place(p);
    plot.querySelectorAll(".hot").forEach((node) => node.remove());
    const ring = svg("circle", { class: "hot", cx: x1, cy: y1, r: 8, fill: "none", stroke: "var(--ink)" });
    plot.append(ring);
    const parts = [el("div", {}, el("b", {}, p.dropped_by ? "dropped: " + p.dropped_by : "kept"), ` \u00b7 pool ${p.pool} \u00b7 cluster ${p.cluster} \u00b7 ${p.layer}`, textOf(p.text))];
    if (p.dropped_by && p.duplicate_of >= 0) {
      const [x2, y2] = place(points[p.duplicate_of]);
      plot.append(svg("line", { class: "hot", x1, y1, x2, y2 }));
      parts.push(el("div", {}, el("b", {}, "duplicate of"), textOf(points[p.duplicate_of].text)));
    }
    read.replaceChildren(...parts);
  }
  // The nearest point within reach: points are too small to hit exactly, above all on a touch screen.
  const nearest = (event) => {
    const box = plot.getBoundingClientRect(), x = ((event.clientX - box.left) * 760) / box.width, y = ((event.clientY - box.top) * 480) / box.height;
    let best = -1, least = ((16 * 760) / box.width) ** 2;
    points.forEach((p, i) => {
      if (only !== null && value(p) !== only) return;
      const [px, py] = place(p), far = (px - x) ** 2 + (py - y) ** 2;
      if (far < least) [best, least] = [i, far];
    });
    if (best >= 0) showPoint(best);
  };
  plot.addEventListener("pointermove", nearest);
  plot.addEventListener("pointerdown", nearest);
  document.getElementById("map-by").addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    by = button.dataset.by;
    only = null;
    for (const other of event.currentTarget.children) other.setAttribute("aria-pressed", other === button);
    paint();
  });
  paint();
}

// A browser of rows: filters, previous and next, one card.
function browse(id, rows, filters, draw) {
  const root = document.getElementById(id);
  if (!root) return;
  const card = root.querySelector(".card"), output = root.querySelector("output"), chosen = {};
  let matching = rows, at = 0;
  function show() {
    output.textContent = matching.length ? `${at + 1} of ${matching.length}` : "none";
    card.replaceChildren(...(matching.length ? [draw(matching[at])] : [el("p", { class: "note" }, "Nothing matches these filters.")]));
    for (const button of root.querySelectorAll("[data-turn]")) button.disabled = matching.length < 2;
  }
  const turn = (by) => { if (matching.length) { at = (at + by + matching.length) % matching.length; show(); } };
  function filter() {
    matching = rows.filter((row) => Object.entries(filters).every(([name, { match }]) => !match || chosen[name] === "" || match(row, chosen[name], chosen)));
    at = 0;
    show();
  }
  for (const select of root.querySelectorAll("[data-filter]")) {
    const { options } = filters[select.dataset.filter];
    select.replaceChildren(...options.map(([value, text]) => el("option", { value }, text)));
    chosen[select.dataset.filter] = select.value;
    select.addEventListener("change", () => { chosen[select.dataset.filter] = select.value; filter(); });
  }
  root.addEventListener("click", (event) => { const button = event.target.closest("[data-turn]"); if (button) turn(Number(button.dataset.turn)); });
  root.addEventListener("keydown", (event) => {
    if (event.target.matches("select")) return;
    if (event.key === "ArrowRight") turn(1);
    if (event.key === "ArrowLeft") turn(-1);
  });
  filter();
}
const values = (rows, pick) => [["", "all"], ...[...new Set(rows.map(pick))].sort().map((name) => [name, name])];
const disposition = (row) => (row.split ? row.split : row.dropped_by ? "dropped: " + row.dropped_by : row.dropped_by === "" ? "kept" : "not curated");

function sampleCard(row) {
  const checks = (row.checks || []).map((c) => el("span", { class: "chip " + (c.passed ? "good" : "bad") }, `${c.check} ${c.passed ? "passed" : "failed"}${c.detail && !c.passed ? ": " + c.detail : ""}`));
  const scores = (row.dimension_scores || []).filter((m) => m.dimension).map((m) => el("span", { class: "chip" }, `${m.rubric}, ${m.dimension}: ${fixed(m.score)}`));
  const step = (title, tone, ...body) => el("li", { class: tone }, el("h4", {}, title), ...body);
  const id = (name, value) => el("code", { class: "id" }, `${name} ${String(value || "none").slice(0, 16)} `);
  const pool = "pool-" + row.pool, kept = row.dropped_by === "";
  return el("ol", { class: "trail" },
    step("Source", "", el("div", {}, el("code", {}, `${row.source}:${row.line}`), el("span", { class: "note" }, `  ${row.licence || ""}${(row.redacted || []).length ? ", redacted: " + row.redacted.join(", ") : ""}`))),
    step("Prompt", "", id("prompt", row.prompt_id), el("span", { class: "note" }, `${row.task_unit}, ${row.layer}, ${row.difficulty}${row.scenario ? ", " + row.scenario : ""}`), textOf(row.text)),
    step("Answer", "", id("answer", row.answer_id), el("span", { class: "note" }, `${row.teacher}, sample ${row.sample}, seed ${row.seed}, finish reason ${row.finish_reason}, ${row.tokens_in} tokens in, ${row.tokens_out} out`), textOf(row.answer, "mono"), row.error ? textOf(row.error, "bad") : null),
    step("Grading", "", el("div", { class: "chips" }, checks.length ? checks : el("span", { class: "note" }, "no check ran")), el("span", { class: "note" }, `agreement ${fixed(row.agreement)}, rubric score ${fixed(row.score)}${row.judge ? " by " + row.judge : ""}, confidence ${fixed(row.confidence)}${row.score !== null && !row.judge_decides ? ", not used to decide" : ""}`), el("div", { class: "chips" }, scores)),
    step("Pool", pool, el("span", { class: "pool " + pool }, row.pool), el("div", { class: "chips" }, (row.reasons || []).map((r) => el("span", { class: "chip" }, r)))),
    step(kept ? "Example" : "Disposition", kept ? "tone-kept" : "tone-out", el("b", {}, disposition(row)), kept ? null : el("span", { class: "note" }, " " + (meta.meanings[row.dropped_by] || "")), kept ? el("span", {}, " ", id("example", row.answer_id)) : row.duplicate_of ? el("span", {}, " ", id("duplicate of", row.duplicate_of), el("span", { class: "note" }, `similarity ${fixed(row.similarity, 3)}`)) : null, typeof row.cluster === "number" && row.cluster >= 0 ? el("span", { class: "note" }, ` cluster ${row.cluster}`) : null, el("div", {}, el("code", { class: "id" }, `rayleigh trace ${meta.run || "RUN"} ${row.answer_id}`))));
}

const parse = (text) => { try { const v = JSON.parse(text); return v && typeof v === "object" && !Array.isArray(v) ? v : null; } catch { return null; } };
const plain = (value) => (value === null ? "null" : value === undefined ? "missing" : typeof value === "string" ? value : JSON.stringify(value));
const same = (a, b) => a === b || plain(a).trim().toLowerCase() === plain(b).trim().toLowerCase();

function predictionCard(row) {
  const truth = parse(row.reference), fields = truth ? Object.keys(truth) : [];
  const order = meta.models.filter((name) => row.models[name]).concat(Object.keys(row.models).filter((name) => !meta.models.includes(name)));
  const head = el("tr", {}, el("th", {}, "model"), fields.length ? fields.map((f) => el("th", {}, f)) : el("th", {}, "answer"), el("th", { class: "num" }, "confidence"), el("th", { class: "num" }, "ms"), el("th", {}, "exact"));
  const reference = el("tr", {}, el("th", {}, "reference"), fields.length ? fields.map((f) => el("td", { class: "mono strong" }, plain(truth[f]))) : el("td", { class: "mono strong text" }, row.reference), el("td"), el("td"), el("td"));
  const lines = order.map((name) => {
    const m = row.models[name], got = parse(m.answer);
    const cells = fields.length && got
      ? fields.map((f) => el("td", { class: "mono " + (same(got[f], truth[f]) ? "" : "bad") }, (same(got[f], truth[f]) ? "" : "\u2260 ") + plain(got[f])))
      : [el("td", { class: "mono text" + (fields.length ? " bad" : ""), colspan: fields.length || 1 }, m.answer || "(empty)")];
    return el("tr", {}, el("th", {}, el("span", { class: "key " + (meta.tones[name] || ""), "data-role": m.role }), name), cells, el("td", { class: "num" }, fixed(m.confidence)), el("td", { class: "num" }, typeof m.seconds === "number" ? (m.seconds < 0.01 ? (m.seconds * 1000).toFixed(1) : Math.round(m.seconds * 1000).toLocaleString("en")) : "n/a"), el("td", { class: "word " + (m.exact ? "good" : "bad") }, m.exact ? "right" : "wrong"));
  });
  return el("div", { class: "cols" },
    el("div", {}, el("p", { class: "note" }, `${row.layer}, ${row.difficulty}${row.scenario ? ", " + row.scenario : ""}, ${row.seen ? "seen" : "unseen"} scenario`), textOf(row.text), el("code", { class: "id" }, "prompt " + row.prompt_id.slice(0, 16))),
    el("div", { class: "scroll" }, el("table", {}, el("thead", {}, head), el("tbody", {}, reference, lines))));
}

drawMap();
const samples = data("samples");
browse("sample-browser", samples, {
  pool: { options: values(samples, (r) => r.pool), match: (r, v) => r.pool === v },
  disposition: { options: values(samples, disposition), match: (r, v) => disposition(r) === v },
  layer: { options: values(samples, (r) => r.layer), match: (r, v) => r.layer === v },
}, sampleCard);
const predictions = data("predictions");
browse("prediction-browser", predictions, {
  model: { options: [["", "any model"], ...meta.models.map((name) => [name, name])] },
  right: { options: [["", "right or wrong"], ["right", "right"], ["wrong", "wrong"]], match: (r, v, { model }) => Object.entries(r.models).some(([name, m]) => (!model || name === model) && m.exact === (v === "right")) },
  seen: { options: [["", "all"], ["seen", "seen"], ["unseen", "unseen"]], match: (r, v) => r.seen === (v === "seen") },
  layer: { options: values(predictions, (r) => r.layer), match: (r, v) => r.layer === v },
}, predictionCard);
