// What the live view says: rows of figures from a history of /metrics. Cells are text or nodes.

import { element } from "../shared/dom.js";
import { bytes, figure, percent } from "../shared/words.js";
import { sparkline } from "./sparkline.js";

const P = "penstock:";
const BREAKER = { closed: "closed: in use", half_open: "half open: a few probes", open: "open: not tried now" };

/** [name, text, history of the last minute] of the whole service. */
export function tiles(history, ready) {
  const open = history.now(`${P}breaker_state`, { state: "open" }).filter((sample) => sample.value === 1).length;
  const ttft = history.mean(`${P}time_to_first_token_seconds`);
  return [
    ["State", ready.state ?? "unknown", null],
    ["Requests in progress", figure(history.sum(`${P}requests_in_flight`)), history.line(`${P}requests_in_flight`)],
    ["Waiting in queues", figure(history.sum(`${P}queue_requests`)), history.line(`${P}queue_requests`)],
    ["Requests a second", figure(history.rate(`${P}requests_total`)), history.rates(`${P}requests_total`)],
    ["Tokens a second", figure(history.rate(`${P}delivered_completion_tokens_total`)),
      history.rates(`${P}delivered_completion_tokens_total`)],
    ["Mean time to first token", ttft === null ? "–" : `${figure(1000 * ttft)} ms`, null],
    ["Connections", figure(history.sum(`${P}connections`)), history.line(`${P}connections`)],
    ["Open breakers", figure(open), null],
  ];
}

/** [title, column names, rows] of each part that has rows. */
export function tables(history, ready) {
  return [
    ["Engines",
      ["engine", "state", "running", "waiting", "KV in use", "", "tokens/s", "", "prefix hits", "restarts"],
      engines(history, ready)],
    ["Queues", ["backend", "requests", "tokens", "", "expected wait", "inside", "refused", "expired"], queues(history)],
    ["Rungs", ["rung", "breaker", "answered", "failed", "answers/s", "", "cost"], rungs(history)],
    ["Upstreams", ["upstream", "running", "calls", "failures", "tokens/s"], upstreams(history)],
    ["Cascades", ["cascade", "threshold", "large share", "target", "spent today"], cascades(history)],
    ["Tenants", ["tenant", "tokens", "cost", "budget used"], tenants(history)],
    ["Refusals", ["code", "refused"], refusals(history)],
  ].filter(([, , rows]) => rows.length);
}

function meter(share) {
  const fill = element("span", { class: share > 0.9 ? "fill full" : "fill" });
  fill.style.width = `${Math.round(100 * Math.min(Math.max(share, 0), 1))}%`;
  return element("span", { class: "meter" }, fill);
}

function engines(history, ready) {
  return history.now(`${P}engine_ready`).map(({ labels: { engine, replica }, value }) => {
    const wanted = { engine, replica };
    const looked = history.sum(`${P}prefix_cache_queries_total`, wanted);
    const share = history.sum(`${P}kv_cache_usage_perc`, wanted);
    const told = ready.engines?.[engine];
    const down = history.sum(`${P}backend_down`, { backend: engine }) > 0;
    const state = down ? "marked down" : value ? "ready" : told?.state ?? "not ready";
    const several = history.now(`${P}engine_ready`, { engine }).length > 1;
    return [
      several ? `${engine}, replica ${replica}` : engine,
      told?.why && !value ? `${state}: ${told.why}` : state,
      figure(history.sum(`${P}num_requests_running`, wanted)),
      figure(history.sum(`${P}num_requests_waiting`, wanted)),
      `${percent(share)} of ${bytes(history.sum(`${P}kv_pool_bytes`, wanted))}`, meter(share),
      figure(history.rate(`${P}generation_tokens_total`, wanted)),
      sparkline(history.rates(`${P}generation_tokens_total`, wanted)),
      percent(looked ? history.sum(`${P}prefix_cache_hits_total`, wanted) / looked : null),
      figure(history.sum(`${P}engine_restarts_total`, { engine })),
    ];
  });
}

function queues(history) {
  return history.values(`${P}queue_requests`, "engine").map((engine) => {
    const of = (name) => figure(history.sum(P + name, { engine }));
    return [
      engine, of("queue_requests"), of("queue_tokens"), sparkline(history.line(`${P}queue_requests`, { engine })),
      `${of("queue_expected_wait_seconds")} s`, of("queue_inside"), of("queue_refused_total"),
      of("queue_expired_total"),
    ];
  });
}

function rungs(history) {
  return history.values(`${P}breaker_state`, "rung").map((rung) => {
    const state = history.now(`${P}breaker_state`, { rung }).find((sample) => sample.value === 1)?.labels.state;
    const answered = { rung, outcome: "ok" };
    return [
      rung, BREAKER[state] ?? "–",
      figure(history.sum(`${P}requests_total`, answered)),
      figure(history.sum(`${P}requests_total`, { rung, outcome: "failed" })),
      figure(history.rate(`${P}requests_total`, answered)), sparkline(history.rates(`${P}requests_total`, answered)),
      figure(history.sum(`${P}cost_total`, { rung })),
    ];
  });
}

function upstreams(history) {
  return history.values(`${P}upstream_running`, "upstream").map((upstream) => {
    const of = (name) => figure(history.sum(P + name, { upstream }));
    return [
      upstream, of("upstream_running"), of("upstream_requests_total"), of("upstream_failures_total"),
      figure(history.rate(`${P}upstream_tokens_total`, { upstream })),
    ];
  });
}

function cascades(history) {
  const only = (name, cascade) => history.now(P + name, { cascade })[0]?.value ?? null;
  return history.values(`${P}cascade_threshold`, "cascade").map((cascade) => [
    cascade, figure(only("cascade_threshold", cascade)), percent(only("cascade_large_share", cascade)),
    percent(only("cascade_large_share_target", cascade)), figure(only("cascade_spent_today", cascade)),
  ]);
}

function tenants(history) {
  return history.values(`${P}usage_tokens_total`, "tenant").map((tenant) => {
    const used = history.now(`${P}budget_used_ratio`, { tenant })[0]?.value;
    return [
      tenant, figure(history.sum(`${P}usage_tokens_total`, { tenant })),
      figure(history.sum(`${P}cost_total`, { tenant })), used === undefined ? "no budget" : percent(used),
    ];
  });
}

function refusals(history) {
  return history.now(`${P}refusals_total`).map(({ labels, value }) => [labels.code, figure(value)]);
}
