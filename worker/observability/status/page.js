"use strict";
// Asks /status.json again and again and shows it. Whatever comes from the worker is set as text, never as markup.
const POLL_MS = 2000, TIMEOUT_MS = 5000, SPAN_SECONDS = 900, STEP_SECONDS = 5, HEIGHT = 100;
const SVG = "http://www.w3.org/2000/svg";
const byId = (id) => document.getElementById(id);
let answeredAt = null;

// --- numbers ---------------------------------------------------------------------------------------------------

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const tenths = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const hundredths = new Intl.NumberFormat("en", { maximumFractionDigits: 2 });
const clock = (date) => date.toLocaleTimeString("en-GB");

function number(value) {
  return (value >= 100 || Number.isInteger(value) ? whole : value >= 10 ? tenths : hundredths).format(value);
}

function duration(seconds) {
  if (seconds === null) return "–";
  if (seconds === 0) return "0 s";
  if (seconds < 0.01) return `${hundredths.format(seconds * 1000)} ms`;
  if (seconds < 1) return `${whole.format(seconds * 1000)} ms`;
  if (seconds < 120) return `${(seconds < 10 ? hundredths : whole).format(seconds)} s`;
  if (seconds < 5400) return `${(seconds < 1200 ? tenths : whole).format(seconds / 60)} min`;
  if (seconds < 172800) return `${tenths.format(seconds / 3600)} h`;
  return `${whole.format(seconds / 86400)} days`;
}

const sum = (counts) => Object.values(counts).reduce((total, count) => total + count, 0);
const spanOf = (status) => (status.window_seconds >= 59 ? "last minute" : `last ${duration(Math.round(status.window_seconds))}`);

function share(part, all) {
  if (!all) return "–";
  const percent = (100 * part) / all;
  return percent > 0 && percent < 0.01 ? "< 0.01 %" : `${(percent < 1 ? hundredths : tenths).format(percent)} %`;
}

// --- the page's parts ------------------------------------------------------------------------------------------

function say(element, text) {
  // Only what has changed is touched, so that a screen reader hears news alone and a selection stays.
  if (element.textContent !== text) element.textContent = text;
}

function figure(id, value, text, note) {
  byId(id).value = value === null ? "" : String(value);
  say(byId(id), text);
  if (note !== undefined) say(byId(`${id}-note`), note);
}

// Rows of cells: a string is a cell's text; {value, text} is a number with its exact value. The first cell is the row's head.
function fill(id, rows, width, none = "none") {
  const body = byId(id);
  body.className = rows.length ? "" : "none";
  if (!rows.length) {
    body.replaceChildren(...[rowOf(["td"])]);
    body.rows[0].cells[0].colSpan = width;
    say(body.rows[0].cells[0], none);
    return;
  }
  if (body.rows.length !== rows.length || body.rows[0].cells.length !== width) {
    body.replaceChildren(...rows.map((row) => rowOf(row.map((_, index) => (index ? "td" : "th")))));
  }
  rows.forEach((row, index) => row.forEach((cell, column) => fillCell(body.rows[index].cells[column], cell)));
}

function rowOf(tags) {
  const row = document.createElement("tr");
  for (const tag of tags) {
    const cell = row.appendChild(document.createElement(tag));
    if (tag === "th") cell.scope = "row";
  }
  return row;
}

function fillCell(cell, content) {
  if (typeof content === "string") return say(cell, content);
  cell.className = content.life ? "number life" : "number";
  const data = cell.firstElementChild ?? cell.appendChild(document.createElement("data"));
  data.value = content.value === null ? "" : String(content.value);
  say(data, content.text);
}

const counted = (value) => ({ value, text: whole.format(value) });
const timed = (value) => ({ value, text: duration(value) });

// --- graphs ----------------------------------------------------------------------------------------------------

const GRAPHS = [
  { title: "Reviews per second", format: number, lines: { "per second": (h) => h.reviews_per_second } },
  { title: "End to end", format: duration, logarithmic: true,
    lines: { p50: (h) => h.p50_seconds, p95: (h) => h.p95_seconds, p99: (h) => h.p99_seconds } },
  { title: "Lag", format: number, lines: { records: (h) => h.lag_records } },
  { title: "Dead letters and retries per second", format: number,
    lines: { "dead letters": (h) => h.dead_letters_per_second, retries: (h) => h.retries_per_second } },
];

function element(parent, tag, className = "", text = "") {
  const made = parent.appendChild(document.createElement(tag));
  if (className) made.className = className;
  if (text) made.textContent = text;
  return made;
}

function shape(parent, tag, attributes) {
  const made = parent.appendChild(document.createElementNS(SVG, tag));
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

function buildGraph(graph) {
  const box = element(byId("graphs"), "figure");
  const caption = element(box, "figcaption");
  element(caption, "b", "", graph.title);
  const legend = element(caption, "span", "legend");
  const plot = element(box, "div", "plot");
  const svg = shape(plot, "svg", { role: "img", viewBox: `0 0 ${SPAN_SECONDS} ${HEIGHT}`, preserveAspectRatio: "none" });
  graph.grid = shape(svg, "path", { class: "grid" });
  graph.plot = plot;
  const axis = element(box, "div", "axis");
  axis.ariaHidden = "true";
  for (const text of ["15 min ago", "10", "5", "now"]) element(axis, "span", "", text);
  const keys = ["a", "b", "c"];
  graph.svg = svg;
  graph.drawn = Object.entries(graph.lines).map(([name, column], index) => ({
    name, column,
    path: shape(svg, "path", { class: keys[index] }),
    legend: element(legend, "span", keys[index]),
  }));
}

function niceTop(highest) {
  if (!(highest > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(highest));
  return [1, 2, 4, 6, 8, 10].find((step) => step * power >= highest * 0.999) * power;
}

// Where a value stands, from 0 at the bottom to 1 at the top, and which values are marked.
function scaleOf(graph, values) {
  const highest = Math.max(0, ...values);
  if (!graph.logarithmic || !(highest > 0)) {
    const top = niceTop(highest);
    return { place: (value) => value / top, marks: [0, top / 2, top] };
  }
  const low = Math.floor(Math.log10(Math.min(...values.filter((value) => value > 0))));
  const high = Math.max(low + 1, Math.ceil(Math.log10(highest)));
  const every = Math.ceil((high - low) / 4);
  const marks = [];
  for (let power = low; power <= high; power += every) marks.push(10 ** power);
  return { place: (value) => (Math.log10(Math.max(value, 10 ** low)) - low) / (high - low), marks };
}

const heightOf = (place) => (HEIGHT - 1 - place * (HEIGHT - 2)).toFixed(2);

function drawGrid(graph, scale) {
  const heights = scale.marks.map((mark) => heightOf(scale.place(mark)));
  graph.grid.setAttribute("d", heights.map((height) => `M0 ${height}H900`).join("") + `M300 0V${HEIGHT}M600 0V${HEIGHT}`);
  const labels = [...graph.plot.querySelectorAll("span")];
  while (labels.length > heights.length) labels.pop().remove();
  while (labels.length < heights.length) labels.push(element(graph.plot, "span"));
  labels.forEach((label, index) => {
    say(label, graph.format(scale.marks[index]));
    label.style.top = `${heights[index]}%`;
  });
}

function pathOf(values, ages, scale) {
  // A gap where nothing was measured; a lone point is a dot.
  let path = "", pen = false;
  values.forEach((value, index) => {
    if (value === null || ages[index] > SPAN_SECONDS) { pen = false; return; }
    const place = `${(SPAN_SECONDS - ages[index]).toFixed(1)} ${heightOf(scale.place(value))}`;
    path += pen ? `L${place}` : `M${place}l.01 0`;
    pen = true;
  });
  return path;
}

function drawGraph(graph, history) {
  const columns = graph.drawn.map((line) => line.column(history));
  const scale = scaleOf(graph, columns.flat().filter((value) => value !== null));
  drawGrid(graph, scale);
  const told = graph.drawn.map((line, index) => {
    line.path.setAttribute("d", pathOf(columns[index], history.ages_seconds, scale));
    const known = columns[index].filter((value) => value !== null);
    const latest = columns[index].at(-1) ?? null;
    const now = latest === null ? "–" : graph.format(latest);
    say(line.legend, `${line.name} ${now}`);
    if (!known.length) return `${line.name}: nothing yet`;
    const [low, high] = [Math.min(...known), Math.max(...known)].map(graph.format);
    return `${line.name}: now ${latest === null ? "nothing" : now}, lowest ${low}, highest ${high}`;
  });
  graph.svg.setAttribute("aria-label", `${graph.title} in the last 15 minutes. ${told.join("; ")}.`);
}

function drawStrip(history) {
  const svg = document.querySelector("#strip svg");
  const steps = new Map();
  const bars = [];
  history.states.forEach((state, index) => {
    steps.set(state, (steps.get(state) ?? 0) + 1);
    const right = SPAN_SECONDS - history.ages_seconds[index];
    const bar = bars.at(-1);
    if (bar?.state === state) bar.right = right;
    else bars.push({ state, left: Math.max(0, bar?.right ?? right - STEP_SECONDS), right });
  });
  svg.replaceChildren();
  for (const { state, left, right } of bars) {
    shape(svg, "rect", { class: state, x: left.toFixed(1), width: (right - left).toFixed(1), y: 0, height: 10 });
  }
  const parts = [...steps].map(([state, count]) => `${state} ${share(count, history.states.length)}`);
  const told = parts.length ? parts.join(", ") : "nothing yet";
  say(byId("strip-note"), told);
  svg.setAttribute("aria-label", `State in the last 15 minutes: ${told}.`);
}

// --- what the worker says --------------------------------------------------------------------------------------

const MOODS = { running: "good", holding: "bad", starting: "waiting", draining: "waiting", stopped: "waiting" };

function showState(name, why, mood) {
  byId("state").dataset.mood = mood;
  say(byId("state-name"), name);
  say(byId("state-why"), why);
}

function showHead(status) {
  const { state, stalled, unready, model, settings } = status;
  const title = `Inferry worker · ${settings.group ?? ""}`;
  say(byId("title"), title);
  if (stalled) showState("Stuck", stalled, "bad");
  else if (unready) {
    const why = unready.replace(/^The worker is [a-z]+:? ?/, "");  // /readyz says the state, too
    showState(state[0].toUpperCase() + state.slice(1), why, state === "running" ? "bad" : MOODS[state]);
  }
  else showState("Running", "Reviews are answered.", "good");
  document.title = `${byId("state-name").textContent} · ${title}`;
  const named = model ? `${model.name} version ${model.version}` : "no model";
  say(byId("facts"), `${named} · up ${duration(status.time_seconds - status.started_seconds)} · updated ${clock(answeredAt)}`);
}

function showTiles(status) {
  const latency = status.durations.end_to_end.last_minute;
  const span = spanOf(status);
  const answered = sum(status.results) + sum(status.dead_letters);
  const waiting = sum(status.lag.map((each) => each.records));
  const longest = Math.max(0, ...status.lag.map((each) => each.undelivered_seconds));
  const { in_flight: calls, limit } = status.requests;
  const dead = sum(status.dead_letters), retried = sum(status.retries.map((each) => each.count));
  figure("rate", status.reviews_per_second, number(status.reviews_per_second), `${whole.format(answered)} since start`);
  figure("p99", latency.p99_seconds, duration(latency.p99_seconds),
    latency.count ? `p50 ${duration(latency.p50_seconds)}, p95 ${duration(latency.p95_seconds)}` : `nothing answered in the ${span}`);
  figure("lag", waiting, whole.format(waiting), lagNote(status, waiting, longest));
  figure("dead", dead, whole.format(dead), `${answered ? `${share(dead, answered)} of answers, ` : ""}${number(status.dead_letters_per_second)}/s`);
  figure("requests", calls, whole.format(calls), `limit ${limit}; windows ${status.windows_in_flight}`);
  figure("retried", retried, whole.format(retried), `${number(status.retries_per_second)}/s in the ${span}`);
}

function lagNote(status, waiting, longest) {
  const held = `${status.lag.length} partition${status.lag.length === 1 ? "" : "s"}`;
  if (!waiting) return status.lag.length ? `none waits in ${held}` : "holds no partition";
  const seconds = status.reviews_per_second ? waiting / status.reviews_per_second : 0;
  const drained = seconds >= 1 ? `, ${duration(Math.round(seconds))} of work` : "";
  return longest >= 10 ? `nothing delivered for ${duration(longest)}` : `in ${held}${drained}`;
}

const STAGES = { end_to_end: "end to end", decode: "decode (window)", encode: "encode (window)", predict: "predict (call)",
  deliver: "deliver (window)" };

function showTables(status) {
  const four = (q, life) => [timed(q.p50_seconds), timed(q.p95_seconds), timed(q.p99_seconds), counted(q.count)].map(
    (cell) => ({ ...cell, life }));
  fill("stages", Object.entries(status.durations).map(([name, each]) => [
    STAGES[name] ?? name, ...four(each.last_minute, false), ...four(each.since_start, true)]), 9);
  say(byId("window-title"), spanOf(status));
  fill("lags", status.lag.map((each) => [
    `${each.topic}/${each.partition}`, counted(each.records), timed(Math.round(each.undelivered_seconds))]), 3,
    "no partition is held");
  const all = sum(status.results);
  fill("labels", Object.entries(status.results).map(([label, count]) => [
    label, counted(count), { value: all ? count / all : 0, text: share(count, all) }]), 3);
  fill("reasons", Object.entries(status.dead_letters).filter(([, count]) => count).map(([reason, count]) => [
    reason, counted(count)]), 2);
  fill("retries", status.retries.filter((each) => each.count).map((each) => [
    each.what, each.status, counted(each.count)]), 3);
  const { model } = status;
  fill("model", [["name", model?.name ?? "–"], ["version", model?.version ?? "–"], ["vocabulary", model?.digest ?? "–"],
    ["encoder", status.encoder || "–"]], 2);
  fill("versions", Object.entries(status.versions), 2);
  fill("settings", Object.entries(status.settings).map(([name, value]) => [
    name.replaceAll("_", "-"), value === null || value === "" ? "(empty)" : String(value)]), 2);
}

function show(status) {
  answeredAt = new Date();
  byId("main").classList.remove("stale");
  showHead(status);
  showTiles(status);
  drawStrip(status.history);
  GRAPHS.forEach((graph) => drawGraph(graph, status.history));
  showTables(status);
}

function showUnreachable() {
  byId("main").classList.add("stale");
  const figures = answeredAt ? `; the figures are those of ${clock(answeredAt)}` : "";
  showState("Not reachable", `The worker does not answer${figures}. Trying again every ${POLL_MS / 1000} s.`, "bad");
  document.title = "Not reachable · Inferry worker";
}

async function ask() {
  try {
    const answer = await fetch("status.json", { cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS) });
    return answer.ok ? await answer.json() : null;
  } catch {
    return null;
  }
}

async function poll() {
  const status = await ask();
  if (status) show(status); else showUnreachable();
  setTimeout(poll, POLL_MS);
}

GRAPHS.forEach(buildGraph);
poll();
