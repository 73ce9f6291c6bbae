// Figures and codes as people read them.

const WORDS = {
  actor_died: "an internal task was restarted",
  adapter_not_loaded: "the adapter is not loaded there",
  asked_for: "asked for",
  breaker_open: "its breaker is open",
  budget: "the budget decided",
  busy: "the large model was busy",
  confident: "the small model was sure",
  low_margin: "the small model was unsure",
  not_expressible: "it cannot do what is asked",
  prompt_too_long: "the prompt is too long for it",
  queue_full: "its queue was full",
  queue_timeout: "it waited too long in the queue",
  small_unavailable: "the small model was not available",
  total_timeout: "the whole answer took too long",
  ttft_timeout: "its first token came too late",
  verified: "checked token by token by the large model",
};

/** A reason code in words. */
export const reason = (code) => WORDS[code] ?? String(code).replaceAll("_", " ");

/** A number with at most three digits that count. */
export function figure(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  if (Math.abs(value) >= 1000) return Math.round(value).toLocaleString("en");
  return String(Number(value.toPrecision(3)));
}

export const milliseconds = (value) =>
  value === null || value === undefined ? "–" : value >= 10_000 ? `${figure(value / 1000)} s` : `${figure(value)} ms`;

export const percent = (share) => (share === null ? "–" : `${figure(100 * share)} %`);

export function bytes(count) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const power = count > 0 ? Math.min(Math.floor(Math.log2(count) / 10), 4) : 0;
  return `${figure(count / 1024 ** power)} ${units[power]}`;
}
