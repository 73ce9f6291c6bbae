// Characters that would be invisible, or would reorder what is around them, shown as what they are.

// C0 without tab, line feed and carriage return; DEL and C1; bidirectional controls; tags; zero width but the joiners.
const HIDDEN = new RegExp(
  "[\\u0000-\\u0008\\u000b\\u000c\\u000e-\\u001f\\u007f-\\u009f\\u061c\\u200b\\u200e\\u200f\\u2028-\\u202e" +
    "\\u2060-\\u206f\\ufeff\\u{e0000}-\\u{e007f}]",
  "gu",
);

function shown(character) {
  const code = character.codePointAt(0);
  if (code < 0x20) return String.fromCodePoint(0x2400 + code);
  if (code === 0x7f) return "\u2421";
  return `\u27e8U+${code.toString(16).toUpperCase().padStart(4, "0")}\u27e9`;
}

/** For text from the wire: an escape sequence of a terminal is seen, and cannot hide or turn around anything. */
export const visible = (text) => String(text ?? "").replace(HIDDEN, shown);

/** JSON whose strings hold such characters as escapes: the same value, and code that reads as it runs. */
export function plainJson(value, indent) {
  return JSON.stringify(value, null, indent).replace(HIDDEN, (character) =>
    [...Array(character.length).keys()]
      .map((at) => `\\u${character.charCodeAt(at).toString(16).padStart(4, "0")}`)
      .join(""),
  );
}
