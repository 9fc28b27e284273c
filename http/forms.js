// The forms of the page /try: a form becomes a job; its events, its end and its artifacts are shown as they come.
"use strict";
const key = document.getElementById("key");
const types = document.body.dataset.events.split(" ");
const ends = { JobCompleted: "completed", JobFailed: "failed", JobCancelled: "cancelled", JobExpired: "expired" };

async function ask(path, options = {}) {
  const headers = key?.value ? { Authorization: `Bearer ${key.value}` } : {};
  const answer = await fetch(path, { ...options, headers });
  if (answer.ok) return answer;
  const problem = await answer.json().catch(() => ({}));
  throw new Error([problem.title ?? answer.statusText, problem.detail].filter(Boolean).join(": "));
}

// A control whose value is not its default. What was left alone is not sent: the service has the same defaults.
function changed(control) {
  if (control.type === "checkbox") return control.checked !== control.defaultChecked;
  if (control.tagName === "SELECT") return !control.selectedOptions[0]?.defaultSelected && control.value !== "";
  return control.value !== control.defaultValue;
}

function valueOf(control) {
  if (control.type === "checkbox") return control.checked;
  if (control.value === "") return null;
  if (control.type === "number") return control.valueAsNumber;
  if (!("json" in control.dataset)) return control.value;
  try {
    return JSON.parse(control.value);
  } catch {
    throw new Error(`${control.name.slice("param-".length)} is no JSON`);
  }
}

function paramsOf(form) {
  const controls = [...form.elements].filter((control) => control.name.startsWith("param-") && changed(control));
  return Object.fromEntries(controls.map((control) => [control.name.slice("param-".length), valueOf(control)]));
}

class View {
  constructor(form) {
    this.form = form;
    this.cancel = form.elements.cancel;
    this.section = form.parentElement.querySelector(".job");
    [this.status, this.id, this.bar, this.result] = ["strong", "code", "progress", "pre"].map((tag) =>
      this.section.querySelector(tag));
    this.artifacts = this.section.querySelector(".artifacts");
    this.events = this.section.querySelector(".events");
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.trying(() => this.submit());
    });
    this.cancel.addEventListener("click", () =>
      this.trying(() => ask(`/v1/jobs/${this.id.textContent}/cancel`, { method: "POST" })));
  }

  async trying(act) {
    try {
      await act();
    } catch (error) {
      this.section.hidden = false;
      this.status.textContent = error.message;
    }
  }

  async submit() {
    const body = new FormData();
    body.set("pipeline", this.form.dataset.pipeline);
    body.set("params", JSON.stringify(paramsOf(this.form)));
    body.set("file", this.form.elements.file.files[0]);
    for (const part of [this.artifacts, this.events, this.result, this.id]) part.replaceChildren();
    this.section.hidden = false;
    this.status.textContent = "sending";
    this.bar.removeAttribute("value");
    const job = await (await ask("/v1/jobs", { method: "POST", body })).json();
    this.id.textContent = job.id;
    this.status.textContent = job.status;
    this.cancel.disabled = false;
    await this.watch(job.id, 0);
  }

  // An EventSource can send no header: where a key is needed, a ticket stands for it, once. So a feed that breaks off is
  // not left to the browser to open again.
  async watch(job, after) {
    const ticket = key?.value ? (await (await ask("/v1/tickets", { method: "POST" })).json()).ticket : "";
    const feed = new EventSource(`/v1/jobs/${job}/events?${new URLSearchParams({ after, ...(ticket && { ticket }) })}`);
    for (const type of types) {
      feed.addEventListener(type, (message) => {
        if (job !== this.id.textContent) return feed.close(); // another one was started meanwhile
        const event = JSON.parse(message.data);
        after = event.seq;
        this.show(event);
        if (!(type in ends)) return;
        feed.close();
        this.trying(() => this.end(job));
      });
    }
    feed.onerror = () => {
      feed.close();
      setTimeout(() => job === this.id.textContent && this.trying(() => this.watch(job, after)), 1000);
    };
  }

  show({ seq, type, stage = "", data }) {
    if (type === "StageStarted") this.status.textContent = stage;
    const said = type === "StageProgressed" ? `${Math.round(data.progress * 100)} % ${data.message}`
      : data.message ?? data.lines?.join("\n") ?? (data.partial ? JSON.stringify(data.partial).slice(0, 300) : "");
    const line = document.createElement("li");
    line.textContent = `${seq} ${type} ${stage} ${said}`;
    if (type === "StageProgressed") {
      line.dataset.progress = stage;
      this.events.querySelector(`[data-progress="${CSS.escape(stage)}"]`)?.remove(); // one line a stage is enough
    }
    this.events.append(line);
    this.events.scrollTop = this.events.scrollHeight;
  }

  async end(id) {
    const job = await (await ask(`/v1/jobs/${id}`)).json();
    this.cancel.disabled = true;
    this.bar.value = job.progress; // until then it moves: how far each stage is, its events say
    this.status.textContent = job.error ? `${job.status}: ${job.error.message}` : job.status;
    this.result.textContent = job.result ? JSON.stringify(job.result, null, 2) : "";
    this.artifacts.replaceChildren(...job.artifacts.map((artifact) => this.link(artifact)));
  }

  link({ name, url, bytes }) {
    const item = document.createElement("li");
    const link = document.createElement("a");
    link.textContent = name;
    link.href = url;
    link.download = name;
    link.addEventListener("click", (event) => {
      if (!key?.value || link.href.startsWith("blob:")) return; // a link sends no key: it is fetched, then saved
      event.preventDefault();
      this.trying(async () => {
        link.href = URL.createObjectURL(await (await ask(url)).blob());
        link.click();
      });
    });
    item.append(link, ` ${bytes.toLocaleString()} bytes`);
    return item;
  }
}

for (const form of document.forms) new View(form);
