// What a model thought before it answered, kept apart from the answer in the steps of a solution.

// The common pairs; the service knows more of them (models/thoughts.py), and takes the answer from
// what follows. Templates may have written the one that opens into the prompt.
const OPENS = /^\s*(?:<(?:think|thinking|thoughts?|reasoning)>|\[THINK\]|◁think▷)/i;
const CLOSES = /<\/(?:think|thinking|thoughts?|reasoning)>|\[\/THINK\]|◁\/think▷/i;

/** How many characters of `text` are thoughts: up to the mark that closes them; all, unclosed. */
function extent(text) {
  const close = CLOSES.exec(text);
  if (close) return close.index + close[0].length;
  return OPENS.test(text) ? text.length : 0;
}

/** What a solution says after its thoughts. */
export const said = (text) => text.slice(extent(text)).trim();

/** The steps of a path: each with its part that was thought, and its part that was said. */
export function apart(path) {
  const end = extent(path.map((step) => step.text).join(""));
  let start = 0;
  return path.map((step) => {
    const cut = Math.max(0, Math.min(step.text.length, end - start));
    start += step.text.length;
    const thought = step.text.slice(0, cut).replace(OPENS, "").replace(CLOSES, "").trim();
    return { step, thought, said: step.text.slice(cut).trim() };
  });
}
