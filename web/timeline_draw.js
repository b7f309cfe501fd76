// Draws a timeline into a canvas. Everything is in the canvas's own CSS pixels.

import { clamp, gainAt, MAX_GAIN, nearest } from "./timeline_points.js";

export const HIT_PX = 8;
const PAD = 10;
const SIDE_BY_SIDE_FROM = 300; // narrower ones, and upright ones, have the face above the curves
const GAP = 6;
const READOUT_H = 18;
const AXIS_H = 16;
const FONT = "11px Inter, system-ui, sans-serif";
const SMALL_FONT = "10px Inter, system-ui, sans-serif";
const ON_DARK = { mouth: "#e8833a", gain: "#3f9ae0", blink: "#9a8fe0", warning: "#e0635f" };
const ON_LIGHT = { mouth: "#a8480a", gain: "#10599a", blink: "#5443b0", warning: "#a61b17" };
const STEPS_S = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600];

const probe = document.createElement("canvas").getContext("2d");

/** Colours of the page's theme as this element inherits them, and curves that stand out from its background. */
export function themeOf(element) {
  const style = getComputedStyle(element);
  const of = (name, otherwise) => style.getPropertyValue(name).trim() || otherwise;
  const back = of("--comfy-input-bg", "#222");
  return {
    back,
    text: of("--input-text", "#ddd"),
    faint: of("--descrip-text", "#999"),
    line: of("--border-color", "#4e4e4e"),
    ...(isLight(back) ? ON_LIGHT : ON_DARK),
  };
}

function isLight(colour) {
  probe.fillStyle = "#222";
  probe.fillStyle = colour; // the canvas turns any notation into #rrggbb or rgba()
  const hex = /^#(..)(..)(..)$/.exec(probe.fillStyle);
  if (!hex) return false;
  const [red, green, blue] = hex.slice(1).map((part) => parseInt(part, 16));
  return 0.3 * red + 0.59 * green + 0.11 * blue > 140;
}

/** Where everything lies: rectangles { x, y, w, h }. */
export function layout(width, height) {
  const beside = width >= SIDE_BY_SIDE_FROM && width >= 1.2 * height;
  const inner = { x: PAD, y: PAD, w: width - 2 * PAD, h: height - 2 * PAD };
  const faceW = beside ? clamp(inner.h * 0.7, 90, inner.w * 0.3) : inner.w;
  const faceH = beside ? inner.h : inner.h * 0.34;
  const face = { x: inner.x, y: inner.y, w: faceW, h: faceH };
  const x = beside ? inner.x + faceW + PAD : inner.x;
  const top = beside ? inner.y : inner.y + faceH + GAP;
  const w = inner.x + inner.w - x;
  const lanes = inner.y + inner.h - top - READOUT_H - AXIS_H - 2 * GAP;
  const [mouthH, blinkH, gainH] = [lanes * 0.42, lanes * 0.14, lanes * 0.44];
  const readout = { x, y: top, w, h: READOUT_H };
  const mouth = { x, y: top + READOUT_H, w, h: mouthH };
  const blink = { x, y: mouth.y + mouthH + GAP, w, h: blinkH };
  const gain = { x, y: blink.y + blinkH + GAP, w, h: gainH };
  return { face, readout, mouth, blink, gain, axis: { x, y: gain.y + gainH, w, h: AXIS_H } };
}

export const timeToX = (lane, seconds, length) => lane.x + (seconds / length) * lane.w;
export const xToTime = (lane, x, length) => clamp((x - lane.x) / lane.w, 0, 1) * length;
export const gainToY = (lane, gain) => lane.y + lane.h - (gain / MAX_GAIN) * lane.h;
export const yToGain = (lane, y) => clamp((lane.y + lane.h - y) / lane.h, 0, 1) * MAX_GAIN;

/** Seconds on a clock: 1.25, or 2:05 in clips of a minute and more. */
export function clock(seconds, length, digits) {
  if (length < 60) return seconds.toFixed(digits);
  const tenths = Math.round(seconds * 10);
  const minutes = Math.floor(tenths / 600);
  const rest = (tenths - 600 * minutes) / 10;
  return `${minutes}:${digits ? rest.toFixed(1).padStart(4, "0") : String(Math.floor(rest)).padStart(2, "0")}`;
}

/**
 * Draw everything.
 *
 * view: width, height, theme, texts, track (decoded payload or null), points (null: broken text), wired, length
 * (seconds), time (seconds), hovered (index of a point or −1), edited, focused.
 */
export function draw(pen, view) {
  const { width, height, theme, texts, track, points } = view;
  const at = layout(width, height);
  pen.clearRect(0, 0, width, height);
  pen.fillStyle = theme.back;
  box(pen, 0, 0, width, height, 6);
  pen.fill();
  if (view.focused) outline(pen, width, height, theme);
  if (!track && !points?.length && points) {
    say(pen, texts.empty, width / 2, height / 2, theme.faint);
    return;
  }
  if (track) {
    drawFace(pen, at.face, view);
    drawMouth(pen, at.mouth, view);
    drawBlink(pen, at.blink, view);
  } else {
    say(pen, texts.empty, at.mouth.x + at.mouth.w / 2, at.mouth.y + at.mouth.h / 2, theme.faint);
  }
  drawGain(pen, at.gain, view);
  drawAxis(pen, at, view);
  drawCursor(pen, at, view);
  drawReadout(pen, at.readout, view);
}

function drawFace(pen, pane, { track, time, theme }) {
  const { face } = track;
  const frame = nearest(face.times, time);
  const scale = Math.min(pane.w / face.width, pane.h / face.height) * 0.94;
  const left = pane.x + (pane.w - face.width * scale) / 2;
  const top = pane.y + (pane.h - face.height * scale) / 2;
  const start = frame * face.points * 2;
  const x = (point) => left + face.xy[start + 2 * point] * scale;
  const y = (point) => top + face.xy[start + 2 * point + 1] * scale;
  const stroke = (pairs, colour, thickness) => {
    pen.beginPath();
    for (const [from, to] of pairs) {
      pen.moveTo(x(from), y(from));
      pen.lineTo(x(to), y(to));
    }
    pen.strokeStyle = colour;
    pen.lineWidth = thickness;
    pen.lineCap = "round";
    pen.stroke();
  };
  stroke(face.skin, theme.text, 1.3);
  stroke(face.lips, theme.mouth, 1.6);
  pen.fillStyle = theme.text;
  for (const iris of face.irises) {
    pen.beginPath();
    pen.arc(x(iris), y(iris), Math.max(1, (face.width * scale) / 64), 0, 2 * Math.PI);
    pen.fill();
  }
}

function drawMouth(pen, lane, view) {
  const { track, theme, length } = view;
  ground(pen, lane, theme);
  if (track.wave) drawWave(pen, lane, view);
  const { times, mouth } = track.curves;
  const most = Math.max(0.1, mouth.reduce((a, b) => Math.max(a, b), 0)) * 1.15;
  trace(pen, times, mouth, (t) => timeToX(lane, t, length), (v) => lane.y + lane.h * (1 - v / most));
  area(pen, lane, times, length, theme.mouth, 1.4);
  name(pen, lane, view.texts.mouth, theme.mouth, theme);
}

function drawWave(pen, lane, { track, theme, length }) {
  const { low, high, seconds } = track.wave;
  const middle = lane.y + lane.h / 2;
  const unit = (lane.h / 2 - 1) / 127;
  const x = (index) => timeToX(lane, ((index + 0.5) / high.length) * seconds, length);
  pen.beginPath();
  high.forEach((value, index) => pen.lineTo(x(index), middle - Math.max(value * unit, 0.4)));
  for (let index = low.length - 1; index >= 0; index--) pen.lineTo(x(index), middle - Math.min(low[index] * unit, -0.4));
  pen.closePath();
  pen.globalAlpha = 0.3;
  pen.fillStyle = theme.faint;
  pen.fill();
  pen.globalAlpha = 1;
}

function drawBlink(pen, lane, { track, theme, length, texts }) {
  ground(pen, lane, theme);
  const { times, blink } = track.curves;
  trace(pen, times, blink, (t) => timeToX(lane, t, length), (v) => lane.y + lane.h - v * (lane.h - 2));
  area(pen, lane, times, length, theme.blink, 1.2);
  name(pen, lane, texts.blink, theme.blink, theme);
}

function drawGain(pen, lane, view) {
  const { theme, points, wired, texts } = view;
  ground(pen, lane, theme);
  name(pen, lane, texts.gain, theme.gain, theme);
  if (!points || wired) {
    const [text, colour] = wired ? [texts.wired, theme.faint] : [texts.broken, theme.warning];
    say(pen, text, lane.x + lane.w / 2, lane.y + lane.h / 2, colour, lane.w - 12);
    return;
  }
  pen.setLineDash([2, 3]);
  level(pen, lane, gainToY(lane, 1), theme.faint);
  pen.setLineDash([]);
  drawNote(pen, lane, view);
  drawGainLines(pen, lane, view);
  drawScale(pen, lane, theme);
  drawPoints(pen, lane, view);
}

function drawNote(pen, lane, { edited, points, texts, theme }) {
  const note = edited ? texts.edited : points.length ? "" : texts.hint;
  pen.font = SMALL_FONT;
  pen.fillStyle = theme.faint;
  pen.textAlign = "left";
  pen.textBaseline = "bottom";
  if (pen.measureText(note).width < lane.w - 30) pen.fillText(note, lane.x + 3, lane.y + lane.h - 2);
}

function drawGainLines(pen, lane, { track, edited, points, length, theme }) {
  const x = (seconds) => timeToX(lane, seconds, length);
  const y = (gain) => gainToY(lane, gain);
  pen.save();
  pen.beginPath();
  pen.rect(lane.x, lane.y - 1, lane.w, lane.h + 2);
  pen.clip();
  if (track && edited) {
    trace(pen, track.curves.times, track.curves.gain, x, y); // what the last run used
    finishLine(pen, theme.faint, 1);
  }
  const times = [0, ...points.map((point) => point[0]), Math.max(length, points.at(-1)?.[0] ?? 0)];
  const gains = times.map((seconds, index) => points[index - 1]?.[1] ?? gainAt(points, seconds));
  trace(pen, times, gains, x, y);
  finishLine(pen, theme.gain, 1.6);
  pen.restore();
}

function drawScale(pen, lane, theme) {
  pen.font = SMALL_FONT;
  pen.textAlign = "right";
  pen.textBaseline = "middle";
  for (const gain of [0, 1, MAX_GAIN]) {
    const y = clamp(gainToY(lane, gain), lane.y + 6, lane.y + lane.h - 6);
    haloed(pen, `×${gain}`, lane.x + lane.w - 3, gain === 1 ? y - 7 : y, theme.faint, theme);
  }
}

function drawPoints(pen, lane, { points, length, hovered, theme }) {
  points.forEach(([seconds, gain], index) => {
    if (seconds > length) return;
    pen.beginPath();
    pen.arc(timeToX(lane, seconds, length), gainToY(lane, gain), index === hovered ? 5.5 : 4, 0, 2 * Math.PI);
    pen.fillStyle = index === hovered ? theme.gain : theme.back;
    pen.fill();
    pen.strokeStyle = theme.gain;
    pen.lineWidth = 1.8;
    pen.stroke();
  });
}

function drawAxis(pen, { axis }, { length, theme }) {
  const step = STEPS_S.find((seconds) => (seconds / length) * axis.w >= 46) ?? 7200;
  pen.font = SMALL_FONT;
  pen.fillStyle = theme.faint;
  pen.textBaseline = "top";
  for (let index = 0; index * step <= length + 1e-6; index++) {
    const x = timeToX(axis, index * step, length);
    pen.textAlign = index === 0 ? "left" : x > axis.x + axis.w - 14 ? "right" : "center";
    const digits = step < 1 && length < 60 ? 1 : 0;
    pen.fillText(clock(index * step, length, digits) + (index === 0 && length < 60 ? " s" : ""), x, axis.y + 4);
  }
}

function drawCursor(pen, at, { time, length, theme, track, points, wired }) {
  const x = timeToX(at.gain, time, length);
  pen.beginPath();
  pen.moveTo(x, track ? at.mouth.y : at.gain.y);
  pen.lineTo(x, at.gain.y + at.gain.h);
  pen.strokeStyle = theme.text;
  pen.globalAlpha = 0.75;
  pen.lineWidth = 1;
  pen.stroke();
  pen.globalAlpha = 1;
  if (!points || wired) return;
  pen.beginPath();
  pen.arc(x, gainToY(at.gain, gainAt(points, time)), 2.2, 0, 2 * Math.PI);
  pen.fillStyle = theme.text;
  pen.fill();
}

function drawReadout(pen, line, view) {
  const { time, length, track, points, theme, texts } = view;
  pen.font = FONT;
  pen.textBaseline = "middle";
  pen.textAlign = "left";
  const y = line.y + line.h / 2 - 2;
  const parts = [[`${clock(time, length, 2)}${length < 60 ? " s" : ""}`, theme.text]];
  const opening = track?.curves.mouth[nearest(track.curves.times, time)];
  if (track) parts.push([`${texts.mouth} ${opening.toFixed(2)}`, theme.mouth]);
  if (points && !view.wired) parts.push([`${texts.gain} ×${gainAt(points, time).toFixed(2)}`, theme.gain]);
  let x = line.x;
  for (const [text, colour] of parts) {
    pen.fillStyle = colour;
    pen.fillText(text, x, y);
    x += pen.measureText(text).width + 10;
  }
}

function trace(pen, times, values, x, y) {
  pen.beginPath();
  times.forEach((seconds, index) => pen.lineTo(x(seconds), y(values[index])));
}

function finishLine(pen, colour, thickness) {
  pen.strokeStyle = colour;
  pen.lineWidth = thickness;
  pen.lineJoin = "round";
  pen.stroke();
}

/** Stroke the traced curve and fill down to the lane's floor. */
function area(pen, lane, times, length, colour, thickness) {
  finishLine(pen, colour, thickness);
  pen.lineTo(timeToX(lane, times[times.length - 1], length), lane.y + lane.h);
  pen.lineTo(timeToX(lane, times[0], length), lane.y + lane.h);
  pen.closePath();
  pen.globalAlpha = 0.18;
  pen.fillStyle = colour;
  pen.fill();
  pen.globalAlpha = 1;
}

function ground(pen, lane, theme) {
  level(pen, lane, lane.y + lane.h, theme.line);
}

function level(pen, lane, y, colour) {
  pen.beginPath();
  pen.moveTo(lane.x, y);
  pen.lineTo(lane.x + lane.w, y);
  finishLine(pen, colour, 1);
}

function name(pen, lane, text, colour, theme) {
  pen.font = SMALL_FONT;
  pen.textAlign = "left";
  pen.textBaseline = "top";
  haloed(pen, text, lane.x + 3, lane.y, colour, theme);
}

/** Text that stays readable on curves. */
function haloed(pen, text, x, y, colour, theme) {
  pen.strokeStyle = theme.back;
  pen.lineWidth = 3;
  pen.lineJoin = "round";
  pen.strokeText(text, x, y);
  pen.fillStyle = colour;
  pen.fillText(text, x, y);
}

/** Text around a middle, in as many lines as its width asks for. */
function say(pen, text, x, y, colour, width = Infinity) {
  pen.font = FONT;
  pen.fillStyle = colour;
  pen.textAlign = "center";
  pen.textBaseline = "middle";
  const lines = [""];
  for (const word of text.split(" ")) {
    const longer = `${lines[lines.length - 1]} ${word}`.trim();
    if (pen.measureText(longer).width <= width) lines[lines.length - 1] = longer;
    else lines.push(word);
  }
  lines.forEach((line, index) => pen.fillText(line, x, y + (index - (lines.length - 1) / 2) * 15));
}

function box(pen, x, y, w, h, radius) {
  pen.beginPath();
  pen.roundRect(x, y, w, h, radius);
}

function outline(pen, width, height, theme) {
  box(pen, 1, 1, width - 2, height - 2, 5);
  finishLine(pen, theme.gain, 1.5);
}
