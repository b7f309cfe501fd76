// A timeline under AudioToLandmarks and Audio2Exp: sound, mouth, blinks, the face at any moment, a gain curve to drag.
// The curve lives in one text widget of the node alone, so that the graph works just the same without this file.

import { app } from "../../scripts/app.js";
import { draw, gainToY, HIT_PX, layout, themeOf, timeToX, xToTime, yToGain } from "./timeline_draw.js";
import { clamp, decodePayload, formatPoints, gainAt, MAX_GAIN, parsePoints, round } from "./timeline_points.js";
import { textsOf } from "./timeline_texts.js";

const WIDGETS = { PortraitTalkAudioToLandmarks: "gain_points", PortraitTalkAudio2Exp: "alpha_points" }; // by node
const OUTPUT = "portraittalk_timeline";
const MIN_HEIGHT = 230;
const MIN_NEW_WIDTH = 400; // of a node that a person adds; saved sizes are kept
const CHECK_MS = 300;
const MAX_RATIO = 4; // canvas pixels per CSS pixel, however far one zooms in
const GAIN_STEP = 0.05;

const living = new Set();
const left = new Map(); // name of a node → the element that a removed node of that name may have left on the page
let checking = null;

class Timeline {
  constructor(node) {
    this.node = node;
    this.track = null;
    this.shown = null; // the output that `track` was decoded from
    this.time = 0;
    this.hovered = -1;
    this.dragged = null; // the point under the mouse's button, itself a part of `points`
    this.pressAdded = this.clickAdded = false; // a point, by the last press, and by the first of a double click
    this.byKeys = false; // whether a focus ring helps
    this.drawn = "";
    this.element = document.createElement("div");
    this.element.className = "portraittalk-timeline";
    this.element.style.cssText = `position:relative;width:100%;height:100%;min-height:${MIN_HEIGHT - 20}px;`;
    this.canvas = document.createElement("canvas");
    // out of the flow: its own size must not hold the node open
    this.canvas.style.cssText = "position:absolute;inset:0;width:100%;height:100%;outline:none;touch-action:none;";
    this.canvas.tabIndex = 0;
    this.canvas.setAttribute("role", "slider");
    this.element.append(this.canvas);
    this.points = parsePoints(this.widget?.value);
    this.listen();
  }

  /** Name of the widget that holds the curve. */
  get curve() {
    return WIDGETS[this.node.comfyClass];
  }

  get widget() {
    return this.node.widgets?.find((widget) => widget.name === this.curve);
  }

  get wired() {
    const slot = this.node.inputs?.findIndex((input) => input.widget?.name === this.curve) ?? -1;
    return slot >= 0 && !!this.node.isInputConnected(slot);
  }

  /** Seconds on the time axis; before a run, what the points need. */
  get length() {
    if (this.track) return this.track.seconds;
    return Math.max(5, 1.1 * (this.points?.at(-1)?.[0] ?? 0));
  }

  get editable() {
    return !!this.points && !this.wired && (!!this.track || this.points.length > 0);
  }

  get size() {
    return { width: this.canvas.clientWidth, height: this.canvas.clientHeight };
  }

  /** Whether the curve differs from the one that the last run used. */
  get edited() {
    if (!this.track || !this.points || this.wired) return false;
    const { times, gain } = this.track.curves;
    const tolerance = times.length < this.track.frames ? 0.1 : 0.006; // long clips are sent as means
    return times.some((seconds, index) => Math.abs(gainAt(this.points, seconds) - gain[index]) > tolerance);
  }

  show(output) {
    const payload = output?.[OUTPUT]?.[0];
    if (!payload || payload === this.shown) return;
    this.shown = payload;
    this.track = decodePayload(payload);
    this.time = clamp(this.time, 0, this.length);
    this.redraw();
  }

  /** What the page calls this node: inside a subgraph with the subgraph's own name. */
  get name() {
    const { graph, id } = this.node;
    return graph?.isRootGraph === false ? `${graph.id}:${id}` : String(id);
  }

  /** Read what others may have changed: the text, the outputs, the theme, the zoom. */
  check() {
    this.read();
    this.show(app.nodeOutputs?.[this.name]);
    this.takePlace();
    if (this.element.isConnected && this.signature() !== this.drawn) this.redraw();
  }

  read() {
    if (!this.dragged && this.widget) this.points = parsePoints(this.widget.value);
  }

  /** Undo makes the nodes anew, but the newer renderer may go on showing the former node's element. */
  takePlace() {
    const former = left.get(this.name);
    if (!former) return;
    left.delete(this.name);
    if (former !== this.element && former.isConnected && !this.element.isConnected) former.replaceWith(this.element);
  }

  signature() {
    const { width, height } = this.size;
    const seen = [width, height, this.ratio(), this.widget?.value, this.wired, this.locale(), !!this.track];
    return JSON.stringify([...seen, themeOf(this.element)]);
  }

  locale() {
    return app.extensionManager?.setting?.get?.("Comfy.Locale");
  }

  /** Canvas pixels per CSS pixel: the screen's times the graph's zoom. */
  ratio() {
    const zoom = this.canvas.getBoundingClientRect().width / (this.canvas.clientWidth || 1) || 1;
    return Math.ceil(clamp((window.devicePixelRatio || 1) * zoom, 1, MAX_RATIO) * 4) / 4;
  }

  redraw() {
    this.asked ??= requestAnimationFrame(() => {
      this.asked = null;
      this.drawNow();
    });
  }

  drawNow() {
    const { width, height } = this.size;
    if (!this.element.isConnected || width < 40 || height < 40) return;
    this.read();
    const ratio = this.ratio();
    const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
    if (this.canvas.width !== w || this.canvas.height !== h) Object.assign(this.canvas, { width: w, height: h });
    const pen = this.canvas.getContext("2d");
    pen.setTransform(w / width, 0, 0, h / height, 0, 0);
    const { track, points, wired, length, time, edited } = this;
    const [theme, texts] = [themeOf(this.element), textsOf(this.locale(), this.curve)];
    const focused = this.byKeys && this.canvas.matches(":focus");
    const hovered = this.dragged ? points.indexOf(this.dragged) : this.hovered;
    draw(pen, { width, height, theme, texts, track, points, wired, length, time, hovered, edited, focused });
    this.describe(texts);
    this.drawn = this.signature();
  }

  /** For screen readers. */
  describe(texts) {
    const spoken = this.track || this.points?.length ? `${this.time.toFixed(2)} s, ${texts.gain} ${this.gainText()}` : texts.empty;
    const values = { label: texts.label, valuemin: 0, valuemax: round(this.length, 2), valuenow: round(this.time, 2) };
    for (const [key, value] of Object.entries({ ...values, valuetext: spoken })) {
      this.canvas.setAttribute(`aria-${key}`, value);
    }
  }

  gainText() {
    return this.points ? gainAt(this.points, this.time).toFixed(2) : "?";
  }

  // ---- changes ----

  /** Write the points where they live. */
  write() {
    const { widget, node } = this;
    const text = formatPoints(this.points);
    if (!widget || widget.value === text) return;
    widget.value = text;
    widget.callback?.(text, app.canvas, node);
    if (node.graph?.incrementVersion) node.graph.incrementVersion();
    else if (node.graph) node.graph._version++;
    node.setDirtyCanvas?.(true, true);
    this.redraw();
  }

  /** One step for undo. */
  step(change) {
    app.canvas?.emitBeforeChange?.();
    try {
      change();
      this.write();
    } finally {
      app.canvas?.emitAfterChange?.();
    }
  }

  remove(index) {
    this.step(() => this.points.splice(index, 1));
    this.hovered = -1;
    this.redraw();
  }

  addPoint(point) {
    this.points.push(point);
    this.points.sort((a, b) => a[0] - b[0]);
    return point;
  }

  move(point, x, y) {
    const { gain: lane } = layout(this.size.width, this.size.height);
    point[0] = round(xToTime(lane, x, this.length), 3);
    // 1 is what one most often wants back
    point[1] = Math.abs(y - gainToY(lane, 1)) < 3 ? 1 : round(yToGain(lane, y), 2);
    this.points.sort((a, b) => a[0] - b[0]);
    this.time = point[0];
  }

  hit(x, y) {
    const { gain: lane } = layout(this.size.width, this.size.height);
    const away = (this.points ?? []).map(([seconds, gain]) =>
      Math.hypot(timeToX(lane, seconds, this.length) - x, gainToY(lane, gain) - y),
    );
    const least = Math.min(...away);
    return least <= HIT_PX ? away.indexOf(least) : -1;
  }

  // ---- mouse and keys ----

  listen() {
    const on = (type, handler) => this.canvas.addEventListener(type, (event) => handler.call(this, event));
    on("pointerdown", this.onDown);
    on("pointermove", this.onMove);
    on("pointerup", this.onUp);
    on("pointercancel", this.onUp);
    on("pointerleave", () => {
      this.hovered = -1;
      this.redraw();
    });
    on("click", this.onClick);
    on("dblclick", this.onDoubleClick);
    on("contextmenu", this.onMenu);
    on("wheel", this.onWheel);
    on("keydown", this.onKey);
    on("keyup", this.showFocus); // as when Tab arrives here
    on("blur", this.redraw);
    this.observer = new ResizeObserver(() => this.redraw());
    this.observer.observe(this.canvas);
  }

  /** The mouse in the canvas's own pixels, whatever the graph's zoom. */
  place(event) {
    const box = this.canvas.getBoundingClientRect();
    const { width, height } = this.size;
    const [x, y] = [((event.clientX - box.left) * width) / box.width, ((event.clientY - box.top) * height) / box.height];
    const { gain, mouth } = layout(width, height);
    const within = x >= gain.x - HIT_PX && x <= gain.x + gain.w + HIT_PX;
    const inGain = within && y >= gain.y - 4 && y <= gain.y + gain.h + 4;
    return { x, y, inGain, inLanes: within && y >= mouth.y && y <= gain.y + gain.h + 4 };
  }

  showFocus() {
    this.byKeys = true;
    this.redraw();
  }

  onDown(event) {
    this.byKeys = false;
    if (event.button === 1) app.canvas?.processMouseDown?.(event);
    if (event.button !== 0) return;
    const { x, y, inGain } = this.place(event);
    this.canvas.focus({ preventScroll: true });
    if (!inGain || !this.editable) return;
    event.stopPropagation();
    this.canvas.setPointerCapture?.(event.pointerId);
    app.canvas?.emitBeforeChange?.();
    const index = this.hit(x, y);
    this.pressAdded = index < 0;
    if (index >= 0) {
      this.dragged = this.points[index];
      this.grip = [x, y];
      return;
    }
    this.dragged = this.addPoint([0, 1]);
    this.move(this.dragged, x, y);
    this.write();
  }

  onMove(event) {
    if ((event.buttons & 4) === 4) app.canvas?.processMouseMove?.(event);
    const { x, y, inGain, inLanes } = this.place(event);
    if (this.dragged) {
      // a click on a point must not move it
      if (this.grip && Math.hypot(x - this.grip[0], y - this.grip[1]) < 2) return;
      this.grip = null;
      this.move(this.dragged, x, y);
      this.write();
    } else {
      this.hovered = inGain && this.editable ? this.hit(x, y) : -1;
      const { gain: lane } = layout(this.size.width, this.size.height);
      if (inLanes && (this.track || this.points?.length)) this.time = xToTime(lane, x, this.length);
    }
    const over = inGain && this.editable;
    this.canvas.style.cursor = this.dragged ? "grabbing" : this.hovered >= 0 ? "grab" : over ? "crosshair" : "default";
    this.redraw();
  }

  onUp(event) {
    if (event.button === 1) app.canvas?.processMouseUp?.(event);
    if (!this.dragged) return;
    this.dragged = this.grip = null;
    this.write();
    app.canvas?.emitAfterChange?.();
    this.redraw();
  }

  onClick(event) {
    if (event.detail === 1) this.clickAdded = this.pressAdded;
  }

  onDoubleClick(event) {
    event.stopPropagation();
    const { x, y, inGain } = this.place(event);
    const index = inGain && this.editable ? this.hit(x, y) : -1;
    if (index >= 0 && !this.clickAdded) this.remove(index);
  }

  onMenu(event) {
    const { x, y, inGain } = this.place(event);
    const index = inGain && this.editable ? this.hit(x, y) : -1;
    if (index < 0) return;
    event.preventDefault();
    event.stopPropagation();
    this.remove(index);
  }

  /** The wheel zooms the graph, as it does beside the timeline; the newer renderer sees to that itself. */
  onWheel(event) {
    if (window.LiteGraph?.vueNodesMode) return;
    event.preventDefault();
    event.stopPropagation();
    app.canvas?.processMouseWheel?.(event);
  }

  onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const frame = event.shiftKey ? 1 : 1 / (this.track?.fps ?? 25);
    const acts = {
      ArrowLeft: () => this.seek(this.time - frame),
      ArrowRight: () => this.seek(this.time + frame),
      Home: () => this.seek(0),
      End: () => this.seek(this.length),
      ArrowUp: () => this.nudge(GAIN_STEP),
      ArrowDown: () => this.nudge(-GAIN_STEP),
      Enter: () => this.nudge(0),
      Delete: () => this.removeHere(),
      Backspace: () => this.removeHere(),
    };
    if (!acts[event.key]) return;
    event.preventDefault();
    event.stopPropagation(); // Delete would take the node away
    acts[event.key]();
  }

  seek(seconds) {
    this.time = clamp(seconds, 0, this.length);
    this.redraw();
  }

  /** Index of the point under the time line, −1 if none. */
  here() {
    const { gain: lane } = layout(this.size.width, this.size.height);
    const x = timeToX(lane, this.time, this.length);
    const away = (this.points ?? []).map((point) => Math.abs(timeToX(lane, point[0], this.length) - x));
    const least = Math.min(...away);
    return least <= 3 ? away.indexOf(least) : -1;
  }

  nudge(by) {
    if (!this.editable) return;
    this.step(() => {
      const index = this.here();
      const now = [round(this.time, 3), gainAt(this.points, this.time)];
      const point = index >= 0 ? this.points[index] : this.addPoint(now);
      point[1] = round(clamp(point[1] + by, 0, MAX_GAIN), 2);
    });
  }

  removeHere() {
    const index = this.editable ? this.here() : -1;
    if (index >= 0) this.remove(index);
  }

  // ---- life ----

  start() {
    living.add(this);
    checking ??= setInterval(() => living.forEach((timeline) => timeline.check()), CHECK_MS);
  }

  stop() {
    living.delete(this);
    if (this.node.id !== -1) left.set(this.name, this.element);
    if (living.size) return;
    clearInterval(checking);
    checking = null;
  }
}

/** Call `extra` after whatever a node's hook did before. */
function after(object, hook, extra) {
  const before = object[hook];
  object[hook] = function (...given) {
    const result = before?.apply(this, given);
    extra.apply(this, given);
    return result;
  };
}

function addTimeline(node) {
  const timeline = new Timeline(node);
  const widget = node.addDOMWidget("timeline", "portraittalk_timeline", timeline.element, {
    serialize: false,
    getMinHeight: () => MIN_HEIGHT,
    getValue: () => "",
    setValue: () => {},
  });
  widget.serialize = false; // neither in the prompt nor in the workflow: the points have their own widget
  node.portraittalkTimeline = timeline;
  if (timeline.widget) after(timeline.widget, "callback", () => timeline.check());
  after(node, "onExecuted", (output) => timeline.show(output));
  after(node, "onConfigure", () => timeline.check());
  after(node, "onAdded", () => timeline.start());
  after(node, "onRemoved", () => timeline.stop());
  timeline.start();
  const [width, height] = node.computeSize();
  node.setSize([Math.max(width, node.size[0], MIN_NEW_WIDTH), Math.max(height, node.size[1])]);
}

app.registerExtension({
  name: "PortraitTalk.Timeline",
  nodeCreated(node) {
    if (node.comfyClass in WIDGETS && node.addDOMWidget) addTimeline(node);
  },
});
