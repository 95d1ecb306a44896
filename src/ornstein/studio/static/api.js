// Requests to the server; on a page that was exported, answers come from what was recorded in it.

const recording = document.getElementById("recorded");
export const recorded = recording ? JSON.parse(recording.textContent) : null;

let troubled = () => {};
export function onTrouble(listener) {
  troubled = listener;
}

export class Failure extends Error {}

async function request(path, options) {
  let answer;
  try {
    answer = await fetch(path, { credentials: "same-origin", ...options });
  } catch {
    troubled("The server does not answer. It may have been stopped; this page tries again when you ask for something.");
    throw new Failure("The server does not answer.");
  }
  if (answer.status === 403) troubled("The server was started anew: open the address that it printed.");
  else troubled("");
  const content = await answer.json().catch(() => ({ error: "The answer was cut short." }));
  if (!answer.ok) throw new Failure(content.error ?? `The server answered ${answer.status}.`);
  return content;
}

export function key(name, ask) {
  return `${name} ${JSON.stringify(Object.entries(ask).sort(([a], [b]) => (a < b ? -1 : 1)))}`;
}

export async function about() {
  return recorded ? recorded.about : request("about");
}

export async function call(name, ask) {
  if (recorded) {
    const answer = recorded.calls[key(name, ask)];
    if (!answer) throw new Failure("This saved page does not hold that; it needs `ornstein studio`.");
    return answer;
  }
  return request(`calls/${name}`, { method: "POST", body: JSON.stringify(ask) });
}

export async function get(path) {
  if (recorded) {
    const answer = recorded.pages[path];
    if (!answer) throw new Failure("This saved page does not hold that; it needs `ornstein studio`.");
    return answer;
  }
  return request(path);
}

export async function upload(run, file, as = "items") {
  if (file.size > 8 << 20) throw new Failure("Uploads hold at most 8 MB.");
  return request(`uploads/${encodeURIComponent(run)}?as=${as}`, { method: "POST", body: file });
}

// Whether a view has something to show of a run: on a page that was exported, what was recorded.
export const holds = (view, run) => !recorded || recorded.asks[view].some((one) => one.ask.run === run.id);

// Begins a job and calls onEvent for each of its events; `replaces` is a job that is not wanted any more.
export async function start(view, ask, onEvent, replaces = null) {
  if (recorded) return replay(recorded.jobs[key(view, ask)], onEvent);
  const body = JSON.stringify(replaces ? { ...ask, replaces } : ask);
  const { job } = await request(`jobs/${view}`, { method: "POST", body });
  return follow(job, onEvent);
}

// The events of a job from its first on: also of one that began before the page was loaded again.
export function follow(job, onEvent) {
  const source = new EventSource(`jobs/${job}/events`);
  let done;
  const ended = new Promise((resolve) => (done = resolve));
  const close = (why) => {
    source.close();
    done(why);
  };
  source.onmessage = (message) => {
    troubled("");
    onEvent(JSON.parse(message.data));
  };
  source.addEventListener("done", () => close("done"));
  source.onerror = () => {
    if (source.readyState === EventSource.CLOSED) {
      onEvent({ type: "lost" });
      close("lost");
    } else troubled("The server does not answer; trying again.");
  };
  return {
    id: job,
    ended,
    cancel() {
      close("cancelled");
      return fetch(`jobs/${job}`, { method: "DELETE", credentials: "same-origin" }).catch(() => {});
    },
  };
}

export async function animation(kind, job, beside = null) {
  const answer = await fetch(`jobs/${job}/animation?as=${kind}${beside ? `&beside=${beside}` : ""}`, { credentials: "same-origin" });
  if (!answer.ok) throw new Failure((await answer.json()).error);
  return answer.blob();
}

function replay(events, onEvent) {
  if (!events) throw new Failure("This saved page does not hold that; it needs `ornstein studio`.");
  let open = true;
  const ended = (async () => {
    for (const event of events) {
      if (!open) return "cancelled";
      onEvent(event);
      if (event.type === "frame") await new Promise((resolve) => setTimeout(resolve, 40));
    }
    return "done";
  })();
  return { id: null, ended, cancel: () => (open = false) };
}

// Numbers and pixels come as base64.
function bytes(text) {
  const binary = atob(text), made = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) made[i] = binary.charCodeAt(i);
  return made;
}
export const pixels = (text) => bytes(text);
export const floats = (text) => new Float32Array(bytes(text).buffer);
export const doubles = (text) => new Float64Array(bytes(text).buffer);
