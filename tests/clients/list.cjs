// Look at the list of jobs of the page /try in a real browser, and write what is seen.
//
//   list.cjs URL FOLDER FILE STATUS PICTURES [KEY]
//
// With a key, another one is tried first. Each time the list changes a line of JSON: its rows as lists of text. Once
// there is one with that file name and that status, its name is chosen with the keyboard; when what is shown then has
// completed, with so many pictures, a line with all that.
const { shown, withPage } = require("./chromium.cjs");

const [url, folder, file, status, count, key] = process.argv.slice(2);

async function look(page, noticed) {
  await page.exposeFunction("tell", (rows) => console.log(JSON.stringify(rows)));
  await page.goto(`${url}/try`);
  await page.evaluate(() => {
    const body = document.querySelector(".jobs tbody");
    let last = "";
    const look = () => {
      const rows = [...body.rows].map((row) => [...row.cells].map((cell) =>
        cell.firstElementChild?.tagName === "PROGRESS" ? cell.firstElementChild.value : cell.textContent));
      if (JSON.stringify(rows) !== last) window.tell(rows);
      last = JSON.stringify(rows);
    };
    new MutationObserver(look).observe(body, { subtree: true, childList: true, characterData: true, attributes: true });
  });
  if (key) {
    await page.evaluate(() => { // no pause ends: whoever has the right key does not wait for one after a wrong key
      window.held = window.setTimeout;
      window.setTimeout = () => 0;
    });
    await page.type("#key", "another");
    await page.keyboard.press("Enter");
    await page.waitForFunction(() => document.querySelector(".jobs [role=status]").textContent === "This key is not known");
    await page.$eval("#key", (element) => element.select());
    await page.type("#key", key);
    await page.keyboard.press("Enter");
    await page.waitForSelector(".jobs tbody tr");
    await page.evaluate(() => { window.setTimeout = window.held; });
  }
  const pipeline = await page.waitForFunction((file, status) => {
    const row = [...document.querySelectorAll(".jobs tbody tr")].find(({ cells }) =>
      cells[0].textContent === file && cells[2].textContent === status);
    row?.querySelector("button").focus();
    return row?.cells[1].textContent;
  }, {}, file, status);
  await page.keyboard.press("Enter");
  const article = await page.$(`#try-${await pipeline.jsonValue()}`);
  await page.waitForFunction((article, count) => article.querySelector("[name=retry]:enabled")
    && article.querySelector(".events li:last-child")?.textContent.includes("JobCompleted")
    && article.querySelectorAll(".pictures img").length === count, {}, article, Number(count));
  const torn = await page.$$eval(".jobs .status, .jobs .pipeline", (cells) => cells.some((cell) => {
    const words = document.createRange();
    words.selectNodeContents(cell);
    return words.getClientRects().length > 1; // lines
  }));
  console.log(JSON.stringify({ ...(await shown(article)), torn, ...noticed() }));
}

withPage(folder, look);
