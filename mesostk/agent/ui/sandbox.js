// Lists a sandbox and follows a file in it.
//
//   /sandbox?path=P              P as /files/browse takes it
//   /sandbox?framework=F&executor=E   the newest run of that executor
//   …&file=NAME                  opens NAME (stdout if there is one and none is named)

const PAUSE_MS = 1000;
const KEPT = 512 * 1024; // characters kept on the page; older ones are a download away
const FIRST = 48 * 1024; // bytes shown of a file that is opened

const query = new URLSearchParams(location.search);
const root = query.get('path')
  ?? `/frameworks/${query.get('framework')}/executors/${query.get('executor')}/runs/latest`;

const at = (id) => document.getElementById(id);
const name = (path) => path.slice(path.lastIndexOf('/') + 1);

let here = root;
let open = null; // {path, offset}
let turn = 0; // the newest call of follow(); older ones end

async function ask(endpoint, parameters) {
  const answer = await fetch(`files/${endpoint}?${new URLSearchParams(parameters)}`);
  if (!answer.ok) {
    throw new Error(answer.status === 404
      ? 'There is no such file or directory on this agent; the sandbox may have been removed.'
      : `${answer.status}: ${await answer.text()}`);
  }
  return answer.json();
}

function link(text, go) {
  const a = document.createElement('a');
  a.href = '#';
  a.textContent = text;
  a.addEventListener('click', (event) => { event.preventDefault(); go(); });
  return a;
}

function size(bytes) {
  let value = bytes;
  for (const unit of ['B', 'KB', 'MB', 'GB']) {
    if (value < 1024) return `${unit === 'B' ? value : value.toFixed(1)} ${unit}`;
    value /= 1024;
  }
  return `${value.toFixed(1)} TB`;
}

function row(entry) {
  const tr = document.createElement('tr');
  const when = new Date(entry.mtime * 1000).toLocaleString();
  for (const text of [entry.mode, `${entry.uid}:${entry.gid}`, size(entry.size), when]) {
    tr.insertCell().textContent = text;
  }
  const isDirectory = entry.mode.startsWith('d');
  tr.insertCell().append(link(
    name(entry.path) + (isDirectory ? '/' : ''),
    () => (isDirectory ? browse(entry.path) : show(entry.path)),
  ));
  const last = tr.insertCell();
  if (!isDirectory) {
    const a = document.createElement('a');
    a.href = `files/download?${new URLSearchParams({ path: entry.path })}`;
    a.textContent = 'Download';
    last.append(a);
  }
  return tr;
}

function crumbs() {
  const nav = at('path');
  nav.replaceChildren(link(name(root) || root, () => browse(root)));
  let path = root;
  for (const part of here.slice(root.length).split('/').filter(Boolean)) {
    path += `/${part}`;
    const target = path;
    nav.append(' / ', link(part, () => browse(target)));
  }
}

async function list() {
  const entries = await ask('browse', { path: here });
  at('files').replaceChildren(...entries.map(row));
  return entries;
}

async function browse(path) {
  here = path;
  crumbs();
  return attempt(list);
}

async function attempt(work) {
  try {
    const result = await work();
    at('message').textContent = '';
    return result;
  } catch (error) {
    at('message').textContent = error.message;
    return null;
  }
}

async function show(path) {
  open = { path, offset: null };
  at('viewer').hidden = false;
  at('file').textContent = name(path);
  at('text').textContent = '';
  turn += 1;
  await follow(turn);
}

async function more() {
  // Without an offset the answer is the size: text of the answer may differ in length from the
  // bytes it shows, so that only sizes tell how far we are.
  const { path } = open;
  const { offset: end } = await ask('read', { path });
  if (open.offset === null || end < open.offset) open.offset = Math.max(0, end - FIRST);
  const length = Math.min(64 * 1024, end - open.offset);
  if (length <= 0) return false;
  const { data } = await ask('read', { path, offset: open.offset, length });
  if (path !== open.path) return true;
  open.offset += length;
  const text = at('text');
  const atEnd = text.scrollTop + text.clientHeight >= text.scrollHeight - 8;
  text.append(data);
  if (text.textContent.length > KEPT) text.textContent = text.textContent.slice(-KEPT);
  if (atEnd && at('follow').checked) text.scrollTop = text.scrollHeight;
  return true;
}

async function follow(mine) {
  while (mine === turn) {
    const gotSome = await attempt(more);
    if (!gotSome) await new Promise((done) => { setTimeout(done, PAUSE_MS); });
    while (mine === turn && (!at('follow').checked || document.hidden)) {
      await new Promise((done) => { setTimeout(done, PAUSE_MS); });
    }
  }
}

document.title = `Sandbox ${name(root)}`;
at('title').textContent = query.get('executor') ?? 'Sandbox';
const entries = await browse(root);
const wanted = query.get('file') ?? 'stdout';
const found = entries?.find((entry) => name(entry.path) === wanted);
if (found) await show(found.path);
