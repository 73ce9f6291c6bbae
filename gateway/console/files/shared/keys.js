// The keys, in this tab only: sessionStorage, or memory where the browser has none.

const memory = new Map();

export function readKey(name) {
  try {
    return sessionStorage.getItem(`penstock-${name}`) ?? "";
  } catch {
    return memory.get(name) ?? "";
  }
}

export function writeKey(name, value) {
  try {
    if (value) sessionStorage.setItem(`penstock-${name}`, value);
    else sessionStorage.removeItem(`penstock-${name}`);
  } catch {
    memory.set(name, value);
  }
}
