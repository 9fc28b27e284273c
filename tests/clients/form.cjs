// Fill in a form of the page /try in a real browser, and write what is seen.
//
//   form.cjs URL PIPELINE FILE PARAMS [KEY] [cancel | retry:STAGE[:PARAMS] | retried | hide | folded | away | gone]
//
// First a line with the job's id, as soon as the page shows it; at the job's end one line of JSON. A cancel is pressed
// once the bar shows that it goes on, a retry once the job has failed: its end is then the next one, as it is of one that is
// `retried` by somebody else after the line `ended`. A page that hides is seen again when the job has ended; a line
// `hidden` says that it has let go of its feeds. `folded`: the first number is made too large and the params are folded;
// a line says what the browser asks for then, before it is put right. `away`: the service does not answer, and its
// feeds break off; a line says what the page shows then, and the next one comes when that is gone since the feed is back.
// `gone`: the file is removed before it is sent.
const fs = require("fs");
const path = require("path");
const { shown, withPage } = require("./chromium.cjs");

const [url, pipeline, file, params, key, then] = process.argv.slice(2);
const view = `#try-${pipeline} .job`;

async function fill(page, noticed) {
  const feeds = new Set();
  page.on("request", (request) => request.resourceType() === "eventsource" && feeds.add(request));
  for (const end of ["requestfailed", "requestfinished"]) page.on(end, (request) => feeds.delete(request));
  await page.goto(`${url}/try`);
  if (key) await page.type("#key", key);
  const article = await page.$(`#try-${pipeline}`);
  await (await article.$("[name=file]")).uploadFile(file);
  await (await article.$("summary")).click();
  await enterAll(await article.$("details"), JSON.parse(params));
  const start = await article.$("form > p > button");
  if (then === "gone") {
    await article.$eval("[name=file]", (element) => element.files[0].size); // it is known as it was
    fs.rmSync(file);
  }
  if (then === "folded") await askedFor(page, article, start);
  await start.click({ count: 2 }); // as many people do
  await page.waitForFunction((view) => document.querySelector(`${view} code`).textContent
    || document.querySelector(`${view} [role=alert]`).textContent, {}, view);
  console.log(await article.$eval(".job code", (element) => element.textContent));
  if (then === "cancel") {
    await page.waitForFunction((view) => document.querySelector(`${view} progress`).value > 0, {}, view);
    await (await article.$("[name=cancel]")).click();
  }
  if (then?.startsWith("retry:")) {
    await page.waitForSelector(`${view} [name=retry]:enabled`);
    const [stage, ...changes] = then.slice("retry:".length).split(":");
    await page.select(`${view} [name=stage]`, stage);
    if (changes.length) {
      await (await article.$(".again summary")).click();
      await enterAll(await article.$(".again details"), JSON.parse(changes.join(":")));
    }
    await (await article.$("[name=retry]")).click();
    await told(page, "JobRetried");
  }
  if (then === "retried") {
    await page.waitForSelector(`${view} [name=retry]:enabled`);
    console.log("ended");
    await told(page, "JobRetried");
  }
  if (then === "hide") await hide(page, feeds);
  if (then === "away") await lose(page, feeds);
  // Until it was refused, or has ended.
  await page.waitForFunction((view) => !document.querySelector(`${view} code`).textContent
    || (document.querySelector(`${view} [name=retry]:enabled`)
      && / Job(Completed|Failed|Cancelled) /.test(document.querySelector(`${view} .events li:last-child`).textContent)),
  {}, view);
  const saved = [];
  for (const link of await article.$$(".artifacts a")) saved.push(await save(page, link));
  console.log(JSON.stringify({ ...(await shown(article)), saved, ...noticed() }));
}

async function enterAll(box, values) {
  for (const [name, value] of Object.entries(values)) await enter(await box.$(`[name=param-${name}]`), value);
}

// As a person does: with clicks and keys. What is in a list or a map already stays.
async function enter(part, value) {
  const kind = await part.evaluate((element) => element.dataset.kind ?? (element.type === "checkbox" ? "box" : element.tagName));
  if (kind === "object") return enterAll(part, value);
  if (kind === "box") return part.click();
  if (kind === "SELECT") return part.select(value);
  if (kind.toUpperCase() === kind) {
    await part.evaluate((element) => element.select());
    return part.type(value);
  }
  for (const [name, one] of Object.entries(kind === "maybe" ? [value] : value)) {
    await (await part.$(":scope > .add")).click();
    const item = await part.$(":scope > .items > li:last-child");
    await (await item.$(":scope > label > .key"))?.type(name);
    await enter(await item.$("[name]"), one);
  }
}

async function askedFor(page, article, start) {
  const number = await article.$("[type=number]");
  const kept = await number.evaluate((element) => element.value);
  await enter(number, "99999");
  await (await article.$("summary")).click();
  await start.click();
  await page.waitForFunction(() => document.activeElement.matches("input"));
  console.log(await page.evaluate(() => document.activeElement.name));
  await enter(number, kept);
}

const told = (page, type) => page.waitForFunction((view, type) =>
  document.querySelector(`${view} .events`).textContent.includes(type), {}, view, type);

const turn = (page, hidden) => page.evaluate((hidden) => {
  const wait = window.setTimeout;
  window.setTimeout = (act) => wait(act, 0); // if it came back, it would be at once
  Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}, hidden);

async function letGo(page, feeds) {
  while (feeds.size < 2) await new Promise((resolve) => page.once("request", resolve)); // the job's, that of all jobs
  await turn(page, true);
  while (feeds.size) await new Promise((resolve) => page.once("requestfailed", resolve));
}

async function lose(page, feeds) {
  await page.evaluate(() => {
    window.kept = window.fetch;
    window.fetch = () => Promise.reject(new TypeError("Failed to fetch"));
  });
  await letGo(page, feeds);
  const shown = (wanted) => page.waitForFunction((view, wanted) => {
    const text = document.querySelector(`${view} [role=alert]`).textContent;
    return Boolean(text) === wanted && { text };
  }, {}, view, wanted);
  console.log((await (await shown(true)).jsonValue()).text);
  await turn(page, false);
  await shown(false); // by the feed, which is there again
  await page.evaluate(() => { window.fetch = window.kept; });
  console.log("back");
}

async function hide(page, feeds) {
  await letGo(page, feeds);
  console.log("hidden");
  const id = await page.$eval(`${view} code`, (element) => element.textContent);
  await page.evaluate(async (id) => {
    while ((await (await fetch(`/v1/jobs/${id}`)).json()).status !== "completed");
  }, id);
  if (feeds.size) throw new Error("a hidden page watches");
  await turn(page, false);
}

// What a click on the link saves.
async function save(page, link) {
  const folder = fs.mkdtempSync(path.join(process.env.TMPDIR, "saved-"));
  const session = await page.createCDPSession();
  await session.send("Browser.setDownloadBehavior", { behavior: "allow", downloadPath: folder, eventsEnabled: true });
  const done = new Promise((resolve) => session.on("Browser.downloadProgress", ({ state }) =>
    state !== "inProgress" && resolve(state)));
  await link.click();
  await done;
  return fs.readdirSync(folder).map((name) => [name, fs.readFileSync(path.join(folder, name), "utf8")])[0];
}

withPage(path.dirname(file), fill);
