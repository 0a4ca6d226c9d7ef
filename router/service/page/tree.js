// The search tree: what the service said of each step, and where each step is drawn.

import { said } from "./thoughts.js";

const MAX_DRAWN = 4000; // steps; a longer search is counted on, but not drawn on

const CUT_GAP = 0.6; // rows between two siblings that were pruned

/** A step of the search. Node 0 is the problem. */
class Node {
  constructor(id, parent) {
    this.id = id;
    this.parent = parent;
    this.children = [];
    this.depth = parent ? parent.depth + 1 : 0;
    this.row = 0; // where it is drawn, in rows
    this.offset = 0; // from the parent's row
  }

  /** Steps from the first one to this one. */
  get path() {
    const path = [];
    for (let node = this; node.parent; node = node.parent) path.unshift(node);
    return path;
  }

  get isFinished() {
    return this.status === "finished";
  }
}

export class Tree {
  constructor() {
    this.nodes = new Map();
    this.left = 0; // steps that are not drawn
  }

  get root() {
    return this.nodes.get(0);
  }

  get finished() {
    return [...this.nodes.values()].filter((node) => node.isFinished);
  }

  /**
   * What the tree has cost so far: a generation is one sample in a column, and look-ahead counts in
   * the column that it starts from, so the fullest column tells (Snell et al. 2024, sec. 5.2).
   */
  get usage() {
    const columns = [0];
    let tokens = 0;
    for (const node of this.nodes.values()) {
      if (!node.parent) continue;
      let start = node;
      while (start.status === "lookahead" && start.parent) start = start.parent;
      columns[start.depth] = (columns[start.depth] ?? 0) + 1;
      tokens = tokens === null || node.tokens == null ? null : tokens + node.tokens;
    }
    return { generations: Math.max(...columns.filter(Boolean), 0), sampled_tokens: tokens };
  }

  /** Take over what the service sent: new steps, and steps whose status or score changed. */
  merge(records) {
    for (const { id, parent, ...facts } of records) {
      let node = this.nodes.get(id);
      if (!node) {
        const above = this.nodes.get(parent);
        if ((id !== 0 && !above) || this.nodes.size >= MAX_DRAWN) {
          this.left += 1;
          continue;
        }
        node = new Node(id, above ?? null);
        this.nodes.set(id, node);
        above?.children.push(node);
      }
      Object.assign(node, facts);
    }
  }

  /** The finished step whose solution says `text`, thoughts apart; null if there is none. */
  leaf(text) {
    const whole = (node) => node.path.map((step) => step.text).join("");
    const wanted = said(text);
    return this.finished.find((node) => said(whole(node)) === wanted) ?? null;
  }
}

/**
 * Give every node its row: children in order, one row apart at least, a parent in the middle of its
 * children (Reingold and Tilford 1981, by merging the contours of subtrees).
 *
 * Returns the first and last row, and the largest depth.
 */
export function layout(tree) {
  const nodes = [...tree.nodes.values()];
  const contours = new Map();
  for (const node of nodes.toReversed()) contours.set(node, enclose(node, contours));
  const extent = { first: 0, last: 0, depth: 0 };
  for (const node of nodes) {
    node.row = node.parent ? node.parent.row + node.offset : 0;
    extent.first = Math.min(extent.first, node.row);
    extent.last = Math.max(extent.last, node.row);
    extent.depth = Math.max(extent.depth, node.depth);
  }
  return extent;
}

/**
 * Place the children of a node. Returns its subtree's contour: the lowest and highest row at each
 * depth below the node, relative to the node's own row.
 */
function enclose(node, contours) {
  const below = [];
  let previous = null;
  for (const child of node.children) {
    const contour = contours.get(child);
    const gap = isCut(child) && isCut(previous) ? CUT_GAP : 1;
    const overlaps = contour
      .slice(0, below.length)
      .map(([low], depth) => below[depth][1] - low + gap);
    previous = child;
    child.offset = Math.max(...overlaps, below.length ? -Infinity : 0);
    contour.forEach(([low, high], depth) => {
      const start = below[depth]?.[0] ?? low + child.offset;
      below[depth] = [start, high + child.offset];
    });
  }
  const middle = node.children.length ? node.children.at(-1).offset / 2 : 0;
  for (const child of node.children) child.offset -= middle;
  return [[0, 0], ...below.map(([low, high]) => [low - middle, high - middle])];
}

const isCut = (node) => node?.status === "pruned";
