"use strict";
const D = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);

/* An element with properties and children; text is never parsed as markup. */
function el(name, properties = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key === "style") node.style.cssText = value;
    else if (key in node) node[key] = value;
    else node.setAttribute(key, value);
  }
  node.append(...children);
  return node;
}

function scaled(value, base, units, space) {
  let at = -1;
  while (value >= 999.5 && at + 1 < units.length) { value /= base; at++; }
  if (at < 0) return null;
  const digits = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
  return value.toFixed(digits) + space + units[at];
}
const bytes = (n) => n < 1024 ? `${n} B` : scaled(n, 1024, ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"], " ");
const count = (n) => n < 1e6 ? n.toLocaleString("en") : scaled(n, 1000, ["k", "M", "G", "T", "P", "E"], "");
const percent = (n) => `${(n * 100).toFixed(1)}%`;
const counted = (n, noun) => `${count(n)} ${noun}${n === 1 ? "" : "s"}`;
const error = (e, exact) => e === null ? "" : exact ? "exact" : `±${(e * 100).toFixed(e < 0.1 ? 1 : 0)}%`;
function time(ns) {
  if (ns === null) return "–";
  const units = [[6e10, "min"], [1e9, "s"], [1e6, "ms"], [1e3, "µs"]];
  const [unit, name] = units.find(([unit]) => ns >= unit) || [1, "ns"];
  const value = ns / unit;
  return `${value < 9.95 ? value.toFixed(1) : value.toFixed(0)} ${name}`;
}

/* A lifetime that objects did not outlive, or did where buckets have no end. */
const life = (ns, beyond) => ns === null ? "–" : `${beyond ? "≥" : "≤"} ${time(ns)}`;

/* The tree of calls: flat arrays, parents before their children. */
const nodes = D.nodes.map(([name, parent, ...figures]) => ({
  name: D.names[name], parent, children: [],
  values: figures.slice(0, D.types.length), errors: figures.slice(D.types.length),
}));
nodes.forEach((node, at) => { if (node.parent !== null) nodes[node.parent].children.push(at); });
nodes.forEach((node) => { node.depth = node.parent === null ? 0 : nodes[node.parent].depth + 1; });

const asked = new URLSearchParams(location.hash.slice(1));
const state = { zoom: 0, hang: asked.get("icicle") === "1", search: asked.get("search") || "" };
/* Which figure: the one asked for, or else the first that has a value. */
state.type = D.types.findIndex((type) => type.key === asked.get("type"));
if (state.type < 0) state.type = Math.max(0, nodes[0].values.findIndex((value) => value > 0));
if (asked.get("zoom")) state.zoom = Math.max(0, nodes.findIndex((node) => node.name.includes(asked.get("zoom"))));

const figure = (value) => D.types[state.type].unit === "bytes" ? bytes(value) : count(value);

function hue(name) {
  let hash = 0;
  for (let i = 0; i < name.length; i++) hash = (hash * 31 + name.charCodeAt(i)) >>> 0;
  return 95 + hash % 90;
}

/* What the search means: its text, where a name has that (`[T]` does not mean every T),
   or else a regular expression. */
function matcher() {
  if (!state.search) return null;
  const text = state.search.toLowerCase(), contains = (name) => name.toLowerCase().includes(text);
  if (D.names.some(contains)) return contains;
  try { const expression = new RegExp(state.search, "i"); return (name) => expression.test(name); }
  catch { return contains; }
}

const ROW = 18, LEAST = 0.0005;

/* Draws the graph; gives the frame that fills it. */
function draw() {
  const graph = $("graph"), type = state.type, matches = matcher();
  graph.replaceChildren();
  $("hang").setAttribute("aria-pressed", state.hang);
  const root = nodes[state.zoom], whole = root.values[type];
  if (!whole) {
    graph.style.height = "3em";
    const { nothing } = D.types[type], under = state.zoom ? ` under ${root.name}.` : "";
    graph.append(el("p", { className: "note", textContent: under ? nothing.slice(0, -1) + under : nothing }));
    $("found").textContent = $("detail").textContent = "";
    return null;
  }
  const shown = [];
  for (let at = state.zoom, up = []; ; ) {
    if (nodes[at].parent === null) { up.forEach((at) => shown.push([at, 0, 1, true])); break; }
    at = nodes[at].parent; up.push(at);
  }
  let deepest = root.depth, found = 0;
  const visit = (at, left, covered) => {
    const node = nodes[at], width = node.values[type] / whole;
    const hit = matches !== null && matches(node.name);
    if (hit && !covered) found += node.values[type];
    const drawn = width >= LEAST;
    if (drawn) { shown.push([at, left, width, false]); deepest = Math.max(deepest, node.depth); }
    else if (!matches) return;
    let x = left;
    for (const child of node.children) {
      visit(child, x, covered || hit);
      x += nodes[child].values[type] / whole;
    }
  };
  visit(state.zoom, 0, false);
  graph.style.height = `${(deepest + 1) * ROW}px`;
  const all = nodes[0].values[type];
  let filling = null;
  for (const [at, left, width, around] of shown) {
    const node = nodes[at], row = state.hang ? node.depth : deepest - node.depth;
    const thousandths = node.errors[type], bar = thousandths === null ? null : thousandths / 1000;
    const text = `${node.name}: ${figure(node.values[type])} ${error(bar, thousandths === 0)}, ${percent(node.values[type] / all)}`;
    const frame = el("div", {
      className: "frame", title: text, textContent: width > 0.012 ? node.name : "", tabIndex: 0, role: "button",
      style: `left:${left * 100}%;width:${width * 100}%;top:${row * ROW}px;--hue:${hue(node.name)}`,
    });
    if (around) frame.classList.add("around");
    if (matches && matches(node.name)) frame.classList.add("match");
    if (at === state.zoom) filling = frame;
    // Drawing replaces the frame that has the focus.
    frame.onclick = () => { state.zoom = at; draw()?.focus(); };
    frame.onkeydown = (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault(); // Space scrolls.
      frame.onclick();
    };
    frame.onmouseenter = frame.onfocus = () => { $("detail").textContent = text; };
    graph.append(frame);
  }
  $("found").textContent = matches ? `found in ${percent(found / whole)}` : "";
  return filling;
}

function row(cells, kind = "td") {
  return el("tr", {}, ...cells.map((cell) => {
    if (cell instanceof Node) return el(kind, {}, cell);
    const [content, className] = Array.isArray(cell) ? cell : [cell, ""];
    return el(kind, { className }, content);
  }));
}
const bar = (share) => [el("div", { className: "track" }, el("div", { className: "fill", style: `width:${Math.min(100, share * 100)}%` })), "bar"];

function sites() {
  const key = D.types[state.type].part, unit = D.types[state.type].unit;
  const value = (site) => unit === "bytes" ? site[key].bytes : site[key].objects;
  const total = D.sites_total[key][unit === "bytes" ? "bytes" : "objects"];
  const best = D.sites.filter((site) => value(site) > 0).sort((a, b) => value(b) - value(a)).slice(0, 25);
  const body = best.map((site) => {
    const frames = site.frames.map((frame) => el("li", { textContent: frame }));
    const stack = el("details", {}, el("summary", { textContent: site.title }), el("ol", {}, ...frames));
    return row([figure(value(site)), error(site[key][`${unit}_error`], site[key].exact), percent(value(site) / total), count(site[key].samples),
      count(site[key].objects), time(site.age_ns), life(site.median_ns, site.median_beyond), [stack, "text"]]);
  });
  const head = row([D.types[state.type].title, "error", "share", "samples", "objects", "mean age", "median life", ["stack", "text"]], "th");
  $("sites").replaceChildren(head, ...body);
}

function choose(at) {
  state.type = at;
  [...$("types").children].forEach((tab, place) => {
    tab.setAttribute("aria-selected", place === at);
    tab.tabIndex = place === at ? 0 : -1;
    if (place === at) $("panel").setAttribute("aria-labelledby", tab.id);
  });
  draw(); sites();
}

/* The keys of a list of tabs: the tab they go to is chosen. */
function chooseByKey(event) {
  const last = D.types.length - 1, at = state.type;
  const to = { ArrowLeft: at ? at - 1 : last, ArrowRight: at < last ? at + 1 : 0, Home: 0, End: last }[event.key];
  if (to === undefined || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  choose(to);
  $("types").children[to].focus();
}

function page() {
  document.title = `Heap profile of ${D.program}`;
  $("title").textContent = `Heap profile of ${D.program}`;
  $("facts").textContent = D.facts;
  for (const loss of D.losses) $("losses").append(el("div", { className: "warn", textContent: loss }));
  for (const [name, value, note] of D.tiles)
    $("tiles").append(el("div", { className: "tile" }, el("small", { textContent: name }), el("b", { textContent: value }), el("small", { textContent: note })));
  D.types.forEach((type, at) => $("types").append(
    el("button", { role: "tab", id: `type-${type.key}`, "aria-controls": "panel", textContent: type.title, onclick: () => choose(at) })));
  $("types").onkeydown = chooseByKey;

  const parts = D.memory.filter((part) => part.bytes > 0);
  const all = parts.reduce((sum, part) => sum + part.bytes, 0) || 1;
  parts.forEach((part, at) => $("split").append(
    el("div", { style: `flex:${part.bytes} 0 0;background:var(--p${at % 7})`, title: `${part.name}: ${bytes(part.bytes)}` })));
  $("memory").append(row([["part", "text"], "bytes", "share"], "th"), ...parts.map((part, at) =>
    row([[el("span", {}, el("span", { className: "key", style: `background:var(--p${at % 7})` }), part.name), "text"],
      bytes(part.bytes), percent(part.bytes / all)])));
  if (D.not_resident) {
    $("memory").after(el("p", { className: "note", textContent: `Of these ${bytes(D.not_resident)} are not resident, being untouched.` }));
  }

  const most = Math.max(1, ...D.lifetimes.map((age) => age.objects));
  for (const age of D.lifetimes) {
    const label = age.still ? "in use" : age.bound_ns === null ? "more" : `<${time(age.bound_ns)}`;
    $("ages").append(el("div", { className: age.still ? "open" : "", style: `height:${age.objects / most * 100}%`, title: `${label}: ${counted(age.objects, "object")}` }));
    $("age-labels").append(el("span", { textContent: label }));
  }

  const groups = (table, rows, empty) => {
    if (!rows.length) { $(table).replaceWith(el("p", { className: "note", textContent: empty })); return; }
    const largest = Math.max(1, ...rows.map((group) => group.in_use.bytes));
    $(table).append(row([["name", "text"], "in use", "error", ["", "bar"], "allocated", "error"], "th"), ...rows.map((group) =>
      row([[group.name || "(none)", "text"], bytes(group.in_use.bytes), error(group.in_use.bytes_error, group.in_use.exact),
        bar(group.in_use.bytes / largest), bytes(group.allocated.bytes), error(group.allocated.bytes_error, group.allocated.exact)])));
  };
  groups("threads", D.threads, "Nothing was sampled.");
  // What was outside of all spans is a group, too, without a name.
  groups("spans", D.spans.some((span) => span.name) ? D.spans : [], "Nothing was sampled in a span of tracing.");

  const live = Math.max(1, ...D.classes.map((size) => size.live_bytes));
  $("classes").append(row(["block", "allocations", "frees", "in use", "bytes in use", ["", "bar"], "asked for", "error", "waste", "half live", "90% live"], "th"),
    ...D.classes.map((size) => row([(size.large ? "≤ " : "") + bytes(size.block_bytes), count(size.allocs), count(size.frees),
      count(size.live_blocks), bytes(size.live_bytes), bar(size.live_bytes / live),
      size.asked === null ? "–" : (size.exact ? "" : "~") + bytes(Math.round(size.asked)), error(size.asked_error, size.exact),
      size.waste === null ? "–" : (size.exact ? "" : "~") + percent(size.waste),
      life(size.median_ns, size.median_beyond), life(size.most_ns, size.most_beyond)])));

  $("search").value = state.search;
  $("search").oninput = () => { state.search = $("search").value; draw(); };
  $("hang").onclick = () => { state.hang = !state.hang; draw(); };
  $("whole").onclick = () => { state.zoom = 0; draw(); };
  choose(state.type);
}
page();
