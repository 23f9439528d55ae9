"use strict";
// Draws the recording that stands in the page. Times are microseconds since the call began; places are CSS pixels.
// Where few spans are in view, each is a bar of its own, an element that can be found and pointed at. Where they are
// more than BARS, a canvas shows for each lane and column of pixels which share of that time was busy.
(() => {
  const root = document.documentElement;
  addEventListener("error", (event) => { root.dataset.error = event.message; });
  document.addEventListener("securitypolicyviolation", (event) => { root.dataset.refused = event.violatedDirective; });

  const BARS = 3000;  // more elements make zooming slow; fewer show shares where single bars could be told apart
  const MARKS_SHOWN = 500;  // of a kind of mark of which there are more, none is shown until it is asked for
  const MARK_PIXELS = 9;  // marks of a kind that are nearer are shown as one
  const SHORTEST_VIEW = 0.05;  // microseconds; shorter ones would show what rounding has done to the times
  const FORMS = {
    started: "M-3-4L4 0L-3 4Z", sent: "M-3.2-2L3.2-2L0 2.4Z", returned: "M3-4L-4 0L3 4Z", failed: "M-3.5-3.5L3.5 3.5M3.5-3.5L-3.5 3.5",
    died: "M0-6L6 0L0 6L-6 0Z", withdrew: "M4 4V0A3 3 0 0 0 1-3H-4M-1.5-5.5L-4-3L-1.5-.5", ended: "M-4-4H4V4H-4Z",
  };
  const MEANING = {
    started: "worker started", sent: "chunk sent", returned: "chunk handed back", failed: "item failed",
    died: "worker died", withdrew: "back to the caller", ended: "ended by an error",
  };
  const OTHER_FORM = "M0-3.5A3.5 3.5 0 1 0 .01-3.5Z";

  const get = (id) => document.getElementById(id);
  const data = JSON.parse(get("recording").textContent);
  const plot = get("plot"), axis = get("axis"), area = get("lanes"), drawing = get("drawing"), canvas = get("shares");
  const tip = get("tip"), spans = data.spans, marks = data.marks, lanes = data.lanes.length;
  const ends = spans.began.map((began, at) => began + spans.us[at]);
  const total = ends.concat(marks.at).reduce((a, b) => Math.max(a, b), Math.max(data.us, SHORTEST_VIEW));

  // ---- elements, numbers and words ----

  function make(name, attributes, parent, text) {
    const element = document.createElementNS(drawing.namespaceURI, name);
    for (const key in attributes) element.setAttribute(key, attributes[key]);
    if (text !== undefined) element.textContent = text;
    if (parent) parent.append(element);
    return element;
  }

  const whole = (number) => number.toLocaleString("en");
  const several = (number, noun) => `${whole(number)} ${noun}${number === 1 ? "" : "s"}`;
  const UNITS = [[3.6e9, "h"], [6e7, "min"], [1e6, "s"], [1e3, "ms"], [1, "us"], [1e-3, "ns"]];

  function unitOf(us) { return UNITS.find(([size]) => us >= size) || UNITS[UNITS.length - 1]; }

  function inWords(us, digits = 4) {
    if (!us) return "0 s";
    const [size, name] = unitOf(us);
    return `${Number((us / size).toPrecision(digits))} ${name}`;
  }

  // A moment, as exactly as it is told from another one `step` away.
  function moment(us, step, unit = unitOf(Math.max(view.to, step))) {
    const decimals = Math.min(9, Math.max(0, Math.ceil(-Math.log10(step / unit[0]) - 1e-9)));
    return `${(us / unit[0]).toFixed(decimals)} ${unit[1]}`;
  }

  function bytesInWords(bytes) {
    for (const [size, name] of [[1e9, "GB"], [1e6, "MB"], [1e3, "kB"]])
      if (bytes >= size) return `${Number((bytes / size).toPrecision(3))} ${name}`;
    return several(bytes, "byte");
  }

  // ---- what is where ----

  // Of each lane its spans by when they began, and the latest end up to each, by which those in view are found.
  const rows = Array.from({ length: lanes }, () => ({ spans: [], latest: [] }));
  spans.began.map((_, at) => at).sort((a, b) => spans.began[a] - spans.began[b]).forEach((at) => {
    const row = rows[spans.lane[at]], before = row.latest.length ? row.latest[row.latest.length - 1] : 0;
    row.spans.push(at);
    row.latest.push(Math.max(before, ends[at]));
  });

  function firstWhere(length, holds) {
    let low = 0, high = length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (holds(middle)) high = middle; else low = middle + 1;
    }
    return low;
  }

  function inView(row, from, to) {
    return [
      firstWhere(row.spans.length, (at) => row.latest[at] >= from),
      firstWhere(row.spans.length, (at) => spans.began[row.spans[at]] > to),
    ];
  }

  const laneHeight = [[12, 28], [32, 21], [130, 14], [400, 8]].find(([most]) => lanes <= most)?.[1] || 5;
  const gap = laneHeight > 13 ? 5 : laneHeight > 8 ? 3 : 1;
  const TOP = 4, height = TOP + lanes * laneHeight + 4;
  const named = Math.max(1, Math.ceil(10 / laneHeight));  // every so-manieth lane has its name
  const left = Math.min(220, 16 + 6.8 * data.lanes.reduce((most, name) => Math.max(most, name.length), 4)), right = 52;
  const view = { from: 0, to: total };
  const hidden = new Set();
  const found = { lane: 0, span: -1 };
  let width = 100;

  const xOf = (us) => left + (us - view.from) / (view.to - view.from) * width;
  const usAt = (x) => view.from + (x - left) / width * (view.to - view.from);
  const yOf = (lane) => TOP + lane * laneHeight;
  const laneAt = (y) => Math.max(0, Math.min(lanes - 1, Math.floor((y - TOP) / laneHeight)));

  // ---- drawing ----

  const grid = make("g", {}, get("ground")), tracks = make("g", {}, get("ground")), bars = make("g", { id: "bars" }, drawing);
  const shapes = make("g", { id: "marks" }, drawing), names = make("g", {}, drawing);
  const chosen = make("rect", { class: "chosen", visibility: "hidden" }, drawing);

  function draw() {
    width = Math.max(50, plot.clientWidth - left - right);
    for (const svg of [get("ground"), drawing]) svg.setAttribute("height", height);
    drawAxis();
    drawLanes();
    const parts = rows.map((row) => inView(row, view.from, view.to));
    const count = parts.reduce((sum, [low, high]) => sum + high - low, 0);
    const single = count <= BARS;
    root.dataset.view = single ? "bars" : "shares";
    root.dataset.bars = single ? drawBars(parts) : drawBars([]);
    canvas.hidden = single;
    if (!single) drawShares(parts);
    root.dataset.marks = drawMarks();
    const step = (view.to - view.from) / 1000;
    get("range").textContent = `${moment(view.from, step)} to ${moment(view.to, step)}`;
  }

  function tickStep(least) {
    const large = [6e7, 12e7, 3e8, 6e8, 12e8, 18e8, 36e8, 72e8, 216e8, 432e8, 864e8];
    if (least > 3e7) return large.find((step) => step >= least) || Math.ceil(least / 864e8) * 864e8;
    if (least > 1e7) return least > 2e7 ? 3e7 : 2e7;
    const power = 10 ** Math.floor(Math.log10(least));
    return power * [1, 2, 5, 10].find((times) => times * power >= least * 0.999999);
  }

  function drawAxis() {
    axis.replaceChildren();
    grid.replaceChildren();
    const step = tickStep((view.to - view.from) / Math.max(1, width / 95));
    for (let count = Math.ceil(view.from / step); count * step <= view.to * 1.000001; count++) {
      const x = Math.round(xOf(count * step));
      make("line", { class: "grid", x1: x, x2: x, y1: 0, y2: height }, grid);
      const anchor = x < left + 20 ? "start" : x > left + width - 20 ? "end" : "middle";
      make("text", { x, y: 16, "text-anchor": anchor }, axis, count ? moment(count * step, step) : "0");
    }
    make("text", { x: left + width + right, y: 16, "text-anchor": "end" }, axis, "busy");
  }

  function drawLanes() {
    if (tracks.dataset.width === String(width)) return;
    tracks.dataset.width = width;
    tracks.replaceChildren();
    names.replaceChildren();
    const longest = Math.floor((left - 14) / 6.6), size = Math.min(12, Math.max(9, laneHeight - 2));
    data.lanes.forEach((name, lane) => {
      make("rect", { class: "track", x: left, y: yOf(lane), width, height: laneHeight - gap }, tracks);
      if (lane % named) return;
      const y = yOf(lane) + (laneHeight - gap) / 2 + size * 0.36;
      const short = name.length > longest ? name.slice(0, longest - 1) + "\u2026" : name;
      make("text", { class: "name", x: left - 10, y, "text-anchor": "end", "font-size": size }, names, short).style.fontSize = `${size}px`;
      make("text", { x: left + width + right, y, "text-anchor": "end" }, names, `${Math.round(data.busy[lane] * 100)}%`).style.fontSize = `${size}px`;
    });
  }

  function drawBars(parts) {
    const kept = bars.children;
    let count = 0;
    parts.forEach(([low, high], lane) => {
      for (let place = low; place < high; place++) {
        const at = rows[lane].spans[place], rect = kept[count] || make("rect", {}, bars);
        const from = Math.max(xOf(spans.began[at]), left), to = Math.min(xOf(ends[at]), left + width);
        const long = to - from > 4;
        const kinds = `bar ${lane ? "worker" : "caller"}${spans.failed[at] ? " failed" : ""}${at === found.span ? " found" : ""}`;
        rect.setAttribute("class", kinds);
        rect.setAttribute("x", from.toFixed(2));
        rect.setAttribute("y", yOf(lane));
        rect.setAttribute("width", Math.max(1, to - from - (long ? 1 : 0)).toFixed(2));  // neighbours are told apart
        rect.setAttribute("height", laneHeight - gap);
        rect.dataset.lane = lane;
        rect.dataset.first = spans.first[at];
        rect.dataset.items = spans.items[at];
        count++;
      }
    });
    while (kept.length > count) bars.lastChild.remove();
    return count;
  }

  // Adds to each column of a lane which share of its time the spans take, and which columns have a failed item.
  function sharesOf(row, [low, high], columns) {
    const whole = new Float64Array(columns + 2), part = new Float64Array(columns + 2), failed = new Uint8Array(columns + 2);
    const perUs = columns / (view.to - view.from);
    for (let place = low; place < high; place++) {
      const at = row.spans[place];
      const from = Math.max(0, (spans.began[at] - view.from) * perUs), to = Math.min(columns, (ends[at] - view.from) * perUs);
      if (to < from) continue;
      const one = Math.floor(from), other = Math.floor(to);
      if (one === other) {
        part[one] += to - from;
      } else {
        part[one] += one + 1 - from;
        part[other] += to - other;
        whole[one + 1] += 1;
        whole[other] -= 1;
      }
      if (spans.failed[at]) failed.fill(1, one, Math.min(columns, other + 1));
    }
    let sum = 0;
    for (let column = 0; column < columns; column++) {
      sum += whole[column];
      part[column] = Math.min(1, part[column] + sum);
    }
    return [part, failed];
  }

  function drawShares(parts) {
    const columns = Math.max(1, Math.round(width)), style = getComputedStyle(root);
    const dense = Math.min(window.devicePixelRatio || 1, Math.sqrt(6e7 / (columns * height)));
    canvas.width = Math.max(1, Math.floor(columns * dense));
    canvas.height = Math.max(1, Math.floor(height * dense));
    canvas.style.left = `${left}px`;
    canvas.style.width = `${columns}px`;
    canvas.style.height = `${height}px`;
    const brush = canvas.getContext("2d"), tall = laneHeight - gap;
    const [caller, worker, bad] = ["--caller", "--worker", "--bad"].map((name) => style.getPropertyValue(name));
    brush.scale(canvas.width / columns, canvas.height / height);
    parts.forEach((part, lane) => {
      const [shares, failed] = sharesOf(rows[lane], part, columns);
      for (let from = 0; from < columns;) {
        let to = from + 1;
        while (to < columns && shares[to] === shares[from] && failed[to] === failed[from]) to++;
        if (shares[from] > 0) {
          const high = Math.max(1, shares[from] * tall);
          brush.fillStyle = lane ? worker : caller;
          brush.fillRect(from, yOf(lane) + tall - high, to - from, high);
        }
        if (failed[from]) {
          brush.fillStyle = bad;
          brush.fillRect(from, yOf(lane), to - from, Math.max(1.5, tall / 4));
        }
        from = to;
      }
    });
  }

  const markOrder = marks.at.map((_, at) => at).sort((a, b) => marks.at[a] - marks.at[b]);
  let shown = [];  // the marks that are drawn, each with how many it stands for

  function drawMarks() {
    const near = new Map();
    shown = [];
    for (const at of markOrder) {
      const kind = data.kinds[marks.kind[at]];
      if (hidden.has(kind) || marks.at[at] < view.from || marks.at[at] > view.to) continue;
      const key = `${marks.lane[at]} ${kind}`, x = xOf(marks.at[at]), last = near.get(key);
      if (last && x - last.x < MARK_PIXELS) { last.count++; continue; }
      const mark = { at, x, kind, count: 1, lane: marks.lane[at] };
      near.set(key, mark);
      shown.push(mark);
    }
    shapes.replaceChildren();
    const scale = Math.min(1, Math.max(0.55, (laneHeight - gap) / 12));
    for (const mark of shown) {
      const y = yOf(mark.lane) + (mark.kind === "sent" ? -2 : (laneHeight - gap) / 2);  // what is often has its place between the lanes
      const place = `translate(${mark.x.toFixed(1)} ${y}) scale(${scale})`;
      const group = make("g", { class: `mark ${mark.kind}`, transform: place }, shapes);
      for (const part of ["halo", "form"]) make("path", { class: part, d: FORMS[mark.kind] || OTHER_FORM }, group);
    }
    return shown.length;
  }

  // ---- what is pointed at ----

  function aboutSpan(at) {
    const first = spans.first[at], items = spans.items[at], lines = [];
    if (spans.chunks[at] > 1) lines.push(`${several(items, "item")} in ${several(spans.chunks[at], "chunk")}, from item ${whole(first)} on`);
    else lines.push(items === 1 ? `item ${whole(first)}` : `items ${whole(first)} to ${whole(first + items - 1)}`);
    lines.push(`took ${inWords(spans.us[at])}` + (items > 1 ? `, ${inWords(spans.us[at] / items, 3)} an item` : ""));
    lines.push(`began at ${inWords(spans.began[at], 6)}`);
    if (spans.nbytes[at]) lines.push(`results: ${bytesInWords(spans.nbytes[at])}`);
    if (spans.failed[at]) lines.push(`${whole(spans.failed[at])} failed`);
    return lines;
  }

  function aboutMark(mark) {
    const kind = MEANING[mark.kind] || mark.kind, text = marks.text[mark.at];
    if (mark.count > 1) return `${whole(mark.count)} times: ${kind}` + (text ? `, first: ${text}` : "");
    return `${kind} at ${inWords(marks.at[mark.at], 6)}` + (text ? `: ${text}` : "");
  }

  function aboutColumn(lane, x) {
    const from = usAt(x - 1), to = usAt(x + 1), row = rows[lane], [low, high] = inView(row, from, to);
    const within = row.spans.slice(low, high).filter((at) => ends[at] >= from);
    if (within.length < 2) return within.flatMap(aboutSpan);
    const sum = (values) => within.reduce((count, at) => count + values[at], 0);
    const first = within.reduce((least, at) => Math.min(least, spans.first[at]), Infinity);
    const lines = [`${several(sum(spans.items), "item")} in ${several(sum(spans.chunks), "chunk")} here, from item ${whole(first)} on`];
    if (sum(spans.failed)) lines.push(`${whole(sum(spans.failed))} failed`);
    return lines.concat("zoom in to see them singly");
  }

  function spanAt(lane, x) {
    const row = rows[lane], [low, high] = inView(row, usAt(x - 3), usAt(x + 3));
    let best = -1, least = 3;
    for (let place = low; place < high; place++) {
      const at = row.spans[place];
      const away = Math.max(0, xOf(spans.began[at]) - x, x - Math.max(xOf(ends[at]), xOf(spans.began[at]) + 1));
      if (away < least) [best, least] = [at, away];
    }
    return best;
  }

  function point(x, y) {
    const lane = laneAt(y), lines = shown.filter((mark) => mark.lane === lane && Math.abs(mark.x - x) < 7).slice(0, 4).map(aboutMark);
    if (x >= left && x <= left + width) {
      if (root.dataset.view === "shares") return [lane, aboutColumn(lane, x).concat(lines)];
      const at = spanAt(lane, x);
      if (at >= 0) return [lane, aboutSpan(at).concat(lines)];
    }
    if (x < left || x > left + width) lines.push(`busy ${Math.round(data.busy[lane] * 100)}% of the call`);
    return [lane, lines];
  }

  function tell(lane, lines, pageX, pageY) {
    tip.hidden = !lines.length;
    if (tip.hidden) return;
    tip.replaceChildren();
    const heading = document.createElement("b");
    heading.textContent = data.lanes[lane];
    tip.append(heading, ...lines.map((line) => {
      const element = document.createElement("span");
      element.textContent = line;
      return element;
    }));
    const x = pageX + 14 + tip.offsetWidth > innerWidth ? pageX - 14 - tip.offsetWidth : pageX + 14;
    const y = pageY + 16 + tip.offsetHeight > innerHeight ? pageY - 10 - tip.offsetHeight : pageY + 16;
    tip.style.left = `${Math.max(4, x)}px`;
    tip.style.top = `${Math.max(4, y)}px`;
  }

  // ---- moving about ----

  let asked = false;

  function drawSoon() {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => { asked = false; draw(); });
  }

  function show(from, to) {
    const long = Math.min(total, Math.max(SHORTEST_VIEW, to - from));
    view.from = Math.min(Math.max(0, from), total - long);
    view.to = view.from + long;
    drawSoon();
  }

  function zoom(times, about = (view.from + view.to) / 2) {
    const long = Math.min(total, Math.max(SHORTEST_VIEW, (view.to - view.from) / times));
    const from = about - (about - view.from) * long / (view.to - view.from);
    show(from, from + long);
  }

  const move = (share) => { const by = share * (view.to - view.from); show(view.from + by, view.to + by); };

  function step(by) {
    const row = rows[found.lane];
    if (!row.spans.length) return tell(found.lane, ["ran nothing"], plot.getBoundingClientRect().left + left, area.getBoundingClientRect().top);
    const place = row.spans.indexOf(found.span);
    const inSight = inView(row, view.from, view.to)[0];
    const next = place < 0 ? inSight : place + by;
    found.span = row.spans[Math.max(0, Math.min(row.spans.length - 1, next))];
    const began = spans.began[found.span], long = view.to - view.from;
    if (began < view.from || began > view.to) show(began - long / 2, began + long / 2);
    choose();
    const box = area.getBoundingClientRect();
    tell(found.lane, aboutSpan(found.span), box.left + xOf(began), box.top + yOf(found.lane) + laneHeight);
  }

  function choose() {
    for (const [name, value] of Object.entries({ x: 1, y: yOf(found.lane) - 1, width: plot.clientWidth - 2, height: laneHeight - gap + 2, visibility: "visible" }))
      chosen.setAttribute(name, value);
    drawSoon();
  }

  function chooseLane(by) {
    const fresh = chosen.getAttribute("visibility") === "hidden";
    found.lane = Math.max(0, Math.min(lanes - 1, found.lane + (fresh ? 0 : by)));
    found.span = -1;
    choose();
    const box = area.getBoundingClientRect();
    tell(found.lane, [`busy ${Math.round(data.busy[found.lane] * 100)}% of the call`], box.left + left, box.top + yOf(found.lane) + laneHeight);
  }

  const KEYS = {
    "+": () => zoom(1.5), "=": () => zoom(1.5), "-": () => zoom(1 / 1.5), "0": () => show(0, total), Home: () => show(0, view.to - view.from),
    End: () => show(total, total + view.to - view.from), ArrowLeft: () => move(-0.2), ArrowRight: () => move(0.2),
    ArrowUp: () => chooseLane(-1), ArrowDown: () => chooseLane(1), n: () => step(1), p: () => step(-1), Escape: () => { tip.hidden = true; },
  };

  plot.addEventListener("keydown", (event) => {
    const act = event.ctrlKey || event.metaKey || event.altKey ? undefined : KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!act) return;
    event.preventDefault();
    act();
  });

  plot.addEventListener("wheel", (event) => {
    const x = event.clientX - area.getBoundingClientRect().left;
    if (x < left || x > left + width) return;  // beside the drawing the wheel scrolls the page
    if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) move(event.deltaX / width);
    else zoom(Math.exp(-Math.max(-200, Math.min(200, event.deltaMode ? event.deltaY * 30 : event.deltaY)) / 300), usAt(x));
    tip.hidden = true;
    event.preventDefault();
  }, { passive: false });

  let held = null;

  area.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    held = { x: event.clientX, y: event.clientY, from: view.from, to: view.to };
    area.setPointerCapture(event.pointerId);
    area.classList.add("held");
    tip.hidden = true;
  });
  area.addEventListener("pointermove", (event) => {
    if (held) {
      const by = (held.x - event.clientX) / width * (held.to - held.from);
      show(held.from + by, held.to + by);
      if (event.pointerType === "mouse") scrollBy(0, held.y - event.clientY);
      held.y = event.clientY;
      return;
    }
    const box = area.getBoundingClientRect();
    tell(...point(event.clientX - box.left, event.clientY - box.top), event.clientX, event.clientY);
  });
  for (const name of ["pointerup", "pointercancel"])
    area.addEventListener(name, () => { held = null; area.classList.remove("held"); });
  area.addEventListener("pointerleave", () => { tip.hidden = true; });

  get("closer").addEventListener("click", () => zoom(2));
  get("wider").addEventListener("click", () => zoom(0.5));
  get("whole").addEventListener("click", () => show(0, total));

  // ---- the legend ----

  function sample(parent) {
    const svg = make("svg", { viewBox: "-8 -7 16 14", "aria-hidden": "true" });
    parent.append(svg);
    return svg;
  }

  function entry(text, kinds) {
    const element = document.createElement("span");
    element.className = "entry";
    make("rect", { class: kinds, x: -7, y: -5, width: 14, height: 10 }, sample(element));
    element.append(text);
    get("legend").append(element);
  }

  function drawLegend() {
    entry("caller", "swatch caller");
    if (lanes > 1) entry("workers", "swatch worker");
    if (spans.failed.some((count) => count)) entry("with failed items", "swatch failed");
    data.kinds.forEach((kind, index) => {
      const count = marks.kind.reduce((sum, other) => sum + (other === index), 0), button = document.createElement("button");
      if (count > MARKS_SHOWN && (kind === "sent" || kind === "returned")) hidden.add(kind);
      button.type = "button";
      button.title = "Show or hide";
      button.setAttribute("aria-pressed", String(!hidden.has(kind)));
      const group = make("g", { class: `mark ${kind}` }, sample(button));
      make("path", { class: "form", d: FORMS[kind] || OTHER_FORM }, group);
      button.append(`${MEANING[kind] || kind} (${whole(count)})`);
      button.addEventListener("click", () => {
        if (!hidden.delete(kind)) hidden.add(kind);
        button.setAttribute("aria-pressed", String(!hidden.has(kind)));
        drawSoon();
      });
      get("legend").append(button);
    });
  }

  // ---- the beginning ----

  get("tools").hidden = plot.hidden = false;
  drawLegend();
  // An address that ends in "#1.5-2.25" opens the page at these seconds of the call.
  const wanted = /^#([\d.]+)-([\d.]+)$/.exec(location.hash);
  if (wanted && Number(wanted[1]) < Number(wanted[2])) {
    view.from = Math.min(total, Number(wanted[1]) * 1e6);
    view.to = Math.min(total, Number(wanted[2]) * 1e6);
    if (view.to - view.from < SHORTEST_VIEW) Object.assign(view, { from: 0, to: total });
  }
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const scheme = () => { root.dataset.scheme = dark.matches ? "dark" : "light"; };
  scheme();
  dark.addEventListener("change", () => { scheme(); draw(); });
  draw();
  let drawnWidth = plot.clientWidth;
  new ResizeObserver(() => {
    if (plot.clientWidth === drawnWidth) return;
    drawnWidth = plot.clientWidth;
    draw();
  }).observe(plot);
  window.amorsizeTimeline = { data, view, show, zoom };
})();
