// How sure the small model of a cascade was, token by token, as the cascade saw it.

import { drawing, element, scrolled } from "../shared/dom.js";
import { visible } from "../shared/visible_text.js";
import { figure } from "../shared/words.js";

const MOST = 400;
const [WIDTH, HEIGHT, TOP, BOTTOM, LEFT] = [640, 120, 10, 18, 34];

/** `trace`: the field `penstock.cascade`. */
export function marginView(trace) {
  const steps = trace.steps.slice(0, MOST);
  const left = trace.steps.length - steps.length;
  return element("figure", { class: "margins" },
    element("figcaption", {}, sentence(trace)),
    chips(trace, steps),
    left ? element("p", { class: "note" }, `… and ${left} more.`) : null,
    steps.length ? scrolled("Margins", chart(trace, steps)) : null,
    asTable(steps, trace.shown),
  );
}

function sentence(trace) {
  const discarded = trace.steps.length - trace.shown;
  const last = trace.steps.at(-1);
  const limit = trace.threshold === null ? "∞" : figure(trace.threshold);
  const begin = `${visible(trace.small)} wrote ${trace.steps.length} tokens. `;
  const statistic = `${trace.statistic} ${last ? (last.statistic === null ? "∞" : figure(last.statistic)) : "–"}`;
  if (!discarded) return `${begin}At the end ${statistic} was not below the threshold ${limit}: its answer stands.`;
  const kept = trace.shown ? `the first ${trace.shown} had been sent, and ${visible(trace.large)} went on from there` :
    `none had been sent, and ${visible(trace.large)} answered`;
  return `${begin}${statistic} fell below the threshold ${limit}: ${kept}.`;
}

const lowest = (step) => (step.margins.length ? Math.min(...step.margins.map((each) => each ?? -Infinity)) : null);

/** 0: very unsure … 4: sure. */
function sureness(margin) {
  if (margin === null) return 4;
  return [0.5, 1.5, 3, 6].filter((bound) => margin >= bound).length;
}

function chips(trace, steps) {
  const made = steps.map((step, at) => {
    const margin = lowest(step);
    const words = step.text === "" ? "·" : visible(step.text).replaceAll("\n", "⏎").replaceAll(" ", "\u00a0");
    const told = `margin ${margin === null ? "none: no alternative" : figure(margin)}, ${trace.statistic} ` +
      `${step.statistic === null ? "∞" : figure(step.statistic)}${at < trace.shown ? "" : ", discarded"}`;
    const discarded = at < trace.shown ? "" : " discarded";
    return element("span", { class: `chip sure${sureness(margin)}${discarded}`, title: told }, words);
  });
  const [sent, discarded] = [made.slice(0, trace.shown), made.slice(trace.shown)];
  const named = (name, some) => (some.length ? [element("b", {}, name), ...some] : []);
  return element("p", { class: "chips", dir: "ltr", "aria-hidden": "true" },
    ...named("sent", sent), ...named("discarded", discarded));
}

function chart(trace, steps) {
  const values = steps.flatMap((step) => [lowest(step), step.statistic]).filter(Number.isFinite);
  const threshold = trace.threshold ?? 0;
  const high = Math.max(2, Math.min(12, Math.max(...values, 0)), threshold * 1.3);
  const low = Math.min(0, Math.max(-4, Math.min(...values, 0)), threshold);
  const bottom = HEIGHT - BOTTOM;
  const y = (value) => bottom - ((Math.max(low, Math.min(high, value ?? high)) - low) / (high - low)) * (bottom - TOP);
  const space = (WIDTH - LEFT) / steps.length;
  const x = (at) => LEFT + at * space;
  const width = Math.min(space * 0.7, 22);
  const bars = steps.map((step, at) => {
    const [from, to] = [y(0), y(lowest(step))];
    const kind = `bar sure${sureness(lowest(step))}${at < trace.shown ? "" : " discarded"}`;
    const height = Math.max(Math.abs(from - to), 1);
    return drawing("rect", { class: kind, x: x(at) + space * 0.15, y: Math.min(from, to), width, height });
  });
  const middle = (at) => x(at) + space * 0.15 + width / 2;
  const line = steps.map((step, at) => `${middle(at).toFixed(1)},${y(step.statistic).toFixed(1)}`).join(" ");
  const limit = y(threshold);
  const end = { "text-anchor": "end" };
  const label = `threshold ${figure(trace.threshold ?? Infinity)}`;
  const frame = { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": "Margin and statistic by output" };
  return drawing("svg", frame,
    drawing("line", { class: "axis", x1: LEFT, x2: WIDTH, y1: y(0), y2: y(0) }),
    ...[high, low].map((value) => drawing("text", { x: LEFT - 6, y: y(value) + 4, ...end }, figure(value))),
    ...bars,
    drawing("polyline", { class: "statistic", points: line }),
    ...steps.map((step, at) => drawing("circle", { class: "dot", cx: middle(at), cy: y(step.statistic), r: 1.8 })),
    drawing("line", { class: "limit", x1: LEFT, x2: WIDTH, y1: limit, y2: limit }),
    drawing("text", { x: LEFT, y: HEIGHT - 4 }, `bars: margin · line: ${trace.statistic} · dashed: ${label} · in nats`),
  );
}

function asTable(steps, shown) {
  const rows = steps.map((step, at) => element("tr", {},
    element("td", {}, String(at + 1)),
    element("td", { class: "text" }, JSON.stringify(visible(step.text))),
    element("td", {}, step.margins.map(figure).join(", ") || "–"),
    element("td", {}, step.statistic === null ? "∞" : figure(step.statistic)),
    element("td", {}, at < shown ? "sent" : "discarded"),
  ));
  const head = ["", "text", "margin", "statistic", ""].map((name) => element("th", { scope: "col" }, name));
  return element("details", {}, element("summary", {}, "As a table"),
    scrolled("Outputs",
      element("table", {}, element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...rows))));
}
