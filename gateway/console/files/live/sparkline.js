// A small line without axes; its figures stand beside it.

import { drawing } from "../shared/dom.js";

const [WIDTH, HEIGHT] = [120, 26];

/** `values`: the last minute, oldest first. `top`: the value at the upper edge; else the highest. */
export function sparkline(values, top = Math.max(...values, 0)) {
  const known = values.slice(-60);
  const x = (at) => WIDTH - (known.length - 1 - at) * (WIDTH / 59);
  const y = (value) => HEIGHT - 2 - (top > 0 ? Math.min(value / top, 1) : 0) * (HEIGHT - 4);
  const points = known.map((value, at) => `${x(at).toFixed(1)},${y(value).toFixed(1)}`);
  const area = points.length ? `${x(0).toFixed(1)},${HEIGHT} ${points.join(" ")} ${WIDTH},${HEIGHT}` : "";
  const box = { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none" };
  const line = drawing("polyline", { points: points.join(" ") });
  return drawing("svg", { class: "spark", "aria-hidden": "true", ...box }, drawing("polygon", { points: area }), line);
}
