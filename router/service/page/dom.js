// Building elements. Text only ever enters the page as a text node: nothing here parses HTML.

const SVG = "http://www.w3.org/2000/svg";

/** An HTML element: `h("p", {class: "why", hidden: true}, "text", child)`. */
export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** An SVG element. */
export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

/** Set custom properties and other styles through the CSSOM, which the page's CSP allows. */
export function style(element, properties) {
  for (const [name, value] of Object.entries(properties)) element.style.setProperty(name, value);
  return element;
}

/** Put `children` in place of what `element` holds; null and false stand for nothing. */
export function replace(element, ...children) {
  element.replaceChildren(...given(children));
}

/** Text without characters that are not seen but change what is: that turn its direction, say.
 *
 * Joiners stay where they join, which in ASCII they do not. */
export const seen = (text) => text.replace(UNSEEN, "\ufffd");

const UNSEEN =
  /(?![\t\n\r])\p{Cc}|(?<![^\0-\x7f])[\u200c\u200d]|(?![\u200c\u200d\u0600-\u0605])\p{Cf}/gu;

const given = (children) =>
  children
    .flat()
    .filter((child) => child != null && child !== false)
    .map((child) => (typeof child === "string" ? seen(child) : child));

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...given(children));
  return element;
}
