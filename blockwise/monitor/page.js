"use strict";
// Draws blockwise/status.json once a second. Foreign text enters the page through textContent alone.

const POLL_MS = 1000, TIMEOUT_MS = 5000, SILENT_MS = 10000, SAMPLES = 900;
const RUNNING = 200, FAILED = 255;
const samples = [];
let last = null, answered = null, beat = { value: null, at: 0 }, failuresDrawn = "";

const byId = (id) => document.getElementById(id);
const number = new Intl.NumberFormat("en");
const count = (n) => number.format(n);
const plural = (n, noun) => `${count(n)} ${noun}${n === 1 ? "" : "s"}`;
const two = (n) => String(n).padStart(2, "0");

function rate(perSecond) {
  if (perSecond >= 100 || perSecond === 0) return count(Math.round(perSecond));
  return perSecond.toFixed(perSecond >= 1 ? 1 : 3);
}

function bytes(n) {
  const units = ["B", "kB", "MB", "GB", "TB", "PB"];
  let unit = 0;
  while (n >= 999.5 && unit < units.length - 1) { n /= 1000; unit += 1; }
  return `${n.toFixed(unit && n < 9.95 ? 1 : 0)} ${units[unit]}`;
}

function duration(seconds) {
  if (seconds === null) return "–";
  if (seconds < 0.0995) return `${Math.round(1000 * seconds)} ms`;
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  const s = Math.round(seconds);
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${two(s % 60)} s`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${two(Math.floor(s % 3600 / 60))} min`;
  return `${Math.floor(s / 86400)} d ${two(Math.floor(s % 86400 / 3600))} h`;
}

function element(tag, className, ...children) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  node.append(...children);  // strings become text nodes
  return node;
}

function show(id, text) {
  byId(id).textContent = text;
  byId(id).hidden = !text;
}

function table(id, header, rows, right) {
  const cells = (tag, values) => values.map((v, i) => element(tag, right.includes(i) ? "number" : "", v));
  const head = element("thead", "", element("tr", "", ...cells("th", header)));
  byId(id).replaceChildren(head, element("tbody", "", ...rows.map((r) => element("tr", "", ...cells("td", r)))));
}

function box(pen, colour, x, y, side, gap) {
  pen.fillStyle = colour;
  pen.fillRect(x, y, side - gap, side - gap);
}

function drawHead(s, share) {
  document.title = `${Math.floor(share * 100)} % ${s.run}`;
  show("run", s.run);
  byId("state").className = `state ${s.state}`;
  show("state", s.state);
  show("sub", [s.task, s.message].filter(Boolean).join(" · "));
  show("footer", [["run folder", s.folder], ["output", s.output], ["driver", s.driver ? `process ${s.driver.pid} on ${s.driver.host}` : ""]]
    .filter(([, value]) => value).map((pair) => pair.join(" ")).join(" · "));
}

function drawProgress(s, share) {
  const failed = s.blocks.total ? s.blocks.failed / s.blocks.total : 0;
  byId("progress-done").style.width = `${100 * share}%`;
  byId("progress-failed").style.width = s.blocks.failed ? `max(3px, ${100 * failed}%)` : "0";
  byId("progress").setAttribute("aria-valuenow", Math.floor(100 * share));
  const live = s.state === "running";
  const figures = [
    ["done", `${(Math.floor(share * 1000) / 10).toFixed(1)} %`],
    ["blocks", `${count(s.blocks.done)} of ${count(s.blocks.total)}`],
    ["failed", count(s.blocks.failed), s.blocks.failed ? "bad" : ""],
    s.blocks.orphans > 0 && ["orphans", count(s.blocks.orphans), "bad"],
    live && ["running", count(s.blocks.running)],
    live && ["blocks/s", rate(s.blocks_per_s)],
    live && ["throughput", `${bytes(s.bytes_per_s)}/s`],
    live && ["time left", duration(s.eta_s)],
    ["elapsed", duration(s.elapsed_s)],
    s.blocks.masked > 0 && ["masked", count(s.blocks.masked)],
    s.lost > 0 && ["leases lost", count(s.lost)],
  ].filter(Boolean);
  byId("figures").replaceChildren(...figures.map(([name, value, style]) =>
    element("div", style, element("dt", "", name), element("dd", "", value))));
}

function spentBar(spent) {
  const parts = [["read", spent.read_s], ["done", spent.compute_s], ["write", spent.write_s]];
  const all = parts.reduce((sum, part) => sum + part[1], 0);
  if (!all) return "–";
  const bar = element("span", "stack", ...parts.map(([style, seconds]) => {
    const piece = element("i", style);
    piece.style.width = `${100 * seconds / all}%`;
    return piece;
  }));
  bar.title = `read ${duration(spent.read_s)}, compute ${duration(spent.compute_s)}, write ${duration(spent.write_s)}, summed over workers`;
  return bar;
}

function drawStages(s) {
  const orphans = s.stages.some((g) => g.blocks.orphans), masked = s.stages.some((g) => g.blocks.masked);
  const columns = ["done", "total", "failed", "running", masked && "masked", orphans && "orphans"].filter(Boolean);
  const rows = s.stages.map((g) => [g.name, g.state, ...columns.map((c) => count(g.blocks[c])), spentBar(g.spent)]);
  table("stages", ["stage", "state", ...columns, "time: read · compute · write"], rows, columns.map((c, i) => i + 2));
}

function steps(w) {
  return element("span", "steps", ...["reading", "computing", "writing"].map((step) => {
    const cell = element("b", w[step] ? step : "none", count(w[step]));
    cell.title = `${w.name}: ${plural(w[step], "block")} ${step}`;
    return cell;
  }));
}

function busy(share) {
  const fill = element("span");
  fill.style.width = `${Math.min(100, 100 * share)}%`;
  return element("span", "", element("span", "meter", fill), `${Math.round(100 * share)} %`);
}

function gpu(w) {
  if (w.gpu === null && w.gpu_mb === null) return element("span", "faint", "none");
  const memory = w.gpu_mb === null ? "" : ` ${bytes(w.gpu_mb * 1e6)}${w.gpu_total_mb === null ? "" : ` of ${bytes(w.gpu_total_mb * 1e6)}`}`;
  return w.gpu === null ? element("span", "", memory) : element("span", "", busy(w.gpu), element("span", "faint", memory));
}

function drawWorkers(s) {
  byId("worker-section").hidden = !s.workers.length;
  show("worker-title", plural(s.fleet.length, "worker"));
  show("worker-shown", s.hidden.workers ? `The ${count(s.workers.length)} that have done the fewest blocks:` : "");
  const rows = s.workers.map((w) => [w.name, steps(w), busy(w.busy), gpu(w), bytes(w.rss_mb * 1e6), count(w.blocks_done)]);
  table("workers", ["worker", "read · compute · write", "compute busy", "GPU busy", "memory", "blocks done"], rows, [4, 5]);
  drawFleet(s);
}

const FLEET = { c: ["computing", "done"], r: ["reading", "read"], w: ["writing", "write"], i: ["idle", "pending"] };

function drawFleet(s) {  // a square per worker, where not each has a line
  byId("fleet-box").hidden = !s.hidden.workers;
  if (!s.hidden.workers) return;
  const letters = [...s.fleet], side = letters.length > 2000 ? 6 : 12;
  const across = Math.max(1, Math.floor(byId("fleet").clientWidth / side));
  const { pen } = canvas("fleet", Math.ceil(letters.length / across) * side), colour = colours();
  letters.forEach((letter, i) => box(pen, colour(FLEET[letter][1]), (i % across) * side, Math.floor(i / across) * side, side, side > 6 ? 2 : 1));
  byId("fleet-legend").replaceChildren(...Object.entries(FLEET).map(([letter, [word, style]]) =>
    element("span", "", element("i", style), `${count(letters.filter((l) => l === letter).length)} ${word}`)));
}

function failure(f, open) {
  const where = `${f.stage} · ${f.domain} · block ${count(f.block)}`;
  const what = `${f.kind}, ${plural(f.attempts, "attempt")}${f.worker ? `, ${f.worker}` : ""}: ${f.error}`;
  const node = element("details", "", element("summary", "", element("b", "", where), ` — ${what}`),
    element("pre", "", f.traceback || "no traceback"));
  node.dataset.key = where;
  node.open = open.has(where);
  return node;
}

function drawFailures(s) {
  byId("failure-section").hidden = !s.failures.length;
  show("failure-title", plural(s.blocks.failed, "failed block"));
  show("failure-more", s.hidden.failures ? `and ${plural(s.hidden.failures, "more failed block")}` : "");
  const now = JSON.stringify(s.failures);
  if (now === failuresDrawn) return;  // keeps a traceback that somebody reads where it is
  failuresDrawn = now;
  const open = new Set([...byId("failures").children].filter((n) => n.open).map((n) => n.dataset.key));
  byId("failures").replaceChildren(...s.failures.map((f) => failure(f, open)));
}

function canvas(id, height) {
  const node = byId(id), ratio = window.devicePixelRatio || 1, width = node.clientWidth;
  if (height) node.style.height = `${height}px`;
  node.width = Math.round(width * ratio);
  node.height = Math.round(node.clientHeight * ratio);
  const pen = node.getContext("2d");
  pen.scale(ratio, ratio);
  return { pen, width, height: node.clientHeight };
}

function colours() {
  const style = getComputedStyle(document.documentElement);
  return (name) => style.getPropertyValue(`--${name}`).trim();
}

function mapShape(cells, width) {
  const across = Math.max(1, Math.ceil(Math.sqrt(2 * cells)));
  return { across, side: Math.min(24, width / across), down: Math.ceil(cells / across) };
}

function drawMap(cells) {
  const shape = mapShape(cells.length, byId("map").clientWidth);
  const { pen } = canvas("map", Math.max(1, shape.down * shape.side)), colour = colours();
  const gap = shape.side > 5 ? 1 : 0.5;
  const [failed, running, pending, done] = ["failed", "running", "pending", "done"].map(colour);
  cells.forEach((value, i) => {
    const x = (i % shape.across) * shape.side, y = Math.floor(i / shape.across) * shape.side;
    box(pen, value === FAILED ? failed : value === RUNNING ? running : pending, x, y, shape.side, gap);
    if (value > 0 && value <= 100) {
      pen.globalAlpha = value === 100 ? 1 : 0.25 + 0.5 * value / 100;
      box(pen, done, x, y, shape.side, gap);
      pen.globalAlpha = 1;
    }
  });
}

function nameCell(event) {
  const cells = last ? last.map : [], shape = mapShape(cells.length, byId("map").clientWidth);
  const i = Math.floor(event.offsetY / shape.side) * shape.across + Math.floor(event.offsetX / shape.side);
  const value = cells[i];
  const words = { [RUNNING]: "running", [FAILED]: "holds a failed block" };
  byId("cell").textContent = value === undefined ? "" : `cell ${count(i + 1)} of ${count(cells.length)}: ${words[value] || `${value} % done`}`;
}

function drawRate() {
  byId("rate-section").hidden = samples.length < 2;
  if (samples.length < 2) return;
  const { pen, width, height } = canvas("rate"), colour = colours();
  const top = Math.max(...samples, 1e-9), foot = height - 18, head = 16;
  const x = (i) => i / (samples.length - 1) * width;
  const y = (v) => foot - (foot - head) * v / top;
  pen.beginPath();
  samples.forEach((v, i) => pen.lineTo(x(i), y(v)));
  pen.strokeStyle = colour("done");
  pen.lineWidth = 1.6;
  pen.stroke();
  pen.lineTo(width, foot);
  pen.lineTo(x(0), foot);
  pen.globalAlpha = 0.15;
  pen.fillStyle = colour("done");
  pen.fill();
  pen.globalAlpha = 1;
  pen.fillStyle = colour("line");
  pen.fillRect(0, foot, width, 1);
  pen.fillStyle = colour("faint");
  pen.font = `12px ${getComputedStyle(document.body).fontFamily}`;
  pen.fillText(`most ${rate(top < 1e-6 ? 0 : top)}`, 0, 11);
  pen.fillText(`${duration((samples.length - 1) * POLL_MS / 1000)} ago`, 0, height - 3);
  pen.textAlign = "right";
  pen.fillText("now", width, height - 3);
}

function draw(s) {
  const share = s.blocks.total ? s.blocks.done / s.blocks.total : Number(s.state === "done");
  byId("main").hidden = false;
  drawHead(s, share);
  drawProgress(s, share);
  drawMap(s.map);
  drawRate();
  drawStages(s);
  drawWorkers(s);
  drawFailures(s);
}

function notice() {
  const now = performance.now();
  if (answered === null) return "No answer from the driver yet.";
  const silent = duration((now - answered) / 1000), ended = last && !["planned", "running"].includes(last.state);
  if (now - answered > 2.5 * POLL_MS) {
    return ended ? "The run has ended and its driver is gone: this is the last state it showed."
      : `Driver gone: no answer for ${silent}. This is the last state it showed; the same blockwise run continues from there.`;
  }
  if (!last) return "No run on this scheduler yet.";
  if (!ended && now - beat.at > SILENT_MS) return `The driver answers, but has not moved for ${duration((now - beat.at) / 1000)}.`;
  return "";
}

async function poll() {
  try {
    const answer = await fetch("blockwise/status.json", { cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS) });
    if (!answer.ok && answer.status !== 404) throw new Error(answer.statusText);
    const values = await answer.json();
    answered = performance.now();
    if (answer.ok) {
      last = values;
      if (values.beat !== beat.value) beat = { value: values.beat, at: answered };
      if (values.state === "running") samples.push(values.blocks_per_s);
      samples.splice(0, Math.max(0, samples.length - SAMPLES));
      draw(values);
    }
  } catch (error) {
    console.warn("no status:", error);
  }
  const words = notice();
  show("notice", words);
  document.body.classList.toggle("gone", words.startsWith("Driver gone"));
  setTimeout(poll, POLL_MS);
}

byId("map").addEventListener("mousemove", nameCell);
byId("map").addEventListener("mouseleave", () => { byId("cell").textContent = ""; });
window.addEventListener("resize", () => { if (last) draw(last); });
poll();
