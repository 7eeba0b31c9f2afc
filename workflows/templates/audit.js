"use strict";
// The plots of an audit: drawn from numbers in the page, so that scales can change and data sets be left out.

const SVG = "http://www.w3.org/2000/svg";
const PAD = { left: 52, right: 14, top: 12, bottom: 44 };
const HEIGHT = 250;
const plots = JSON.parse(document.getElementById("plots").textContent);
const hidden = new Set(); // numbers of data sets that are left out
const drawn = [];

function node(parent, name, attributes = {}, text = "") {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text) made.textContent = text;
  parent.append(made);
  return made;
}

function html(parent, name, attributes = {}, text = "") {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  parent.append(made);
  return made;
}

const percent = (value, digits = 1) => (value === null ? "–" : `${(100 * value).toFixed(digits)} %`);
const whole = (value) => value.toLocaleString("en");

/** Round numbers from low to high, at most `steps` of them. */
function ticks(low, high, steps) {
  if (!(high > low)) return [low];
  const power = 10 ** Math.floor(Math.log10((high - low) / steps));
  const step = [1, 2, 5, 10, 20].map((factor) => factor * power).find((size) => (high - low) / size <= steps + 1e-9);
  const first = Math.ceil(low / step - 1e-9);
  const count = Math.floor(high / step + 1e-9) - first;
  return Array.from({ length: count + 1 }, (_, k) => Number(((first + k) * step).toPrecision(12)));
}

const decades = (low, high) => {
  const found = [];
  for (let power = Math.floor(Math.log10(low) + 1e-9); 10 ** power <= high * 1.000001; power += 1) {
    if (10 ** power >= low * 0.999999) found.push(Number((10 ** power).toPrecision(6)));
  }
  return found;
};

const shortShare = (value) => {
  const shown = 100 * value;
  return `${shown >= 1 || shown === 0 ? Number(shown.toFixed(shown < 10 ? 1 : 0)) : Number(shown.toPrecision(1))} %`;
};

class Plot {
  constructor(place, spec) {
    this.place = place;
    this.spec = spec;
    this.log = false;
    this.cumulative = false;
    this.at = null; // the part under the pointer
    this.flag = null; // index of a chosen threshold
    this.tools = html(place, "div", { class: "tools" });
    this.svg = node(place, "svg", { role: "img", tabindex: "0", "aria-label": `${spec.title}; numbers in the table below` });
    this.readout = html(place, "div", { class: "readout", "aria-live": "polite" });
    this.#addTools();
    this.svg.addEventListener("pointermove", (event) => this.#point(event));
    this.svg.addEventListener("pointerleave", () => this.#show(null));
    this.svg.addEventListener("blur", () => this.#show(null));
    this.svg.addEventListener("keydown", (event) => this.#key(event));
    new ResizeObserver(() => this.draw()).observe(place);
  }

  get #isLine() { return this.spec.kind === "lines"; }
  get #parts() { return this.spec.parts.length; }
  get #shown() { return this.spec.series.filter((one, number) => !(this.spec.byDataSet && hidden.has(number))); }

  #addTools() {
    if (["bars", "steps"].includes(this.spec.kind)) this.#tool("log scale", "log");
    if (this.spec.cumulates) this.#tool("cumulative", "cumulative");
    if (!this.spec.byDataSet) {
      for (const one of this.spec.series) {
        const key = html(this.tools, "span", { class: `quiet s${one.colour}` });
        html(key, "span", { class: "swatch" });
        key.append(one.name);
      }
    }
  }

  #tool(label, name) {
    const button = html(this.tools, "button", { type: "button", "aria-pressed": "false" }, label);
    button.addEventListener("click", () => {
      this[name] = !this[name];
      button.setAttribute("aria-pressed", String(this[name]));
      this.draw();
    });
  }

  /** Values of a series as they are shown. */
  #values(one) {
    if (!this.cumulative) return one.values;
    let sum = 0;
    return one.values.map((value) => (sum += value ?? 0));
  }

  #scales() {
    const { edges, logX, kind } = this.spec;
    this.width = Math.max(220, this.place.clientWidth);
    const room = this.width - PAD.left - PAD.right;
    const place = logX ? Math.log10 : (value) => value;
    const [low, high] = edges.length ? [place(edges[0]), place(edges[edges.length - 1])] : [0, this.#parts];
    this.x = (value) => PAD.left + (room * (place(value) - low)) / (high - low || 1);
    if (!edges.length) this.x = (value) => PAD.left + (room * value) / this.#parts;
    const all = this.#shown.flatMap((one) => [...this.#values(one), ...one.high]).filter((value) => value !== null);
    const bottom = PAD.top + HEIGHT - PAD.top - PAD.bottom;
    let top = Math.max(...all, 1e-9);
    let floor = 0;
    if (kind === "points" || kind === "lines") {
      const least = Math.min(...this.#shown.flatMap((one) => [...one.values, ...one.low]).filter((value) => value !== null));
      [floor, top] = [least > 0.55 ? Math.floor(least * 20) / 20 : 0, 1];
    }
    if (this.log) {
      const least = Math.min(...all.filter((value) => value > 0), top);
      const start = Math.floor(Math.log10(least));
      this.yTicks = decades(10 ** start, top);
      this.y = (value) =>
        bottom - ((bottom - PAD.top) * Math.max(0, Math.log10(Math.max(value, 1e-12)) - start)) / (Math.log10(top) - start || 1);
      if (this.yTicks.length > 6) this.yTicks = this.yTicks.filter((_, n) => n % 2 === 0);
    } else {
      this.yTicks = ticks(floor, top, 5);
      this.y = (value) => bottom - ((bottom - PAD.top) * (value - floor)) / (top - floor);
    }
    this.bottom = bottom;
  }

  draw() {
    this.#scales();
    this.svg.replaceChildren();
    this.svg.setAttribute("viewBox", `0 0 ${this.width} ${HEIGHT}`);
    this.svg.setAttribute("height", HEIGHT);
    for (const value of this.yTicks) {
      node(this.svg, "line", { class: "grid", x1: PAD.left, x2: this.width - PAD.right, y1: this.y(value), y2: this.y(value) });
      node(this.svg, "text", { class: "end", x: PAD.left - 7, y: this.y(value) }, shortShare(value));
    }
    this.#drawX();
    const marks = { bars: () => this.#bars(), steps: () => this.#steps(), points: () => this.#points(), lines: () => this.#lines() };
    marks[this.spec.kind]();
    node(this.svg, "line", { class: "base", x1: PAD.left, x2: this.width - PAD.right, y1: this.bottom, y2: this.bottom });
    if (this.flag !== null) {
      const x = this.x(this.spec.edges[this.flag]);
      node(this.svg, "line", { class: "flag", x1: x, x2: x, y1: PAD.top, y2: this.bottom });
    }
    this.cross = node(this.svg, "line", { class: "cross", y1: PAD.top, y2: this.bottom, visibility: "hidden" });
    this.#show(this.at);
  }

  #drawX() {
    const { edges, parts, xLabel, logX } = this.spec;
    const y = this.bottom + 15;
    if (edges.length) {
      const marks = logX ? decades(edges[0], edges[edges.length - 1]) : ticks(edges[0], edges[edges.length - 1], this.width / 90);
      for (const value of marks) node(this.svg, "text", { class: "mid", x: this.x(value), y }, String(value));
    } else {
      const room = (this.width - PAD.left - PAD.right) / this.#parts;
      const longest = Math.max(...parts.map((part) => part.length));
      parts.forEach((part, n) => {
        const x = this.x(n + 0.5);
        if (longest * 6.5 <= room) node(this.svg, "text", { class: "mid", x, y }, part);
        else if (room >= 13) {
          const short = part.length > 13 ? `${part.slice(0, 12)}…` : part;
          node(this.svg, "text", { class: "end", transform: `translate(${x + 3} ${y - 8}) rotate(-32)`, "font-size": 10 }, short);
        }
      });
      if (longest * 6.5 > room) return;
    }
    node(this.svg, "text", { class: "mid", x: (PAD.left + this.width - PAD.right) / 2, y: this.bottom + 34 }, xLabel);
  }

  #bars() {
    const shown = this.#shown;
    const room = (this.width - PAD.left - PAD.right) / this.#parts;
    const width = (room * 0.78) / Math.max(1, shown.length);
    shown.forEach((one, number) => {
      this.#values(one).forEach((value, part) => {
        if (!value) return;
        const x = this.x(part) + room * 0.11 + number * width;
        node(this.svg, "rect", { class: `mark s${one.colour}`, x, width: Math.max(1, width - 1), y: this.y(value), height: Math.max(0, this.bottom - this.y(value)), rx: 2 });
      });
    });
  }

  #steps() {
    const { edges } = this.spec;
    for (const one of this.#shown) {
      const values = this.#values(one);
      const path = values.map((value, n) => `${n ? "L" : "M"}${this.x(edges[n])} ${this.y(value ?? 0)}H${this.x(edges[n + 1])}`).join("");
      const closed = `M${this.x(edges[0])} ${this.bottom}${path.replace("M", "L")}V${this.bottom}Z`;
      node(this.svg, "path", { class: `fill s${one.colour}`, d: closed });
      node(this.svg, "path", { class: `line s${one.colour}`, d: path });
    }
  }

  #points() {
    const shown = this.#shown;
    shown.forEach((one, number) => {
      one.values.forEach((value, part) => {
        if (value === null) return;
        const x = this.x(part + 0.5) + (number - (shown.length - 1) / 2) * 16;
        node(this.svg, "line", { class: `whisker s${one.colour}`, x1: x, x2: x, y1: this.y(one.low[part]), y2: this.y(one.high[part]) });
        node(this.svg, "circle", { class: `mark s${one.colour}`, cx: x, cy: this.y(value), r: 5 });
      });
    });
  }

  #lines() {
    const { edges, markers } = this.spec;
    for (const one of this.#shown) {
      if (one.low.length) {
        const upper = edges.map((at, n) => `${this.x(at)} ${this.y(one.high[n])}`);
        const lower = edges.map((at, n) => `${this.x(at)} ${this.y(one.low[n])}`).reverse();
        node(this.svg, "path", { class: `band s${one.colour}`, d: `M${[...upper, ...lower].join("L")}Z` });
      }
      const points = edges.map((at, n) => `${this.x(at)} ${this.y(one.values[n])}`);
      node(this.svg, "path", { class: `line s${one.colour}`, d: `M${points.join("L")}` });
    }
    markers.forEach(({ at, label }, n) => {
      const x = this.x(at);
      node(this.svg, "line", { class: "flag", x1: x, x2: x, y1: PAD.top, y2: this.bottom });
      node(this.svg, "text", { class: x > this.width / 2 ? "end" : "", x: x + (x > this.width / 2 ? -5 : 5), y: this.bottom - 10 - 15 * n }, label);
    });
  }

  #point(event) {
    const box = this.svg.getBoundingClientRect();
    this.#show(this.#partAt(((event.clientX - box.left) * this.width) / box.width));
  }

  /** The bin, bar or point that lies at x px. */
  #partAt(x) {
    const { edges } = this.spec;
    if (!edges.length) return Math.min(this.#parts - 1, Math.max(0, Math.floor(((x - PAD.left) / (this.width - PAD.left - PAD.right)) * this.#parts)));
    if (this.#isLine) return edges.reduce((best, at, n) => (Math.abs(this.x(at) - x) < Math.abs(this.x(edges[best]) - x) ? n : best), 0);
    return Math.max(0, Math.min(this.#parts - 1, edges.findIndex((at) => this.x(at) > x) - 1 + (x > this.x(edges[edges.length - 1]) ? edges.length : 0)));
  }

  #key(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    this.#show(Math.min(this.#parts - 1, Math.max(0, (this.at ?? -step) + step)));
  }

  /** Say what the part under the pointer holds; nothing for null. */
  #show(part) {
    this.at = part;
    this.readout.classList.toggle("on", part !== null);
    if (!this.cross) return;
    this.cross.setAttribute("visibility", part === null ? "hidden" : "visible");
    if (part === null) return;
    const { edges } = this.spec;
    const x = !edges.length ? this.x(part + 0.5) : this.#isLine ? this.x(edges[part]) : (this.x(edges[part]) + this.x(edges[part + 1])) / 2;
    this.cross.setAttribute("x1", x);
    this.cross.setAttribute("x2", x);
    this.readout.replaceChildren();
    html(this.readout, "b", {}, `${this.cumulative ? "up to " : ""}${this.spec.parts[part]}`);
    for (const one of this.#shown) {
      const line = html(this.readout, "div", { class: `s${one.colour}` });
      html(line, "span", { class: "swatch" });
      line.append(this.#words(one, part));
    }
    const left = x > this.width / 2 ? x - this.readout.offsetWidth - 12 : x + 12;
    this.readout.style.left = `${Math.max(0, left)}px`;
    this.readout.style.top = `${this.svg.offsetTop + PAD.top}px`;
  }

  #words(one, part) {
    const value = percent(this.#values(one)[part] ?? null);
    const name = this.spec.series.length > 1 ? `${one.name}: ` : "";
    if (one.low.length) return `${name}${value} (${percent(one.low[part])} to ${percent(one.high[part])}) of ${whole(one.counts[part])}`;
    const count = one.counts.length && !this.cumulative ? ` · ${whole(one.counts[part])} ${this.spec.unit}` : "";
    return `${name}${value}${count}`;
  }

  describe(part) {
    return this.#shown.map((one) => this.#words(one, part)).join(" · ");
  }
}

/** Small maps of the image, one per data set: how many centres each cell holds, relative to an even spread. */
class Maps {
  constructor(place, spec) {
    place.classList.add("maps");
    this.figures = spec.series.map((one) => {
      const figure = html(place, "figure");
      const side = Math.round(Math.sqrt(one.values.length));
      const svg = node(figure, "svg", { viewBox: `0 0 ${side} ${side}`, role: "img", "aria-label": `${one.name}: where masks lie` });
      const caption = html(figure, "figcaption", {}, one.name);
      const most = [...one.values].sort((a, b) => a - b)[Math.floor(one.values.length * 0.995)] || 1;
      one.values.forEach((value, cell) => {
        const rect = node(svg, "rect", { class: `mark s${one.colour}`, x: cell % side, y: Math.floor(cell / side), width: 1.02, height: 1.02, "fill-opacity": Math.min(1, value / most).toFixed(3) });
        rect.addEventListener("pointerenter", () => {
          caption.textContent = `${one.name}: ${(value * one.values.length).toFixed(2)} times an even spread`;
        });
      });
      svg.addEventListener("pointerleave", () => { caption.textContent = one.name; });
      return figure;
    });
  }

  draw() {
    this.figures.forEach((figure, number) => { figure.hidden = hidden.has(number); });
  }
}

for (const place of document.querySelectorAll("[data-plot]")) {
  const spec = plots[Number(place.dataset.plot)];
  const plot = spec.kind === "maps" ? new Maps(place, spec) : new Plot(place, spec);
  drawn[Number(place.dataset.plot)] = plot;
  plot.draw();
}

for (const button of document.querySelectorAll("[data-series]")) {
  button.addEventListener("click", () => {
    const number = Number(button.dataset.series);
    if (hidden.has(number)) hidden.delete(number);
    else if (hidden.size + 1 < document.querySelectorAll("[data-series]").length) hidden.add(number);
    button.setAttribute("aria-pressed", String(!hidden.has(number)));
    for (const plot of drawn) plot?.draw();
  });
}

for (const slider of document.querySelectorAll("[data-slider]")) {
  const plot = drawn[Number(slider.dataset.slider)];
  const output = slider.parentElement.querySelector("output");
  const say = () => {
    plot.flag = Number(slider.value);
    output.textContent = plot.spec.edges[plot.flag].toFixed(3);
    plot.draw();
    slider.setAttribute("aria-valuetext", `${output.textContent}: ${plot.describe(plot.flag)}`);
    slider.title = plot.describe(plot.flag);
    said.textContent = plot.describe(plot.flag);
  };
  const said = html(slider.closest("[data-curve]"), "p", { class: "quiet" });
  slider.closest("label").after(said);
  slider.addEventListener("input", say);
  say();
}

for (const choice of document.querySelectorAll("[data-choice]")) {
  const buttons = [...choice.children];
  const curves = [...choice.parentElement.querySelectorAll("[data-curve]")];
  buttons.forEach((button, number) => {
    button.addEventListener("click", () => {
      buttons.forEach((other, n) => other.setAttribute("aria-pressed", String(n === number)));
      curves.forEach((curve, n) => { curve.hidden = n !== number; });
    });
  });
}
