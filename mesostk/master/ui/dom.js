// Elements without markup in strings: what comes from the cluster is never HTML.

/** element("a", {href: "…"}, "text", child) */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === false) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== undefined && child !== null));
  return made;
}

export function amount(value, digits = 1) {
  return Number(value.toFixed(digits)).toLocaleString("en");
}

/** MiB as text. */
export function size(mib) {
  if (mib >= 1024 * 1024) return `${amount(mib / 1024 / 1024)} TB`;
  if (mib >= 1024) return `${amount(mib / 1024)} GB`;
  return `${amount(mib, 0)} MB`;
}

/** "3 min ago" for seconds since the epoch; undefined gives "". */
export function ago(seconds) {
  if (!seconds) return "";
  const past = Math.max(0, Date.now() / 1000 - seconds);
  for (const [unit, length] of [["d", 86400], ["h", 3600], ["min", 60]]) {
    if (past >= length) return `${Math.floor(past / length)} ${unit} ago`;
  }
  return `${Math.floor(past)} s ago`;
}
