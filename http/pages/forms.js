// The forms of the page /try: a form becomes a job; its events, its end and its artifacts are shown as they come.
"use strict";
const key = document.getElementById("key");
const types = document.body.dataset.events.split(" ");
const ends = new Set(["JobCompleted", "JobFailed", "JobCancelled", "JobExpired"]);

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
    await this.watch(job.id);
  }

  // Until the job ends, or another one was started here. A feed that breaks off goes on where it was.
  async watch(job) {
    let after = 0;
    let ended = false;
    for (let pause = 1000; !ended && job === this.id.textContent; pause = Math.min(2 * pause, 30000)) {
      try {
        await this.follow(job, after, (event) => {
          [after, ended, pause] = [event.seq, ends.has(event.type), 1000];
          if (job === this.id.textContent) this.show(event);
        });
      } catch (error) {
        this.status.textContent = error.message;
      }
      if (!ended) await new Promise((resume) => setTimeout(resume, pause));
    }
    if (job === this.id.textContent) await this.end(job);
  }

  // An EventSource can send no header: where a key is needed, a ticket stands for it, once. So the browser is not left to
  // open it again by itself.
  async follow(job, after, tell) {
    const ticket = key?.value ? (await (await ask("/v1/tickets", { method: "POST" })).json()).ticket : "";
    const feed = new EventSource(`/v1/jobs/${job}/events?${new URLSearchParams({ after, ...(ticket && { ticket }) })}`);
    await new Promise((over) => {
      for (const type of types) {
        feed.addEventListener(type, ({ data }) => {
          const event = JSON.parse(data);
          tell(event);
          if (ends.has(type)) over();
        });
      }
      feed.onerror = over;
    });
    feed.close();
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
