// Fill in a form of the page /try in a real browser, and write what is seen.
//
//   form.cjs URL PIPELINE FILE PARAMS [KEY] [cancel | retry:STAGE | retried | hide]
//
// First a line with the job's id, as soon as the page shows it; at the job's end one line of JSON. A cancel is pressed
// once the bar shows that it goes on, a retry once the job has failed: its end is then the next one, as it is of one that is
// `retried` by somebody else after the line `ended`. A page that hides is seen again when the job has ended; a line
// `hidden` says that it has let go of its feeds.
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
  for (const [name, value] of Object.entries(JSON.parse(params))) {
    const control = await article.$(`[name=param-${name}]`);
    await control.evaluate((element) => element.value !== undefined && element.type !== "checkbox" && element.select?.());
    await (typeof value === "boolean" ? control.click() : control.type(value));
  }
  await (await article.$("form button")).click();
  await page.waitForFunction((view) => document.querySelector(`${view} code`).textContent
    || document.querySelector(`${view} [role=alert]`).textContent, {}, view);
  console.log(await article.$eval(".job code", (element) => element.textContent));
  if (then === "cancel") {
    await page.waitForFunction((view) => document.querySelector(`${view} progress`).value > 0, {}, view);
    await (await article.$("[name=cancel]")).click();
  }
  if (then?.startsWith("retry:")) {
    await page.waitForSelector(`${view} [name=retry]:enabled`);
    await page.select(`${view} [name=stage]`, then.slice("retry:".length));
    await (await article.$("[name=retry]")).click();
    await told(page, "JobRetried");
  }
  if (then === "retried") {
    await page.waitForSelector(`${view} [name=retry]:enabled`);
    console.log("ended");
    await told(page, "JobRetried");
  }
  if (then === "hide") await hide(page, feeds);
  // Until it was refused, or has ended.
  await page.waitForFunction((view) => !document.querySelector(`${view} code`).textContent
    || (document.querySelector(`${view} [name=retry]:enabled`)
      && / Job(Completed|Failed|Cancelled) /.test(document.querySelector(`${view} .events li:last-child`).textContent)),
  {}, view);
  const saved = [];
  for (const link of await article.$$(".artifacts a")) saved.push(await save(page, link));
  console.log(JSON.stringify({ ...(await shown(article)), saved, ...noticed() }));
}

const told = (page, type) => page.waitForFunction((view, type) =>
  document.querySelector(`${view} .events`).textContent.includes(type), {}, view, type);

async function hide(page, feeds) {
  const turn = (hidden) => page.evaluate((hidden) => {
    const wait = window.setTimeout;
    window.setTimeout = (act) => wait(act, 0); // if it came back, it would be at once
    Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
  }, hidden);
  while (feeds.size < 2) await new Promise((resolve) => page.once("request", resolve)); // the job's, that of all jobs
  await turn(true);
  while (feeds.size) await new Promise((resolve) => page.once("requestfailed", resolve));
  console.log("hidden");
  const id = await page.$eval(`${view} code`, (element) => element.textContent);
  await page.evaluate(async (id) => {
    while ((await (await fetch(`/v1/jobs/${id}`)).json()).status !== "completed");
  }, id);
  if (feeds.size) throw new Error("a hidden page watches");
  await turn(false);
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
