// How the page speaks to the service: requests, and feeds that go on where they were.
"use strict";
const key = document.getElementById("key");
const types = [...document.body.dataset.events.split(" "), "EventForgotten", "reset"];
const [firstPause, lastPause] = [1000, 30000]; // ms, before something that failed is tried again: ever later
const sleep = (ms) => new Promise((wake) => setTimeout(wake, ms));

async function ask(path, options = {}) {
  const headers = { ...options.headers, ...(key?.value && { Authorization: `Bearer ${key.value}` }) };
  const answer = await fetch(path, { ...options, headers }).catch(() => {
    throw new Error("The service does not answer");
  });
  if (answer.ok) return answer;
  const problem = await answer.json().catch(() => ({}));
  const title = answer.status === 401 && key?.value ? "This key is not known" : problem.title ?? answer.statusText;
  const text = [title, problem.detail].filter(Boolean).join(": ");
  throw Object.assign(new Error(text), { status: answer.status });
}

const askJson = async (path, options) => (await ask(path, options)).json();

const visible = () => new Promise((seen) =>
  document.hidden ? document.addEventListener("visibilitychange", seen, { once: true }) : seen());

// A feed from `after` on: `tell` gets each event once, in order. Whenever it ends or breaks off, `over` says whether
// that was all; whenever it is there, `opened` hears of it. A hidden page lets go of it until it is seen again: a browser
// has six connections to a server, for all its tabs.
class Watch {
  constructor(path, after, tell, over, opened = () => {}) {
    Object.assign(this, { path, after, tell, over, opened, left: false, ended: false, pause: firstPause });
    this.run();
  }

  leave() {
    this.left = true;
    this.stop?.();
  }

  async run() {
    for (; !this.left; this.pause = Math.min(2 * this.pause, lastPause)) {
      await visible();
      const trouble = await this.follow().catch((error) => error);
      this.ended = !this.left && (await this.over(this, trouble));
      if (this.ended) return;
      await sleep(this.pause);
    }
  }

  // An EventSource can send no header: where a key is needed, a ticket stands for it, once. So the browser is not left
  // to open it again by itself.
  async follow() {
    const ticket = key?.value ? (await askJson("/v1/tickets", { method: "POST" })).ticket : "";
    if (this.left) return;
    const asked = new URLSearchParams({ ...(this.after && { after: this.after }), ...(ticket && { ticket }) });
    const feed = new EventSource(`${this.path}?${asked}`);
    const stopped = new AbortController();
    feed.onopen = () => this.left || this.opened();
    await new Promise((stop) => {
      this.stop = feed.onerror = () => stop();
      document.addEventListener("visibilitychange", this.stop, { signal: stopped.signal });
      for (const type of types) feed.addEventListener(type, (event) => this.heard(event));
    });
    stopped.abort();
    feed.close();
  }

  // A reset has no id: it says itself where the feed goes on.
  heard({ type, data, lastEventId }) {
    if (this.left) return;
    const event = JSON.parse(data);
    this.after = type === "reset" ? (event.after ?? event.job.seq) : lastEventId;
    this.pause = firstPause;
    this.tell({ ...event, type });
  }
}
