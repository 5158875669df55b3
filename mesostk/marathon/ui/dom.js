// A page as a function of state: `h` makes nodes, `morph` changes only what differs, so that focus,
// selection and scrolling survive every update. Clicks are found by `data-action`.

export function h(tag, props, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "width") node.style.width = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  append(node, children);
  return node;
}

function append(node, children) {
  for (const child of children) {
    if (Array.isArray(child)) append(node, child);
    else if (child !== null && child !== undefined && child !== false) node.append(child);
  }
}

export function morph(target, source) {
  for (const { name } of [...target.attributes]) {
    if (!source.hasAttribute(name) && name !== "style") target.removeAttribute(name);
  }
  for (const { name, value } of source.attributes) {
    if (name !== "style" && target.getAttribute(name) !== value) target.setAttribute(name, value);
  }
  // Styles go through the object model: the page's policy forbids them as attributes.
  if (target.style.cssText !== source.style.cssText) target.style.cssText = source.style.cssText;
  morphChildren(target, source);
}

export function morphChildren(target, source) {
  const keyed = new Map();
  for (const child of target.children) {
    if (child.dataset.key) keyed.set(child.dataset.key, child);
  }
  let at = target.firstChild;
  for (const wanted of [...source.childNodes]) {
    const key = wanted.dataset?.key;
    let found = key ? keyed.get(key) : at;
    if (found && found.nodeName === wanted.nodeName && (key || !found.dataset?.key)) {
      if (found !== at) target.insertBefore(found, at);
      if (found.nodeType === Node.TEXT_NODE) {
        if (found.data !== wanted.data) found.data = wanted.data;
      } else if (found !== document.activeElement || !isField(found)) {
        morph(found, wanted);
      }
      at = found.nextSibling;
    } else {
      target.insertBefore(wanted, at);
    }
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

function isField(node) {
  return ["INPUT", "SELECT", "TEXTAREA"].includes(node.nodeName);
}

export function show(target, ...children) {
  const holder = document.createElement(target.nodeName);
  append(holder, children);
  morphChildren(target, holder);
}

export function delegate(type, actions) {
  document.addEventListener(type, (event) => {
    const node = event.target.closest?.("[data-action]");
    const action = node && actions[node.dataset.action];
    if (!action) return;
    if (type === "click" && node.nodeName === "A") event.preventDefault();
    action(node.dataset, event, node);
  });
}
