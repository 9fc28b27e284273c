// The newest jobs there are, whoever started them: the feed of all jobs says when to look again, once a second at most.
"use strict";
const relative = new Intl.RelativeTimeFormat("en", { numeric: "auto", style: "short" });
const spans = [[86400, "day"], [3600, "hour"], [60, "minute"], [1, "second"]];

function ago(time) {
  const seconds = Math.max(1, (Date.now() - Date.parse(time)) / 1000);
  const [length, unit] = spans.find(([length]) => seconds >= length);
  return relative.format(-Math.floor(seconds / length), unit);
}

class Row {
  constructor(template, open) {
    this.line = template.content.firstElementChild.cloneNode(true);
    const parts = ["button", ".pipeline", ".status", "progress", "time"].map((part) => this.line.querySelector(part));
    [this.name, this.pipeline, this.status, this.bar, this.age] = parts;
    this.name.addEventListener("click", () => open(this.job));
  }

  fill(job) {
    this.job = job;
    this.name.textContent = job.input.filename || job.id;
    this.pipeline.textContent = job.pipeline;
    this.status.textContent = job.status;
    this.bar.value = job.progress;
    this.tick();
  }

  tick() {
    this.age.textContent = ago(this.job.created_at);
  }
}

class JobList {
  constructor(section) {
    this.section = section;
    this.said = section.querySelector("[role=status]");
    this.body = section.querySelector("tbody");
    this.template = section.querySelector("template");
    this.rows = new Map();
    setInterval(() => this.rows.forEach((row) => row.tick()), 10000);
    key?.addEventListener("change", () => this.start());
    this.start();
  }

  // Anew, for whoever has the key.
  start() {
    this.watch?.leave();
    this.watch = null;
    this.draw([]);
    this.said.textContent = "";
    this.section.hidden = Boolean(key && !key.value);
    if (!this.section.hidden) this.watch = new Watch("/v1/events", "", (event) => this.heard(event), () => this.look());
  }

  heard({ type, job }) {
    if (type === "JobRetried") for (const view of views.values()) view.trying(() => view.goOn(job));
    this.look();
  }

  async look() {
    this.stale = true;
    const { watch } = this;
    if (this.looking === watch) return;
    this.looking = watch; // with another key somebody else looks, and does not wait for this one
    for (let pause = firstPause; this.stale && watch === this.watch; await sleep(pause)) {
      this.stale = false;
      try {
        const { jobs } = await askJson(`/v1/jobs?limit=${this.section.dataset.most}`);
        if (watch !== this.watch) return;
        this.draw(jobs);
        this.said.textContent = jobs.length ? "" : "There are none yet.";
        pause = firstPause;
      } catch (error) {
        if (watch !== this.watch) return;
        this.said.textContent = error.message;
        this.stale = true;
        pause = Math.min(2 * pause, lastPause);
      }
    }
    if (this.looking === watch) this.looking = null;
  }

  // Lines that stay are not moved: one may have the focus.
  draw(jobs) {
    const wanted = new Set(jobs.map(({ id }) => id));
    for (const [id, row] of this.rows) {
      if (wanted.has(id)) continue;
      row.line.remove();
      this.rows.delete(id);
    }
    jobs.forEach((job, place) => {
      const row = this.rows.get(job.id) ?? new Row(this.template, (opened) => this.open(opened));
      this.rows.set(job.id, row);
      if (this.body.rows[place] !== row.line) this.body.insertBefore(row.line, this.body.rows[place] ?? null);
      row.fill(job);
      views.get(job.pipeline)?.progressed(job);
    });
  }

  open(job) {
    const view = views.get(job.pipeline);
    if (!view) {
      this.said.textContent = `The pipeline ${job.pipeline} is not on offer any more.`;
      return;
    }
    view.open(job);
    view.section.focus();
  }
}

new JobList(document.querySelector(".jobs"));
