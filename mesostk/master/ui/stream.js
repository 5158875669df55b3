// The operator API: single calls, and the event stream as RecordIO over fetch().

const HEADERS = { "Content-Type": "application/json", Accept: "application/json" };

/** What the server said instead of an answer; `moved` means that another master leads now. */
export class Refused extends Error {
  constructor(message, moved = false) {
    super(message);
    this.moved = moved;
  }
}

async function post(body, signal) {
  const answer = await fetch("api/v1", {
    method: "POST",
    headers: HEADERS,
    body: JSON.stringify(body),
    // A redirect leads to another origin, which this page may not talk to: the page moves there.
    redirect: "manual",
    signal,
  });
  if (answer.type === "opaqueredirect") throw new Refused("another master leads", true);
  if (!answer.ok) throw new Refused(`${answer.status} ${await answer.text()}`);
  return answer;
}

/** The answer of one reading call, e.g. call("GET_AGENTS"). */
export async function call(type) {
  const body = await (await post({ type })).json();
  return body[type.toLowerCase()];
}

/** Takes RecordIO apart, however it is cut into pieces. */
export class Records {
  #buffer = new Uint8Array(0);
  #decoder = new TextDecoder();

  /** Objects that `chunk` completes. */
  feed(chunk) {
    const buffer = new Uint8Array(this.#buffer.length + chunk.length);
    buffer.set(this.#buffer);
    buffer.set(chunk, this.#buffer.length);
    const found = [];
    let at = 0;
    for (;;) {
      const end = buffer.indexOf(10, at);
      if (end < 0) break;
      const length = Number(this.#decoder.decode(buffer.subarray(at, end)));
      if (!Number.isInteger(length)) throw new Error("the stream is not RecordIO");
      if (buffer.length < end + 1 + length) break;
      found.push(JSON.parse(this.#decoder.decode(buffer.subarray(end + 1, end + 1 + length))));
      at = end + 1 + length;
    }
    this.#buffer = buffer.slice(at);
    return found;
  }
}

/** Calls `onEvent` for each event until the stream ends, which throws or returns. */
export async function follow(onEvent, silenceMs) {
  const abort = new AbortController();
  let timer = setTimeout(() => abort.abort(), silenceMs);
  try {
    const answer = await post({ type: "SUBSCRIBE" }, abort.signal);
    const reader = answer.body.getReader();
    const records = new Records();
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      clearTimeout(timer);
      timer = setTimeout(() => abort.abort(), silenceMs);
      for (const event of records.feed(value)) onEvent(event);
    }
  } finally {
    clearTimeout(timer);
  }
}
