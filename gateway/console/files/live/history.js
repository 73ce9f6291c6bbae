// The snapshots of the last minute, and what can be read of them. Pure.

const KEPT = 61;

const fits = (labels, wanted) => Object.entries(wanted).every(([name, value]) => labels[name] === value);

export class History {
  #snapshots = [];

  /** `at`: in milliseconds. `samples`: as `samplesOf` returns them. */
  add(at, samples) {
    this.#snapshots.push({ at, samples });
    if (this.#snapshots.length > KEPT) this.#snapshots.shift();
  }

  get empty() {
    return this.#snapshots.length === 0;
  }

  clear() {
    this.#snapshots = [];
  }

  /** The current samples of a metric with these labels. */
  now(name, wanted = {}) {
    return this.#of(this.#snapshots.at(-1), name, wanted);
  }

  /** Their sum. */
  sum(name, wanted = {}) {
    return total(this.now(name, wanted));
  }

  /** The values that a label has, in order. */
  values(name, label) {
    return [...new Set(this.now(name).map((sample) => sample.labels[label]))].sort();
  }

  /** A gauge's sum at each snapshot. */
  line(name, wanted = {}) {
    return this.#snapshots.map((snapshot) => total(this.#of(snapshot, name, wanted)));
  }

  /** A counter's growth a second between snapshots. */
  rates(name, wanted = {}) {
    const sums = this.line(name, wanted);
    return sums.slice(1).map((sum, at) => growth(sums[at], sum, this.#snapshots[at + 1].at - this.#snapshots[at].at));
  }

  /** A counter's growth a second over the last `seconds`; null: only one snapshot. */
  rate(name, wanted = {}, seconds = 5) {
    const [first, last] = this.#ends(seconds);
    if (first === last) return null;
    return growth(total(this.#of(first, name, wanted)), total(this.#of(last, name, wanted)), last.at - first.at);
  }

  /** The mean of what a histogram has counted over the last `seconds`; null: nothing. */
  mean(name, seconds = 10) {
    const [first, last] = this.#ends(seconds);
    const grown = (part) => total(this.#of(last, name + part, {})) - total(this.#of(first, name + part, {}));
    const count = grown("_count");
    return count > 0 ? grown("_sum") / count : null;
  }

  #ends(seconds) {
    const last = this.#snapshots.at(-1);
    return [this.#snapshots.find((each) => last.at - each.at <= seconds * 1000 + 500) ?? last, last];
  }

  #of(snapshot, name, wanted) {
    return (snapshot?.samples.get(name) ?? []).filter((sample) => fits(sample.labels, wanted));
  }
}

const total = (samples) => samples.reduce((sum, sample) => sum + sample.value, 0);

/** A restarted server counts from 0: no growth is negative. */
function growth(before, after, milliseconds) {
  return milliseconds > 0 ? Math.max(after - before, 0) / (milliseconds / 1000) : 0;
}
