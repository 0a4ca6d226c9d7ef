// Answers beside the finished steps of a tree, typeset: a layer of HTML over the drawing, since
// mathematics cannot be set inside SVG everywhere.

import { h } from "./dom.js";
import { answer } from "./math.js";

export class Labels {
  constructor(frame) {
    this.layer = h("div", { class: "labels", "aria-hidden": "true" });
    frame.append(this.layer);
    this.clear();
  }

  clear() {
    this.layer.replaceChildren();
    this.set = new Map(); // answer → its label, set once
  }

  /** A label; most answers stand beside many steps. */
  add(text) {
    let label = this.set.get(text)?.cloneNode(true);
    if (!label) {
      label = h("span", {}, answer(text));
      this.set.set(text, label);
    }
    this.layer.append(label);
    return label;
  }

  /** Its left middle at a point of the drawing. */
  put(label, x, y) {
    label.style.transform = `translate(${x.toFixed(1)}px, ${y.toFixed(1)}px) translateY(-50%)`;
  }

  /** Follow the drawing's pan and scale; hide where there is no room to read. */
  look({ x, y }, scale, isLegible) {
    this.layer.style.transform = `translate(${x}px, ${y}px) scale(${scale})`;
    this.layer.hidden = !isLegible;
  }
}
