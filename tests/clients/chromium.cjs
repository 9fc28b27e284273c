// A real browser: the headless Chromium of an npm package, which unpacks itself into a folder of its own.
const fs = require("fs");
const path = require("path");

async function browse(folder, act) {
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
    const hosts = new Set();
    const troubles = [];
    page.on("request", (request) => hosts.add(new URL(request.url()).host));
    page.on("console", (message) => message.type() === "error" && troubles.push(message.text()));
    page.on("pageerror", (error) => troubles.push(String(error)));
    await act(page, () => ({ hosts: [...hosts].filter(Boolean), troubles }));
  } finally {
    await browser.close();
  }
}

// `act` gets a page, and a function that tells which hosts it has asked and what went wrong in it.
exports.withPage = (place, act) => {
  const folder = fs.mkdtempSync(path.join(place, "browser-"));
  browse(folder, act)
    .catch((error) => {
      console.error(error);
      process.exitCode = 1;
    })
    .finally(() => fs.rmSync(folder, { recursive: true, force: true }));
};

// What an article of /try shows of its job. Its pictures count once they are drawn.
exports.shown = (article) => article.evaluate(async (element) => {
  const pictures = [...element.querySelectorAll(".pictures img")];
  await Promise.all(pictures.map((picture) => picture.decode()));
  return {
    job: element.querySelector(".job code").textContent,
    file: element.querySelector(".job .file").textContent,
    status: element.querySelector(".job [role=status]").textContent,
    whole: !element.querySelector(".whole").hidden,
    focused: element.querySelector(".job") === document.activeElement,
    trouble: element.querySelector(".job [role=alert]").textContent,
    events: [...element.querySelectorAll(".events li")].map((line) => line.textContent.trim()),
    artifacts: [...element.querySelectorAll(".artifacts a")].map((link) => [link.textContent, link.getAttribute("href")]),
    pictures: pictures.map((picture) => [picture.alt, picture.naturalWidth]),
  };
});
