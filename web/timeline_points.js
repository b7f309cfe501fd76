// The gain curve as text and as points, and what a run sends about a track. Knows nothing of the page.

export const MAX_GAIN = 2;

/** Points [seconds, gain] in order of time; null if the text is no such list. Empty text is an empty list. */
export function parsePoints(text) {
  if (typeof text !== "string" || !text.trim()) return [];
  let listed;
  try {
    listed = JSON.parse(text);
  } catch {
    return null;
  }
  if (!Array.isArray(listed) || !listed.every(isPoint)) return null;
  return sorted(listed.map(([seconds, gain]) => [seconds, gain]));
}

function isPoint(entry) {
  if (!Array.isArray(entry) || entry.length !== 2 || !entry.every(Number.isFinite)) return false;
  return entry[0] >= 0 && entry[1] >= 0 && entry[1] <= MAX_GAIN;
}

/** Text that `parsePoints` and the node read; milliseconds and hundredths are all a mouse can mean. */
export function formatPoints(points) {
  const rounded = sorted(points).map(([seconds, gain]) => [round(seconds, 3), round(gain, 2)]);
  return `[${rounded.map(([seconds, gain]) => `[${seconds}, ${gain}]`).join(", ")}]`;
}

/** The gain at a moment: straight between the points, held before the first and after the last, 1 without any. */
export function gainAt(points, seconds) {
  if (!points.length) return 1;
  const right = points.findIndex((point) => point[0] > seconds);
  if (right < 0) return points[points.length - 1][1];
  if (right === 0) return points[0][1];
  const [from, to] = [points[right - 1], points[right]];
  return from[1] + ((seconds - from[0]) / (to[0] - from[0])) * (to[1] - from[1]);
}

export function clamp(value, low, high) {
  return Math.min(Math.max(value, low), high);
}

export function round(value, digits) {
  return Number(value.toFixed(digits));
}

/** Index of the entry of an ascending list that is nearest to a value. */
export function nearest(list, value) {
  let [low, high] = [0, list.length - 1];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (list[middle] < value) low = middle + 1;
    else high = middle;
  }
  return low > 0 && value - list[low - 1] < list[low] - value ? low - 1 : low;
}

/** What the node sent, with the faces' points as numbers; null if it is nothing this file understands. */
export function decodePayload(payload) {
  if (payload?.version !== 1) return null;
  const binary = atob(payload.face.xy);
  const bytes = new DataView(Uint8Array.from(binary, (letter) => letter.charCodeAt(0)).buffer);
  const xy = Int16Array.from({ length: bytes.byteLength / 2 }, (_, index) => bytes.getInt16(2 * index, true));
  return { ...payload, face: { ...payload.face, xy } };
}

function sorted(points) {
  return [...points].sort((a, b) => a[0] - b[0]);
}
