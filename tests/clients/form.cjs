// Fill in a form of the page /try in a real browser (the headless Chromium of an npm package), and write what is seen.
//
//   form.cjs URL PIPELINE FILE PARAMS [KEY] [cancel]
//
// First a line with the job's id, as soon as the page shows it; at the job's end one line of JSON.
const fs = require("fs");
const path = require("path");

const [url, pipeline, file, params, key, then] = process.argv.slice(2);

async function browse(folder) {
  process.env.TMPDIR = folder; // where the package unpacks the browser
  process.env.AWS_EXECUTION_ENV = "22.x"; // and the libraries that come with it: a small machine has none,
  process.env.FONTCONFIG_FILE = path.join(folder, "fonts.conf"); // nor fonts
  fs.writeFileSync(process.env.FONTCONFIG_FILE, `<fontconfig><dir>${folder}/fonts</dir></fontconfig>`);
  process.env.HOME = folder;
  const chromium = require("@sparticuz/chromium");
  const puppeteer = require("puppeteer-core");
  chromium.setGraphicsMode = false;
  const browser = await puppeteer.launch({
    executablePath: await chromium.executablePath(),
    args: ["--no-sandbox", "--disable-gpu"], // root has no sandbox, and only our own page is shown
    headless: "shell",
    pipe: true, // closes with us
    timeout: 100_000, // the test has a limit of its own
  });
  try {
    const page = await browser.newPage();
    page.setDefaultTimeout(100_000);
    await fill(page);
  } finally {
    await browser.close();
  }
}

async function fill(page) {
  const hosts = new Set();
  const troubles = [];
  page.on("request", (request) => hosts.add(new URL(request.url()).host));
  page.on("console", (message) => message.type() === "error" && troubles.push(message.text()));
  page.on("pageerror", (error) => troubles.push(String(error)));
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
  await page.waitForFunction((id) => document.querySelector(`#${id} .job code`).textContent
    || !["", "sending"].includes(document.querySelector(`#${id} .job strong`).textContent), {}, `try-${pipeline}`);
  console.log(await article.$eval(".job code", (element) => element.textContent));
  if (then === "cancel") {
    await page.waitForFunction((id) => document.querySelector(`#${id} .events`).textContent.includes("StageStarted"), {},
      `try-${pipeline}`);
    await (await article.$("[name=cancel]")).click();
  }
  await page.waitForFunction((id) => /^(completed|failed|cancelled|\w.*: |The )/.test(
    document.querySelector(`#${id} .job strong`).textContent), {}, `try-${pipeline}`);
  const seen = await article.evaluate((element) => ({
    status: element.querySelector(".job strong").textContent,
    events: [...element.querySelectorAll(".events li")].map((line) => line.textContent.trim()),
    artifacts: [...element.querySelectorAll(".artifacts a")].map((link) => [link.textContent, link.getAttribute("href")]),
  }));
  const saved = [];
  for (const link of await article.$$(".artifacts a")) saved.push(await save(page, link));
  console.log(JSON.stringify({ ...seen, saved, hosts: [...hosts].filter(Boolean), troubles }));
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

const folder = fs.mkdtempSync(path.join(path.dirname(file), "browser-"));
browse(folder)
  .catch((error) => {
    console.error(error);
    process.exitCode = 1;
  })
  .finally(() => fs.rmSync(folder, { recursive: true, force: true }));
