// Draws a search tree that grows: the problem on the left, a column for each step of a solution.

import { svg } from "./dom.js";
import { score } from "./format.js";
import { layout } from "./tree.js";
import { Labels } from "./tree-labels.js";

const PAD = { left: 22, right: 24, top: 30, bottom: 16 };
const COLUMN = { least: 18, most: 190 };
const ROW = { least: 4, most: 30 };
const LABEL = { width: 96, room: 12 }; // of a finished step's answer; the row height that fits it
const REACH = 24; // pixels from a node within which a tap means it
const ZOOM = { step: 1.35, most: 8 };
const ANIMATED = 900; // nodes; larger trees jump to their places

/** Outlines of radius 1: what became of a step can be told without colours. */
export const SHAPES = {
  root: "M-1.25 0A1.25 1.25 0 1 0 1.25 0A1.25 1.25 0 1 0 -1.25 0Z",
  live: "M-1 0A1 1 0 1 0 1 0A1 1 0 1 0 -1 0Z",
  lookahead: "M-.8 0A.8 .8 0 1 0 .8 0A.8 .8 0 1 0 -.8 0Z",
  pruned: "M-.7 -.7L.7 .7M.7 -.7L-.7 .7",
  finished: "M-1 -1H1V1H-1Z",
};

export const MEANING = {
  live: "kept",
  pruned: "pruned",
  lookahead: "look-ahead",
  finished: "finished",
};

export class TreeView {
  /**
   * Draw into `frame`. `onSelect` is told of the node that the reader wants to read.
   */
  constructor(frame, onSelect) {
    this.frame = frame;
    this.onSelect = onSelect;
    this.columns = svg("g", { class: "columns", "aria-hidden": "true" });
    this.links = Object.fromEntries(
      ["pruned", "lookahead", "live", "winner"].map((kind) => [
        kind,
        svg("path", { class: `link ${kind}` }),
      ]),
    );
    this.items = svg("g", { role: "tree", "aria-label": "Search tree" });
    this.halo = svg("circle", { class: "halo", visibility: "hidden" });
    this.canvas = svg("g", {}, this.columns, ...Object.values(this.links), this.halo, this.items);
    this.svg = svg("svg", { class: "tree" }, this.canvas);
    frame.append(this.svg);
    this.labels = new Labels(frame);
    this.size = { width: 800, height: 480 }; // until the frame is first seen
    this.quiet = matchMedia("(prefers-reduced-motion: reduce)");
    this.clear();
    this.listen();
  }

  /** Forget the tree. */
  clear() {
    this.tree = null;
    this.selected = null;
    this.winner = new Set();
    this.drawn = new Map(); // node → its elements, and where it is now, on the way to its place
    this.items.replaceChildren();
    this.columns.replaceChildren();
    this.labels.clear();
    for (const link of Object.values(this.links)) link.removeAttribute("d");
    this.halo.setAttribute("visibility", "hidden");
    this.fit();
  }

  /** Draw `tree` as it is now. */
  update(tree) {
    this.tree = tree;
    this.place();
    for (const node of tree.nodes.values()) this.draw(node);
    if (!this.selected) this.select(tree.root, { tell: false });
    this.move();
  }

  /** Highlight the path to `leaf`, whose solution won. */
  crown(leaf) {
    this.winner = new Set(leaf ? [this.tree.root, ...leaf.path] : []);
    for (const node of this.winner) this.drawn.get(node)?.item.classList.add("winner");
    this.move();
  }

  select(node, { focus = false, tell = true } = {}) {
    this.drawn.get(this.selected)?.item.setAttribute("tabindex", -1);
    this.drawn.get(this.selected)?.item.setAttribute("aria-selected", "false");
    this.selected = node;
    const { item } = this.drawn.get(node);
    item.setAttribute("tabindex", 0);
    item.setAttribute("aria-selected", "true");
    if (focus) item.focus({ preventScroll: true });
    this.ring();
    if (tell) this.onSelect(node);
  }

  // -- where things are -----------------------------------------------------------------

  place() {
    const { width, height } = this.size;
    const { first, last, depth } = layout(this.tree);
    const share = (room, parts, { least, most }) => Math.min(most, Math.max(least, room / parts));
    this.dy = share(height - PAD.top - PAD.bottom, last - first + 1, ROW);
    const high = PAD.top + (last - first + 1) * this.dy + PAD.bottom;
    const shrink = Math.min(1, height / high);
    const labels = this.dy >= LABEL.room ? LABEL.width : 0;
    this.dx = share(width / shrink - PAD.left - PAD.right - labels, Math.max(1, depth), COLUMN);
    const radius = Math.min(6.5, Math.max(2, 0.34 * Math.min(this.dx, this.dy * 1.2)));
    if (radius !== this.radius) for (const entry of this.drawn.values()) entry.placed = false;
    this.radius = radius;
    this.scale = Math.min(shrink, width / (PAD.left + depth * this.dx + labels + PAD.right));
    const spare = Math.max(0, height / this.scale - high) / 2;
    this.origin = { x: PAD.left, y: PAD.top + spare + (0.5 - first) * this.dy };
    this.mark(depth);
    this.look();
  }

  /** Where a node belongs. */
  target(node) {
    return { x: this.origin.x + node.depth * this.dx, y: this.origin.y + node.row * this.dy };
  }

  /** Number the columns. */
  mark(depth) {
    const every = Math.ceil(26 / this.dx);
    const marks = [];
    for (let step = 1; step <= depth; step += every) {
      const x = this.origin.x + step * this.dx;
      marks.push(svg("line", { x1: x, x2: x, y1: 22, y2: 100_000 }));
      marks.push(svg("text", { x, y: 14 }, String(step)));
    }
    this.columns.replaceChildren(...marks);
  }

  // -- drawing --------------------------------------------------------------------------

  draw(node) {
    let entry = this.drawn.get(node);
    if (!entry) {
      const start = node.parent ? this.drawn.get(node.parent) : this.target(node);
      const item = svg("path", {
        role: "treeitem",
        tabindex: -1,
        "aria-selected": "false",
        "aria-level": node.depth + 1,
      });
      entry = { item, label: null, x: start.x, y: start.y, placed: false };
      this.drawn.set(node, entry);
      this.items.append(item);
    }
    const state = `${node.status}/${node.score}/${node.answer}/${node.children.length > 0}`;
    if (entry.state === state) return;
    entry.state = state;
    const { item } = entry;
    const kind = node.parent ? node.status : "root";
    item.setAttribute("d", SHAPES[kind]);
    item.setAttribute("class", `node ${kind}${this.winner.has(node) ? " winner" : ""}`);
    item.classList.toggle("tip", node.status === "live" && !node.children.length);
    if (node.score != null) item.dataset.score = Math.round(10 * node.score);
    item.setAttribute("aria-label", describe(node));
    if (node.isFinished && node.answer != null && !entry.label) {
      entry.placed = false;
      entry.label = this.labels.add(node.answer);
    }
  }

  /** Bring every node closer to its place, until all have arrived. */
  move() {
    cancelAnimationFrame(this.frameRequest);
    const jump = this.quiet.matches || this.drawn.size > ANIMATED;
    let moving = false;
    for (const [node, entry] of this.drawn) {
      const { x, y } = this.target(node);
      if (entry.placed && x === entry.x && y === entry.y) continue;
      entry.placed = true;
      const far = Math.abs(x - entry.x) + Math.abs(y - entry.y) > 0.5;
      const rate = far && !jump ? 0.22 : 1;
      moving ||= rate < 1;
      entry.x += rate * (x - entry.x);
      entry.y += rate * (y - entry.y);
      entry.item.setAttribute(
        "transform",
        `translate(${entry.x.toFixed(1)} ${entry.y.toFixed(1)}) scale(${this.radius})`,
      );
      if (entry.label) this.labels.put(entry.label, entry.x + this.radius + 7, entry.y);
    }
    this.link();
    this.ring();
    if (moving) this.frameRequest = requestAnimationFrame(() => this.move());
  }

  link() {
    const parts = { pruned: [], lookahead: [], live: [], winner: [] };
    for (const [node, { x, y }] of this.drawn) {
      if (!node.parent) continue;
      const from = this.drawn.get(node.parent);
      const middle = ((from.x + x) / 2).toFixed(1);
      const line = `M${from.x.toFixed(1)} ${from.y.toFixed(1)}C${middle} ${from.y.toFixed(1)} ${middle} ${y.toFixed(1)} ${x.toFixed(1)} ${y.toFixed(1)}`;
      const kind = this.winner.has(node) ? "winner" : node.isFinished ? "live" : node.status;
      parts[kind].push(line);
    }
    for (const [kind, lines] of Object.entries(parts))
      this.links[kind].setAttribute("d", lines.join(""));
  }

  ring() {
    const entry = this.drawn.get(this.selected);
    if (!entry) return;
    this.halo.setAttribute("visibility", "visible");
    for (const [name, value] of [
      ["cx", entry.x],
      ["cy", entry.y],
      ["r", this.radius + 5],
    ]) {
      this.halo.setAttribute(name, value);
    }
  }

  // -- looking --------------------------------------------------------------------------

  /** Show the whole tree. */
  fit() {
    this.zoom = 1;
    this.pan = { x: 0, y: 0 };
    this.look();
  }

  /** Zoom by `factor`, keeping the point (x, y) of the frame where it is. */
  magnify(factor, x = this.size.width / 2, y = this.size.height / 2) {
    const zoom = Math.min(ZOOM.most, Math.max(1, this.zoom * factor));
    const change = zoom / this.zoom;
    this.zoom = zoom;
    this.pan = { x: x - change * (x - this.pan.x), y: y - change * (y - this.pan.y) };
    this.look();
  }

  zoomIn() {
    this.magnify(ZOOM.step);
  }

  zoomOut() {
    this.magnify(1 / ZOOM.step);
  }

  look() {
    const { width, height } = this.size;
    const keep = (value, room) => Math.min(0, Math.max(room * (1 - this.zoom), value));
    this.pan = { x: keep(this.pan.x, width), y: keep(this.pan.y, height) };
    const scale = (this.scale ?? 1) * this.zoom;
    this.canvas.setAttribute("transform", `translate(${this.pan.x} ${this.pan.y}) scale(${scale})`);
    this.svg.classList.toggle("zoomed", this.zoom > 1);
    this.labels.look(this.pan, scale, (this.dy ?? 0) * scale >= LABEL.room);
  }

  // -- hands and keys -------------------------------------------------------------------

  listen() {
    let drag = null;
    this.svg.addEventListener("pointerdown", (event) => {
      drag = { x: event.clientX, y: event.clientY, pan: { ...this.pan }, moved: false };
    });
    this.svg.addEventListener("pointermove", (event) => {
      if (!drag || !event.buttons) return;
      const [x, y] = [event.clientX - drag.x, event.clientY - drag.y];
      drag.moved ||= Math.hypot(x, y) > 5;
      if (!drag.moved || this.zoom === 1) return;
      this.svg.setPointerCapture(event.pointerId);
      this.pan = { x: drag.pan.x + x, y: drag.pan.y + y };
      this.look();
    });
    this.svg.addEventListener("click", (event) => {
      if (drag?.moved) return;
      const node = this.nearest(event);
      if (node) this.select(node, { focus: true });
    });
    this.svg.addEventListener(
      "wheel",
      (event) => {
        if (!event.ctrlKey && !event.metaKey) return; // a plain wheel scrolls the page
        event.preventDefault();
        const { left, top } = this.svg.getBoundingClientRect();
        this.magnify(Math.exp(-event.deltaY / 200), event.clientX - left, event.clientY - top);
      },
      { passive: false },
    );
    this.items.addEventListener("keydown", (event) => this.key(event));
    // Asking the frame for its size instead would lay out the page each time.
    new ResizeObserver(([{ contentRect }]) => {
      if (!contentRect.width) return; // the other view is open
      this.size = contentRect;
      if (this.tree) this.update(this.tree);
    }).observe(this.frame);
  }

  nearest(event) {
    const { left, top } = this.svg.getBoundingClientRect();
    const scale = this.scale * this.zoom;
    const x = (event.clientX - left - this.pan.x) / scale;
    const y = (event.clientY - top - this.pan.y) / scale;
    let best = { node: null, distance: REACH / scale };
    for (const [node, entry] of this.drawn) {
      const distance = Math.hypot(entry.x - x, entry.y - y);
      if (distance < best.distance) best = { node, distance };
    }
    return best.node;
  }

  /** Arrow keys follow the tree: to the parent, the first child, up and down the column. */
  key(event) {
    const column = () =>
      [...this.drawn.keys()]
        .filter((n) => n.depth === this.selected.depth)
        .sort((a, b) => a.row - b.row);
    const beside = (by) => {
      const nodes = column();
      return nodes[nodes.indexOf(this.selected) + by];
    };
    const next = {
      ArrowLeft: () => this.selected.parent,
      ArrowRight: () =>
        this.selected.children.find((n) => this.winner.has(n)) ?? this.selected.children[0],
      ArrowUp: () => beside(-1),
      ArrowDown: () => beside(1),
      Home: () => this.tree.root,
    }[event.key]?.();
    if (!next) return;
    event.preventDefault();
    this.select(next, { focus: true });
    this.reveal(next);
  }

  /** Pan so that a node can be seen. */
  reveal(node) {
    const scale = this.scale * this.zoom;
    const { x, y } = this.drawn.get(node);
    const inside = (pan, at, room) =>
      Math.max(40 - at * scale, Math.min(room - 40 - at * scale, pan));
    if (this.zoom === 1) return;
    this.pan = {
      x: inside(this.pan.x, x, this.size.width),
      y: inside(this.pan.y, y, this.size.height),
    };
    this.look();
  }
}

/** A node in one line, also for those who cannot see it. */
function describe(node) {
  if (!node.parent) return "The problem";
  const parts = [`Step ${node.depth}`, MEANING[node.status]];
  if (node.score != null) parts.push(`score ${score(node.score)}`);
  if (node.answer != null) parts.push(`answer ${node.answer}`);
  return parts.join(", ");
}
