// One job as the page shows it: its events as they come, its end, its artifacts; cancel and retry.
"use strict";
const shownPictures = { count: 20, bytes: 2 * 1024 * 1024, type: /^image\/(gif|jpeg|png|webp)\b/ };

function made(tag, members = {}) {
  return Object.assign(document.createElement(tag), members);
}

class View {
  constructor(section, fields) {
    const part = (selector) => section.querySelector(selector);
    Object.assign(this, { section, status: part("[role=status]"), file: part(".file"), id: part("code") });
    Object.assign(this, { trouble: part("[role=alert]"), whole: part(".whole"), bar: part("progress"), result: part("pre") });
    Object.assign(this, { artifacts: part(".artifacts"), pictures: part(".pictures"), events: part(".events ol") });
    Object.assign(this, { cancel: part("[name=cancel]"), stages: part("[name=stage]"), retry: part("[name=retry]") });
    this.cancel.addEventListener("click", () => this.trying(() => this.command("cancel", {})));
    this.fields = fields?.cloneNode(true);
    if (fields) {
      Object.assign(this.fields, { open: false, hidden: true });
      this.fields.querySelector("summary").textContent = "Params of the retry";
      part(".again").append(this.fields);
    }
    part(".again").addEventListener("submit", (event) => {
      event.preventDefault();
      this.trying(() => this.command("retry", this.wanted()));
    });
  }

  // Params that are not changed stay as they are.
  wanted() {
    const [from_stage, params] = [this.stages.value, this.fields ? members(this.fields) : {}];
    return { ...(from_stage && { from_stage }), ...(Object.keys(params).length && { params }) };
  }

  async trying(act) {
    this.trouble.textContent = "";
    try {
      await act();
    } catch (error) {
      this.section.hidden = false;
      this.trouble.textContent = error.message;
    }
  }

  // Nothing of the job that was shown before stays; where none comes, only the trouble is seen.
  clear(status = "") {
    this.watch?.leave();
    Object.assign(this, { watch: null, job: null, published: "" });
    for (const part of [this.file, this.id, this.events, this.result, this.trouble]) part.replaceChildren();
    this.publish([]);
    this.allow([]);
    this.bar.removeAttribute("value");
    this.status.textContent = status;
    this.whole.hidden = !status;
    this.section.hidden = false;
  }

  // From its first event on, whether it runs or has ended.
  open(job) {
    this.clear(job.status);
    this.id.textContent = job.id;
    this.update(job);
    this.follow("");
  }

  follow(after) {
    const over = (watch, trouble) => this.over(watch, trouble);
    const opened = () => this.lost && this.lose("");
    this.watch = new Watch(`/v1/jobs/${this.job.id}/events`, after, (event) => this.show(event), over, opened);
  }

  // Why nothing comes of the job, until something does.
  lose(why) {
    this.lost = Boolean(why);
    this.trouble.textContent = why;
  }

  // The job has another attempt: what was shown of it goes on.
  async goOn(id) {
    if (this.job?.id !== id || !this.watch.ended) return;
    this.follow(this.watch.after);
    const job = await askJson(`/v1/jobs/${id}`);
    if (this.job?.id === id) this.update(job);
  }

  // A feed ends with its job; or it broke off. The end of a job is shown after all that led to it.
  async over(watch, trouble) {
    try {
      const job = await askJson(`/v1/jobs/${this.job.id}`);
      if (watch.left) return false;
      this.lose(trouble?.message ?? "");
      const ended = job.allowed_actions.includes("retry");
      const seen = job.seq <= Number(watch.after) && job.seq >= this.job.seq; // else it is older than what is known
      if (seen || !ended) this.update(job);
      return seen && ended;
    } catch (error) {
      if (!watch.left) this.lose(error.message);
      return [404, 410].includes(error.status); // forgotten
    }
  }

  async command(name, body) {
    const { id } = this.job;
    const options = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
    const job = await askJson(`/v1/jobs/${id}/${name}`, options);
    if (this.job?.id !== id) return;
    this.update(job);
    await this.goOn(id);
  }

  // Answers may overtake each other: what is shown never goes back.
  update(job) {
    if (job.seq <= this.job?.seq) return;
    this.job = job;
    this.file.textContent = job.input.filename;
    this.status.textContent = job.error ? `${job.status}: ${job.error.message}` : job.status;
    this.result.textContent = job.result ? JSON.stringify(job.result, null, 2) : "";
    this.allow(job.allowed_actions, job.stages);
    if (this.fields) fillAll(this.fields, job.params);
    this.bar.value = job.progress;
    const files = job.artifacts.map(({ url, sha256 }) => `${url} ${sha256}`).join("\n");
    if (files !== this.published) this.publish(job.artifacts);
    this.published = files;
  }

  // How far the whole job is no event says: the list of jobs does.
  progressed({ id, seq, progress }) {
    if (id === this.job?.id && seq > this.job.seq) this.bar.value = progress;
  }

  // Whoever has pressed what cannot be pressed again stays at this job.
  allow(actions, stages = []) {
    const { activeElement } = document;
    const ended = actions.includes("retry");
    this.cancel.disabled = !actions.includes("cancel");
    this.stages.disabled = this.retry.disabled = !ended;
    if (this.fields) this.fields.hidden = !ended;
    const left = this.section.contains(activeElement) && activeElement.matches(":disabled, [hidden] *");
    if (left) this.section.focus({ preventScroll: true });
    const names = new Set(stages.flatMap(({ name }) => [name.split(":")[0], name])); // a fan-out: all, or one of it
    const whole = stages.every(({ status }) => ["succeeded", "skipped"].includes(status));
    const first = made("option", { value: "", textContent: whole ? "the beginning" : "what has not succeeded" });
    this.stages.replaceChildren(first, ...[...names].map((name) => made("option", { textContent: name })));
  }

  show({ seq, type, stage = "", data }) {
    if (type === "reset") return;
    if (type === "StageStarted" && seq > this.job.seq) this.status.textContent = stage; // else more is known already
    const said = type === "StageProgressed" ? `${Math.round(data.progress * 100)} % ${data.message}`
      : data.message ?? data.lines?.join("\n") ?? (data.partial ? JSON.stringify(data.partial).slice(0, 300) : "");
    const line = made("li", { textContent: `${seq} ${type} ${stage} ${said}` });
    if (type === "StageProgressed") {
      line.dataset.progress = stage;
      this.events.querySelector(`[data-progress="${CSS.escape(stage)}"]`)?.remove(); // one line a stage is enough
    }
    this.events.append(line);
    if (this.events.childElementCount > this.events.dataset.most) this.events.firstElementChild.remove();
  }

  publish(artifacts) {
    const blobs = this.section.querySelectorAll("img, a[href^='blob:']");
    for (const { src, href } of blobs) URL.revokeObjectURL(src ?? href);
    this.pictures.replaceChildren();
    this.artifacts.replaceChildren(...artifacts.map((artifact) => this.link(artifact)));
    this.trying(() => this.draw(artifacts));
  }

  // Each picture is fetched, since an image sends no key.
  async draw(artifacts) {
    const { count, bytes, type } = shownPictures;
    const pictures = artifacts.filter((artifact) => type.test(artifact.media_type) && artifact.bytes <= bytes);
    const drawing = (this.drawing = {});
    for (const { name, url } of pictures.slice(0, count)) {
      const blob = await (await ask(`${url}?inline=1`)).blob();
      if (this.drawing !== drawing) return; // others are to be shown by now
      this.pictures.append(made("img", { alt: name, src: URL.createObjectURL(blob) }));
    }
  }

  link({ name, url, bytes }) {
    const item = made("li");
    const link = made("a", { textContent: name, href: url, download: name });
    link.addEventListener("click", (event) => {
      // A link sends no key: it is fetched, then saved; from here, since the page may ask no other host.
      if (!key?.value || link.href.startsWith("blob:")) return;
      event.preventDefault();
      this.trying(async () => {
        link.href = URL.createObjectURL(await (await ask(`${url}?inline=1`)).blob());
        link.click();
      });
    });
    item.append(link, ` ${bytes.toLocaleString()} bytes`);
    return item;
  }
}
