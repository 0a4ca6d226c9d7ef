// What went wrong, in a person's words, and the way out.

import { plural } from "./format.js";

/** By the error's code: [what happened, the way out, what a button offers]. */
const KNOWN = {
  invalid_api_key: () => [
    "This key is not accepted",
    "The service does not know it. Perhaps it was withdrawn, or a character was lost in copying.",
    "key",
  ],
  budget_not_allowed: (error, most) => [
    "The budget is too large",
    most
      ? `You may ask for ${plural(most, "generation")} at most here.`
      : "The service, or your key, allows less.",
    most && "smaller",
  ],
  context_length_exceeded: () => [
    "The problem is too long for this model",
    "It leaves no room for an answer. Shorten the problem.",
  ],
  body_too_large: () => ["The problem is too long", "The service takes no text of this length."],
  deadline_exceeded: () => [
    "Time ran out",
    "Not one solution was finished by the deadline. A smaller budget needs less time; under More the deadline can be raised, as far as the service allows.",
    "again",
  ],
  no_solution: () => [
    "A limit came first",
    "The search was ended before one solution was finished. Raise its limits, or lower the budget.",
    "again",
  ],
  queue_full: ({ retryAfter }) => [
    "The service is busy",
    `Too many searches wait already. Try again in ${plural(retryAfter ?? 5, "second")}.`,
    "again",
  ],
  not_ready: () => [
    "The model is not ready",
    "It is being loaded, or started again. Try again in a moment.",
    "again",
  ],
  engine_failed: () => [
    "The model has failed",
    "What runs it stopped in the middle of this search. The service starts it again by itself; try again in a moment.",
    "again",
  ],
  engine_refused: () => [
    "The model’s server did not take this problem",
    "Most often such a problem is too long for the model.",
  ],
  shutting_down: () => [
    "The service is shutting down",
    "It ended this search. Try again once it is back.",
    "again",
  ],
  unreachable: () => [
    "The service cannot be reached",
    "It has stopped, or the connection to it is gone. Once it runs again, so can this search.",
    "again",
  ],
  lost: () => [
    "The connection broke off",
    "The service has stopped, or the connection to it is gone; what it had found is lost. Once it runs again, so can this search.",
    "again",
  ],
};

/**
 * An error for people: `{title, text, offer}`; offer is `again`, `key`, `smaller` or undefined.
 *
 * most: the largest budget that may be asked for, if it is known.
 */
export function trouble(error, most = null) {
  const known = KNOWN[error.status === 401 ? "invalid_api_key" : error.code];
  if (known) {
    const [title, text, offer] = known(error, most);
    return { title, text, offer };
  }
  if (/^router(\.strategy)?$/.test(error.param)) {
    return { title: "This search cannot run so", text: sentence(error.message) };
  }
  if (error.status >= 400 && error.status < 500) {
    return { title: "The service did not take this", text: sentence(error.message) };
  }
  return {
    title: "Something went wrong in the service",
    text: "It is no fault of the problem; the service’s log has the reason.",
    offer: "again",
  };
}

export function sentence(text) {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? "" : "."}`;
}
