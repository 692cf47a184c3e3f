// The live page: listens to /api/live and draws what every node of the cluster holds.
//
// Each event is a whole state, so that nothing has to be put together and a missed event costs nothing. States of the
// last two minutes are kept and drawn; nothing is asked from anywhere but the node that served this page.

const WINDOW_MS = 120_000;
const SPAN_MIN_MS = 20_000; // a chart that has just begun does not stretch two points over its width
const GAP_MS = 4_000; // lines break where nothing was heard for so long
const RATE_MS = 1_500; // casts per second are taken over this time
const SILENCE_MS = 15_000; // a state comes every two seconds at least: a stream without any for so long is as good as dead
const RETRY_MS = 2_000;
const SUMMARY_MS = 10_000;
const EVENTS_MAX = 12;

const $ = (id) => document.getElementById(id);
const number = new Intl.NumberFormat("en");
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const plural = (count, what) => `${number.format(count)} ${what}${count === 1 ? "" : "s"}`;
const shown = (value) => (value === null || value === undefined ? "–" : number.format(value));

function element(tag, className = "", text = "") {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text) made.textContent = text;
  return made;
}

function put(target, text) {
  // Writing an equal text would still make browsers lay the page out again.
  if (target.textContent !== text) target.textContent = text;
}

// ---------------------------------------------------------------- charts

const SVG = "http://www.w3.org/2000/svg";

function shape(tag, attributes, parent) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  parent.append(made);
  return made;
}

function niceStep(span, steps, whole) {
  const rough = span / Math.max(1, steps);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((each) => each >= rough);
  return whole ? Math.max(1, Math.round(step)) : step;
}

class LineChart {
  // Lines over time. `fromZero` keeps zero in sight; without it the axis follows the data, so that lines that are close
  // together can still be told apart.
  constructor(host, { about, fromZero = true, area = false, whole = true, least = 1 }) {
    Object.assign(this, { host, about, fromZero, area, whole, least });
    this.times = [];
    this.series = [];
    this.pointer = null;
    this.svg = shape("svg", { role: "img" }, host);
    this.tip = element("div", "tip");
    this.tip.hidden = true;
    this.empty = element("p", "empty", "waiting for numbers");
    host.append(this.tip, this.empty);
    host.addEventListener("pointermove", (event) => {
      this.pointer = event.clientX - host.getBoundingClientRect().left;
      this.draw();
    });
    host.addEventListener("pointerleave", () => {
      this.pointer = null;
      this.draw();
    });
    new ResizeObserver(() => this.draw()).observe(host);
  }

  set(times, series) {
    this.times = times;
    this.series = series;
    this.draw();
  }

  draw() {
    const { clientWidth: width, clientHeight: height } = this.host;
    this.svg.replaceChildren();
    const values = this.series.flatMap((line) => line.values).filter((value) => value !== null);
    this.empty.hidden = values.length > 0;
    this.tip.hidden = true;
    if (!values.length || width < 80) return;
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);

    const wide = width > 460 && this.series.length > 1;
    const endings = this.series.map((line) => {
      const value = line.values.findLast((each) => each !== null);
      return value === undefined ? "" : `${wide ? `${line.name.slice(0, 14)} ` : ""}${this.format(value)}`;
    });
    let low = this.fromZero ? Math.min(0, ...values) : Math.min(...values);
    let high = Math.max(...values);
    if (high - low < this.least) {
      // A flat line lies in the middle, unless it lies on the ground.
      low = Math.max(0, low - (this.fromZero ? 0 : this.least / 2));
      high = low + this.least;
    }
    const step = niceStep(high - low, Math.floor(height / 45), this.whole);
    low = Math.floor(low / step) * step;
    high = Math.ceil(high / step) * step;

    const left = 10 + 7 * Math.max(this.format(low).length, this.format(high).length);
    const right = 14 + Math.min(140, 7 * Math.max(...endings.map((ending) => ending.length)));
    const top = 8;
    const bottom = 22;
    const now = this.times.at(-1);
    const first = Math.min(Math.max(this.times[0], now - WINDOW_MS), now - SPAN_MIN_MS);
    const x = (time) => left + ((time - first) / (now - first)) * (width - left - right);
    const y = (value) => height - bottom - ((value - low) / (high - low)) * (height - top - bottom);
    Object.assign(this, { x, left, right });

    for (let tick = low; tick <= high + step / 2; tick += step) {
      const at = Math.round(y(tick)) + 0.5;
      shape("line", { class: "grid", x1: left, x2: width - right, y1: at, y2: at }, this.svg);
      shape("text", { x: left - 6, y: at + 4, "text-anchor": "end" }, this.svg).textContent = this.format(tick);
    }
    const every = [5, 10, 15, 30, 60].find((each) => (now - first) / 1000 / each <= Math.max(1, (width - left) / 90));
    for (let ago = 0; ago * 1000 <= now - first; ago += every ?? 60) {
      const text = ago === 0 ? "now" : `${ago} s ago`;
      const anchor = ago === 0 ? "end" : "middle";
      const at = x(now - ago * 1000);
      if (at < left + 14 || (ago && at > width - right - 46)) continue;
      shape("text", { x: at, y: height - 5, "text-anchor": anchor }, this.svg).textContent = text;
    }

    const stack = Math.min(this.series.length, 4);
    const labels = [];
    this.series.forEach((line, index) => {
      const group = shape("g", { class: line.className }, this.svg);
      const path = this.path(line.values, x, y);
      if (this.area) {
        shape("path", { class: "area", d: this.areaPath(line.values, x, y, y(Math.max(0, low))) }, group);
      }
      // Lines that coincide stay visible as nested bands: the first is the broadest.
      const across = 2 + 2.4 * Math.max(0, stack - 1 - index);
      const band = shape("path", { class: across > 2 ? "line under" : "line", d: path }, group);
      band.style.strokeWidth = `${across}px`;
      const last = line.values.findLastIndex((value) => value !== null);
      if (last < 0) return;
      const [endX, endY] = [x(this.times[last]), y(line.values[last])];
      shape("circle", { class: "end", cx: endX, cy: endY, r: 4 }, group);
      labels.push({ group, text: endings[index], x: width - right + 8, y: endY + 4 });
    });
    this.place(labels, top + 8, height - bottom + 4);
    this.svg.setAttribute("aria-label", `${this.about}: ${this.series.map((line, i) => `${line.name} ${this.format(line.values.findLast((v) => v !== null) ?? null)}`).join(", ")}`);
    if (this.pointer !== null) this.point(width, height - bottom, top);
  }

  format(value) {
    if (value === null) return "unknown";
    return number.format(this.whole ? Math.round(value) : Math.round(value * 10) / 10);
  }

  path(values, x, y) {
    let path = "";
    let previous = null;
    values.forEach((value, index) => {
      const time = this.times[index];
      if (value === null) return;
      const broken = previous === null || time - previous > GAP_MS;
      path += `${broken ? "M" : "L"}${x(time).toFixed(1)} ${y(value).toFixed(1)}`;
      previous = time;
    });
    return path;
  }

  areaPath(values, x, y, base) {
    return this.path(values, x, y).split("M").filter(Boolean).map((run) => {
      const points = run.split("L");
      const [from] = points[0].split(" ");
      const [to] = points.at(-1).split(" ");
      return `M${from} ${base}L${run}L${to} ${base}Z`;
    }).join("");
  }

  place(labels, top, bottom) {
    // Labels that would cover one another are pushed apart, as few and as little as will do.
    labels.sort((a, b) => a.y - b.y);
    labels.forEach((label, i) => {
      label.y = Math.max(label.y, i ? labels[i - 1].y + 14 : top);
    });
    for (let i = labels.length - 1; i >= 0; i -= 1) {
      labels[i].y = Math.min(labels[i].y, i < labels.length - 1 ? labels[i + 1].y - 14 : bottom);
    }
    for (const label of labels) {
      shape("text", { class: "label", x: label.x, y: label.y }, label.group).textContent = label.text;
    }
  }

  point(width, bottom, top) {
    const index = this.times.reduce(
      (best, time, i) => (Math.abs(this.x(time) - this.pointer) < Math.abs(this.x(this.times[best]) - this.pointer) ? i : best), 0);
    const at = this.x(this.times[index]);
    if (at < this.left) return;
    shape("line", { class: "cursor", x1: at, x2: at, y1: top, y2: bottom }, this.svg);
    this.tip.replaceChildren(element("b", "", clock.format(this.times[index])));
    for (const line of this.series) {
      const row = element("div", line.className);
      row.append(element("span", "key"), `${line.name} ${this.format(line.values[index])}`);
      this.tip.append(row);
    }
    this.tip.hidden = false;
    const room = width - this.tip.offsetWidth - 6;
    this.tip.style.left = `${Math.max(0, Math.min(room, at > width / 2 ? at - this.tip.offsetWidth - 10 : at + 10))}px`;
    this.tip.style.top = "4px";
  }
}

// ---------------------------------------------------------------- what is known

const samples = []; // the states of the last two minutes, oldest first, each with its totals
const colours = new Map(); // node → class, for as long as the page is open
const flow = { sent: 0, received: 0, dropped: 0 }; // since the page was opened, over all nodes
const counted = new Map(); // node → its counters when it last answered
let chosen = "home";
let summaryAt = 0;
let summarised = "";

const isDrop = (cause) => cause.startsWith("dropped_") || cause === "gap_messages";

function totals(counters) {
  let dropped = 0;
  for (const [cause, count] of Object.entries(counters)) if (isDrop(cause)) dropped += count;
  return { sent: counters.casts_sent ?? 0, received: counters.casts_received ?? 0, dropped };
}

function remember(state) {
  for (const node of state.nodes) {
    if (!colours.has(node.name)) colours.set(node.name, `c${colours.size % 8}`);
    if (node.known_at === null || node.stale) continue;
    const now = totals(node.counters);
    const before = counted.get(node.name);
    // What a node did while it was not heard would look like a burst at its return.
    if (before && node.known_at - before.at <= GAP_MS) {
      for (const kind of Object.keys(flow)) {
        // A node that was started again counts from zero.
        flow[kind] += now[kind] >= before[kind] ? now[kind] - before[kind] : now[kind];
      }
    }
    counted.set(node.name, { ...now, at: node.known_at });
  }
  state.flow = { ...flow };
  state.byPage = new Map(state.pages.map((page) => [page.page, page]));
  state.byNode = new Map(state.nodes.map((node, index) => [node.name, index]));
  // Columns and lines are for nodes that have said what they hold. An address where nobody answered yet has a card only.
  state.told = state.nodes.map((_, index) => index).filter((index) => state.nodes[index].known_at !== null);
  state.up = state.nodes.filter((node) => node.state === "up").length;
  if (samples.length && state.at < samples.at(-1).at) samples.length = 0; // the node's clock was set back
  samples.push(state);
  while (samples[0].at < state.at - WINDOW_MS) samples.shift();
}

function rates(kind) {
  let from = 0;
  return samples.map((sample) => {
    while (from + 1 < samples.length && samples[from + 1].at <= sample.at - RATE_MS) from += 1;
    const seconds = (sample.at - samples[from].at) / 1000;
    return seconds > 0 ? (sample.flow[kind] - samples[from].flow[kind]) / seconds : null;
  });
}

// ---------------------------------------------------------------- the parts of the page

const charts = {
  counts: new LineChart($("counts-chart"), { about: "Counts of the chosen page by node", fromZero: false, least: 4 }),
  drift: new LineChart($("drift-chart"), { about: "Drift of the chosen page", area: true, least: 2 }),
  casts: new LineChart($("casts-chart"), { about: "Casts per second", whole: false, least: 2 }),
  up: new LineChart($("up-chart"), { about: "Nodes up", area: true, least: 2 }),
};

const counting = document.body.dataset.counter === "yes"; // a node beside a program has no counter, only tables

function drawFigures(state) {
  const differing = (state.drift?.tables ?? []).reduce((sum, table) => sum + (table.rows_differing ?? 0), 0);
  const drift = counting ? state.pages.reduce((sum, page) => sum + page.drift, 0) : differing;
  const apart = state.pages.filter((page) => page.drift > 0).length;
  put($("drift-total"), shown(drift));
  // Counts are asked twice a second; whole tables are compared less often, and know more than counts.
  const tables = state.drift?.verdict === "drift";
  $("drift-card").classList.toggle("is-bad", drift > 0 || (!counting && tables));
  $("drift-card").classList.toggle("is-good", drift === 0 && state.up > 1 && !tables);
  let note = counting ? "every node that answers holds the same counts" : "no rows are known to differ";
  if (state.up < 2) note = "one node alone has nothing to differ from";
  else if (!counting && drift) note = "rows differ between nodes, see below";
  else if (tables && !drift) note = `${counting ? "counts are equal now; " : ""}tables differ, see below`;
  else if (drift) note = `counts between nodes that should be equal, on ${apart} ${apart === 1 ? "page" : "pages"}`;
  put($("drift-note"), note);

  put($("nodes-up"), shown(state.up));
  put($("nodes-all"), ` of ${state.nodes.length}`);
  const away = state.nodes.filter((node) => node.state !== "up").map((node) => node.name);
  put($("nodes-note"), away.length ? `not up: ${away.slice(0, 3).join(", ")}${away.length > 3 ? ", …" : ""}` : "all known ones");

  const sum = { sent: 0, received: 0, dropped: 0 };
  for (const node of state.nodes) {
    const each = totals(node.counters);
    for (const kind of Object.keys(sum)) sum[kind] += each[kind];
  }
  put($("casts-sent"), shown(sum.sent));
  put($("casts-received"), shown(sum.received));
  put($("casts-dropped"), shown(sum.dropped));
  $("dropped-card").classList.toggle("is-bad", sum.dropped > 0);

  const summary = `Drift ${drift}, ${state.up} of ${state.nodes.length} nodes up, ${sum.dropped} messages dropped.`;
  if (summary !== summarised && performance.now() - summaryAt > SUMMARY_MS) {
    summaryAt = performance.now();
    summarised = summary;
    put($("summary"), summary);
  }
}

const TONES = { equal: "good", drift: "bad", unknown: "warn" };

function drawTables(state) {
  // What was found when whole tables were compared last: all modes have it, once somebody looks on.
  const found = state.drift;
  if (!found) return;
  const age = Math.max(0, Math.round((state.at - found.at) / 1000));
  put($("tables-when"), `${plural(found.nodes.length, "node")}, ${age < 2 ? "just now" : `${number.format(age)} s ago`}`);
  $("tables-verdict").className = `notice ${TONES[found.verdict]}`;
  const start = { equal: "All tables are equal.", drift: "Nodes differ", unknown: "It could not be told" }[found.verdict];
  put($("tables-verdict"), found.reason ? `${start}: ${found.reason}.` : start);
  const body = $("tables").tBodies[0];
  while (body.rows.length > found.tables.length) body.deleteRow(-1);
  found.tables.forEach((table, place) => {
    let row = body.rows[place];
    if (!row) {
      row = body.insertRow();
      row.append(element("th"), element("td"), element("td"));
      row.cells[0].scope = "row";
    }
    put(row.cells[0], table.name);
    put(row.cells[1], table.rows_differing === null ? "many" : shown(table.rows_differing));
    const spreads = Object.entries(table.counters).map(([column, spread]) => `${column} ${shown(spread)}`);
    put(row.cells[2], spreads.join(", ") || "–");
    for (const cell of [row.cells[1], row.cells[2]]) cell.className = `number ${TONES[table.verdict]}-text`;
  });
}

const BACKUP_LATE_S = 60;

function drawBackup(state) {
  // Each node uploads for itself. One that is down is left out: another one uploads for it.
  const nodes = state.nodes.filter((node) => node.state !== "down" && node.replication?.backup);
  $("card-backup").hidden = !nodes.length;
  if (!nodes.length) return;
  const backups = nodes.map((node) => node.replication.backup);
  const urls = [...new Set(backups.map((backup) => backup.url))];
  put($("backup-url"), urls.join(", "));
  const failing = nodes.find((node) => node.replication.backup.problem);
  const oldest = Math.max(...backups.map((backup) => backup.age_s));
  let [tone, verdict] = ["good", "All that these nodes have comes back with a restore."];
  if (oldest > 0) verdict = `With a restore all comes back but what was written in the last ${plural(Math.ceil(oldest), "second")}.`;
  if (oldest > BACKUP_LATE_S) tone = "warn";
  if (backups.every((backup) => !backup.snapshot)) [tone, verdict] = ["warn", "No snapshot is complete yet: nothing can be restored."];
  if (urls.length > 1) [tone, verdict] = ["bad", "The nodes do not upload to one place: see [backup] url."];
  if (failing) [tone, verdict] = ["bad", `${failing.name} uploads nothing: ${failing.replication.backup.problem}`];
  $("backup-verdict").className = `notice ${tone}`;
  put($("backup-verdict"), verdict);
  const body = $("backup-nodes").tBodies[0];
  while (body.rows.length > nodes.length) body.deleteRow(-1);
  nodes.forEach((node, place) => {
    let row = body.rows[place];
    if (!row) {
      row = body.insertRow();
      row.append(element("th"), element("td", "number"), element("td", "number"), element("td"));
      row.cells[0].scope = "row";
    }
    const backup = node.replication.backup;
    put(row.cells[0], node.name);
    put(row.cells[1], backup.snapshot ? shown(backup.snapshot) : "none");
    put(row.cells[2], backup.age_s > 0 ? `${number.format(Math.ceil(backup.age_s))} s` : "–");
    row.cells[2].className = `number${backup.age_s > BACKUP_LATE_S ? " warn-text" : ""}`;
    put(row.cells[3], backup.problem ? "uploads nothing" : backup.doing || (node.stale ? "last known" : "all is well"));
    row.cells[3].title = backup.problem;
    row.cells[3].className = backup.problem ? "bad-text" : "muted";
  });
}

const cards = new Map();

function drawNodes(state) {
  for (const [name, card] of cards) {
    if (!state.byNode.has(name)) {
      card.root.remove();
      cards.delete(name);
    }
  }
  for (const node of state.nodes) {
    let card = cards.get(node.name);
    if (!card) {
      const root = element("li", `node ${colours.get(node.name)}`);
      card = {
        root,
        name: element("span", "name", node.name),
        state: element("span"),
        about: element("span", "about"),
        replication: element("ul", "replication"),
      };
      card.name.title = node.name;
      root.append(element("span", "swatch"), card.name, card.state, card.about, card.replication);
      $("nodes").append(root);
      cards.set(node.name, card);
    }
    card.root.classList.toggle("is-down", node.state === "down");
    card.state.className = `state ${node.state}`;
    put(card.state, node.state);
    const parts = [node.region, node.self ? "this node" : node.address];
    if (!node.self && node.known_at === null) parts.splice(1, 0, "has not answered");
    else if (node.stale) parts.splice(1, 0, `last heard ${Math.max(1, Math.round((state.at - node.known_at) / 1000))} s ago`);
    put(card.about, parts.filter(Boolean).join(" · "));
    card.about.title = card.about.textContent;
    drawReplication(card.replication, replicationLines(node));
  }
}

function replicationLines(node) {
  // What mode convergent has to say of a node, each line with its class. The other modes say nothing.
  const told = node.replication;
  if (!told || node.state === "down") return [];
  const lines = [];
  if (told.problem) lines.push(["is-bad", told.problem]);
  if (told.catching_up) lines.push(["is-late", `catching up: ${told.catching_up}`]);
  if (told.behind) lines.push(["is-late", `behind by ${plural(told.behind, "site")}`]);
  if (told.waiting) lines.push(["is-late", `${plural(told.waiting, "changeset")} waiting`]);
  if (!told.ready && !told.problem) lines.push(["is-late", "joining"]);
  for (const note of told.notes) lines.push(["is-late", note]);
  return lines.length ? lines : [["is-good", "has merged all that its peers have"]];
}

function drawReplication(list, lines) {
  while (list.children.length > lines.length) list.lastElementChild.remove();
  lines.forEach(([className, text], place) => {
    const line = list.children[place] ?? list.appendChild(element("li"));
    line.className = className;
    line.title = text;
    put(line, text);
  });
}

const rows = new Map();
let columns = "";

function headings(table, state, first, second) {
  const row = element("tr");
  row.append(element("th", "", first));
  if (second) row.append(element("th", "number", second));
  for (const index of state.told) {
    const node = state.nodes[index];
    const cell = element("th", `number ${colours.get(node.name)}`);
    const name = element("span", "node-name", node.name);
    name.title = node.name;
    cell.append(element("span", "key"), name);
    row.append(cell);
  }
  for (const cell of row.children) cell.scope = "col";
  table.tHead.replaceChildren(row);
}

function choose(page) {
  chosen = page;
  $("page-name").value = page;
  if (samples.length) draw();
}

function pageRow(page, cells) {
  const root = element("tr");
  const head = element("th");
  head.scope = "row";
  const button = element("button", "choose page-name", page);
  button.type = "button";
  button.title = page;
  root.addEventListener("click", () => choose(page));
  head.append(button);
  root.append(head, ...Array.from({ length: cells }, () => element("td", "number")));
  return { root, button };
}

function drawPages(state) {
  const table = $("pages");
  const wanted = state.told.map((index) => state.nodes[index].name).join("\n");
  if (columns !== wanted) {
    columns = wanted;
    headings(table, state, "Page", "Drift");
    headings($("drops"), state, "Cause");
    rows.clear();
  }
  if (!rows.size && state.pages.length) table.tBodies[0].replaceChildren();
  for (const [page, row] of rows) {
    if (!state.byPage.has(page)) {
      row.root.remove();
      rows.delete(page);
    }
  }
  // By name: rows that trade places while somebody aims at one are a nuisance.
  const ordered = [...state.pages].sort((a, b) => (a.page < b.page ? -1 : 1));
  ordered.forEach((page, place) => {
    let row = rows.get(page.page);
    if (!row) {
      row = pageRow(page.page, state.told.length + 1);
      rows.set(page.page, row);
      table.tBodies[0].insertBefore(row.root, table.tBodies[0].children[place] ?? null);
    }
    row.root.classList.toggle("chosen", page.page === chosen);
    row.button.setAttribute("aria-pressed", String(page.page === chosen));
    state.told.forEach((index, column) => {
      const count = page.counts[index];
      const cell = row.root.children[column + 2];
      put(cell, count === null ? "?" : shown(count));
      cell.classList.toggle("stale", state.nodes[index].stale);
      cell.title = state.nodes[index].stale ? "last known" : "";
    });
    const cell = row.root.children[1];
    put(cell, shown(page.drift));
    cell.className = `number ${page.drift ? "bad-text" : "good-text"}`;
  });
}

function drawCauses(state) {
  const causes = [...new Set(state.nodes.flatMap((node) => Object.keys(node.counters)))];
  causes.sort((a, b) => isDrop(b) - isDrop(a) || (a < b ? -1 : 1));
  const body = $("drops").tBodies[0];
  while (body.rows.length > causes.length) body.deleteRow(-1);
  causes.forEach((cause, place) => {
    const row = body.rows[place] ?? body.insertRow();
    while (row.cells.length > state.told.length + 1) row.deleteCell(-1);
    while (row.cells.length < state.told.length + 1) row.append(element(row.cells.length ? "td" : "th"));
    row.cells[0].scope = "row";
    put(row.cells[0], cause.replaceAll("_", " "));
    state.told.forEach((index, column) => {
      const node = state.nodes[index];
      const count = node.counters[cause] ?? 0;
      const cell = row.cells[column + 1];
      put(cell, shown(count));
      cell.className = `number${isDrop(cause) && count ? " bad-text" : ""}${node.stale ? " stale" : ""}`;
    });
  });
}

function drawCharts(state) {
  const times = samples.map((sample) => sample.at);
  put($("chart-page"), chosen);
  charts.counts.set(times, state.told.map((told) => state.nodes[told]).map((node) => ({
    name: node.name,
    className: colours.get(node.name),
    values: samples.map((sample) => {
      const index = sample.byNode.get(node.name);
      if (index === undefined || sample.nodes[index].stale) return null;
      return sample.byPage.get(chosen)?.counts[index] ?? null;
    }),
  })));
  const drift = state.byPage.get(chosen)?.drift ?? 0;
  put($("page-drift"), shown(drift));
  $("page-drift").className = `value ${drift ? "bad-text" : "good-text"}`;
  charts.drift.set(times, [{
    name: "drift", className: "c-bad", values: samples.map((sample) => sample.byPage.get(chosen)?.drift ?? 0),
  }]);
  charts.casts.set(times, [
    { name: "sent", className: "c0", values: rates("sent") },
    { name: "received", className: "c2", values: rates("received") },
    { name: "dropped", className: "c-bad", values: rates("dropped") },
  ]);
  charts.up.set(times, [{ name: "up", className: "c-good", values: samples.map((sample) => sample.up) }]);
}

function noteChanges(before, state) {
  const news = [];
  for (const node of state.nodes) {
    const index = before.byNode.get(node.name);
    if (index === undefined) news.push(`${node.name} appeared, ${node.state}`);
    else if (before.nodes[index].state !== node.state) news.push(`${node.name}: ${before.nodes[index].state} → ${node.state}`);
    const [was, is] = [index === undefined ? null : before.nodes[index].replication, node.replication];
    if (was && is && was.problem !== is.problem) news.push(`${node.name}: ${is.problem || "its problem is gone"}`);
    if (was?.backup && is?.backup && Boolean(was.backup.problem) !== Boolean(is.backup.problem)) {
      news.push(is.backup.problem ? `${node.name} uploads nothing: ${is.backup.problem}` : `${node.name}: its backup goes on`);
    }
  }
  for (const node of before.nodes) if (!state.byNode.has(node.name)) news.push(`${node.name} is no longer known`);
  for (const text of news) addEvent(state.at, text);
}

function addEvent(at, text) {
  const list = $("events");
  if (list.firstElementChild?.classList.contains("muted")) list.replaceChildren();
  const item = element("li");
  item.append(element("time", "", clock.format(at)), text);
  list.prepend(item);
  while (list.children.length > EVENTS_MAX) list.lastElementChild.remove();
}

let drawing = false;

function draw() {
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(() => {
    drawing = false;
    const state = samples.at(-1);
    drawFigures(state);
    drawNodes(state);
    drawPages(state);
    drawTables(state);
    drawBackup(state);
    drawCauses(state);
    drawCharts(state);
  });
}

for (const [name, className] of [["sent", "c0"], ["received", "c2"], ["dropped", "c-bad"]]) {
  const item = element("li", className);
  item.append(element("span", "key"), name);
  $("casts-legend").append(item);
}

// ---------------------------------------------------------------- hearing from the node

let source = null;
let heardAt = performance.now();
let retry = 0;

function link(state, text) {
  document.body.dataset.link = state;
  put($("link-text"), text);
}

function lost() {
  source?.close();
  source = null;
  if (document.body.dataset.link === "live") addEvent(Date.now(), "this page lost its node");
  link("lost", "Reconnecting");
  clearTimeout(retry);
  retry = setTimeout(connect, RETRY_MS);
}

function connect() {
  source = new EventSource("/api/live");
  heardAt = performance.now();
  source.addEventListener("state", (event) => {
    heardAt = performance.now();
    link("live", "Live");
    const state = JSON.parse(event.data);
    const before = samples.at(-1);
    remember(state);
    if (before) noteChanges(before, state);
    draw();
  });
  // Whatever broke it, also a 503, which the browser itself would not try again.
  source.addEventListener("error", lost);
}

setInterval(() => {
  if (source && performance.now() - heardAt > SILENCE_MS) lost();
}, 1_000);
connect();

// ---------------------------------------------------------------- counting from here

async function countOnce(page) {
  const answer = await fetch(`/api/pages/${encodeURIComponent(page)}/views`, { method: "POST" });
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(body.error ?? `the node answered ${answer.status}`);
  return body;
}

async function count(times) {
  const page = $("page-name").value;
  const result = $("count-result");
  if (!$("count-form").reportValidity()) return;
  choose(page);
  const outcomes = await Promise.allSettled(Array.from({ length: times }, () => countOnce(page)));
  const done = outcomes.filter((outcome) => outcome.status === "fulfilled").map((outcome) => outcome.value);
  const failed = outcomes.find((outcome) => outcome.status === "rejected");
  const most = done.reduce((best, body) => Math.max(best, body.count), 0);
  let text = done.length ? `${page}: ${number.format(most)} on ${done[0].node}` : "";
  if (failed) text += `${text ? "; " : ""}${times - done.length} failed: ${failed.reason.message}`;
  result.textContent = text;
  result.classList.toggle("bad-text", Boolean(failed));
}

$("count-form").addEventListener("submit", (event) => {
  event.preventDefault();
  count(1);
});
$("count-many").addEventListener("click", () => count(25));
