// Uses our page and our pictures, and speedscope with our file, as a person would: by
// clicks and keys. tests/viewers.rs writes what is opened and runs this:
//
//     node viewers.mjs BROWSER DIRECTORY PORTION WHOLE OTHER
//
// PORTION and OTHER are functions beside each other on the graph, WHOLE calls both.

import assert from "node:assert/strict";
import path from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { chromium } from "playwright-core";

const [executablePath, directory, portion, whole, other] = process.argv.slice(2);
const beside = path.dirname(fileURLToPath(import.meta.url));
const file = (name) => pathToFileURL(path.join(directory, name)).href;

/* A tab that fails the test when anything but a file is asked for or a script fails. */
async function opened(browser, url, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  const tab = await context.newPage();
  const problems = [];
  tab.on("request", (request) => {
    if (!/^(file|data|blob):/.test(request.url())) problems.push(`asks for ${request.url()}`);
  });
  tab.on("pageerror", (error) => problems.push(`fails: ${error}`));
  await tab.goto(url);
  return { tab, close: async () => { await context.close(); assert.deepEqual(problems, [], url); } };
}

/* The page: zoom by click and by key, search by typing, figures by their tabs. */
async function page(browser) {
  const { tab, close } = await opened(browser, file("app.html"));
  const frame = (name) => tab.locator(`#graph .frame[title^="${name}: "]`).first();
  const shows = async (name) => await frame(name).count() > 0;
  const width = async (name) => (await frame(name).boundingBox()).width;
  const graph = (await tab.locator("#graph").boundingBox()).width;

  assert.ok(await shows(portion) && await shows(other));
  assert.ok(await width(portion) < graph / 2);
  await frame(portion).click();
  assert.ok(await width(portion) > graph * 0.99, "a click zooms");
  assert.ok(!await shows(other), "what is beside is gone");
  assert.ok(await shows(whole), "what is around stays");
  await frame(whole).click();
  assert.ok(await shows(other), "a click further out zooms out");
  await frame(other).focus();
  await tab.keyboard.press("Enter");
  assert.ok(await width(other) > graph * 0.99 && !await shows(portion), "a key zooms");
  await tab.locator("#whole").click();
  assert.ok(await shows(portion) && await shows(other), "everything is back");

  await tab.locator("#search").click();
  await tab.keyboard.type(portion.toUpperCase());
  const hits = await tab.locator("#graph .frame.match").all();
  assert.ok(hits.length > 0);
  for (const hit of hits) assert.ok((await hit.getAttribute("title")).includes(portion));
  const found = parseFloat((await tab.locator("#found").textContent()).match(/found in ([\d.]+)%/)[1]);
  assert.ok(Math.abs(found / 100 - await width(portion) / graph) < 0.01, `${found} %`);
  await tab.locator("#search").fill("");
  assert.equal(await tab.locator("#graph .frame.match").count(), 0);
  // A name is found by its text, also where it would be a regular expression.
  const method = "<[u8] as viewers::Copied>::copied";
  for (const [text, expected] of [[method, /<\[u8\] as viewers::Copied>::copied/], ["[U8]", /\[u8\]/], ["viewers::(few|many)", /viewers::(few|many)/]]) {
    await tab.locator("#search").fill(text);
    const titles = await tab.locator("#graph .frame.match").evaluateAll((hits) => hits.map((hit) => hit.title));
    assert.ok(titles.length > 0 && titles.every((title) => expected.test(title)), `${text}: ${titles}`);
  }
  await tab.locator("#search").fill("");

  const top = async (name) => (await frame(name).boundingBox()).y;
  const below = await top(whole) > await top(portion);
  await tab.locator("#hang").click();
  assert.ok(below && await top(whole) < await top(portion), "an icicle hangs from its root");

  const title = () => tab.locator("#sites th").first().textContent();
  for (const [figure, expected] of [["alloc_space", "Bytes allocated"], ["peak_objects", "Objects in use at the peak"]]) {
    await tab.locator(`#type-${figure}`).click();
    assert.equal(await title(), expected);
    assert.ok(await shows(portion), figure);
  }
  const tiles = await tab.locator("#tiles").textContent();
  assert.match(tiles, /Allocations\d{1,3}(,\d{3})+exact/);
  assert.equal(await tab.locator("section", { hasText: "Spans" }).locator(".note").last().textContent(),
    "Nothing was sampled in a span of tracing.");
  const untouched = await tab.evaluate(() => D.not_resident);
  assert.equal(await tab.locator("section", { has: tab.locator("#memory") }).locator(".note").count(), untouched ? 1 : 0);
  const asked = await tab.locator("#classes td:nth-child(7)").allTextContents();
  assert.ok(asked.some((text) => /^~?[\d.,]+ (B|KiB|MiB)$/.test(text)), asked.join());
  assert.ok(asked.every((text) => text === "–" || / (B|[KMG]iB)$/.test(text)), asked.join());
  const stack = tab.locator("#sites details").first();
  assert.equal(await stack.locator("li").first().isVisible(), false);
  await stack.locator("summary").click();
  assert.ok(await stack.locator("li").first().isVisible(), "a site opens its stack");
  await close();

  const paper = {};
  for (const colorScheme of ["light", "dark"]) {
    const { tab, close } = await opened(browser, file("app.html"), { colorScheme });
    const colours = await tab.evaluate(() => [document.body, document.querySelector(".frame")]
      .flatMap((node) => [getComputedStyle(node).backgroundColor, getComputedStyle(node).color]));
    paper[colorScheme] = colours;
    await close();
  }
  paper.light.forEach((colour, at) => assert.notEqual(colour, paper.dark[at], "two schemes"));

  for (const width of [360, 380, 420]) {
    const { tab, close } = await opened(browser, file("app.html"), { viewport: { width, height: 800 } });
    const [all, seen] = await tab.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
    assert.ok(all <= seen, `${all} in a window of ${seen}`);
    await close();
  }
}

/* The page by keys alone: the focus stays where something was done. */
async function keys(browser) {
  const { tab, close } = await opened(browser, file("app.html"));
  const focused = (attribute) => tab.evaluate((name) => document.activeElement.getAttribute(name), attribute);
  const frame = (name) => tab.locator(`#graph .frame[title^="${name}: "]`).first();
  for (const [key, name] of [["Enter", whole], ["Space", portion]]) {
    await frame(name).focus();
    const scrolled = await tab.evaluate(() => scrollY);
    await tab.keyboard.press(key);
    assert.ok((await focused("title"))?.startsWith(`${name}: `), `${key} zooms, and the frame keeps the focus`);
    const { width } = await frame(name).boundingBox();
    assert.ok(width > (await tab.locator("#graph").boundingBox()).width * 0.99, `${key} zooms`);
    assert.equal(await tab.evaluate(() => scrollY), scrolled, `${key} does not scroll`);
  }

  await tab.locator("#type-inuse_space").focus();
  for (const [key, figure] of [["ArrowRight", "alloc_space"], ["ArrowLeft", "inuse_space"], ["ArrowLeft", "peak_objects"],
    ["ArrowRight", "inuse_space"], ["End", "peak_objects"], ["Home", "inuse_space"]]) {
    await tab.keyboard.press(key);
    assert.equal(await focused("id"), `type-${figure}`, key);
    assert.equal(await focused("aria-selected"), "true", key);
    assert.equal(await tab.locator("#types [tabindex='0']").count(), 1, "Tab goes to one of the tabs");
    assert.equal(await tab.getByRole("tabpanel").getAttribute("aria-labelledby"), `type-${figure}`);
  }
  await tab.keyboard.press("Tab");
  assert.equal(await focused("id"), "search", "Tab leaves the tabs");
  assert.equal(await tab.getByRole("group", { name: "Flamegraph" }).getByRole("button").count() > 0, true);
  await close();
}

/* The page of a program that freed everything, with estimates. */
async function freed(browser) {
  const { tab, close } = await opened(browser, file("freed.html"));
  const selected = () => tab.getByRole("tab", { selected: true }).textContent();
  assert.equal(await selected(), "Bytes allocated", "the first figure that has a value");
  assert.match(await tab.locator("#facts").textContent(), /; (\d{1,3},)?\d{1,3} samples, /);
  await tab.locator("#type-inuse_space").click();
  assert.equal(await tab.locator("#graph").textContent(), "Nothing that was sampled is in use.");
  await tab.locator("#hang").click();
  assert.equal(await tab.locator("#hang").getAttribute("aria-pressed"), "true");

  const sizes = await tab.locator("#classes tr").evaluateAll((rows) => rows.slice(1)
    .map((row) => [6, 7].map((at) => row.children[at].textContent)).filter(([size]) => size.startsWith("~")));
  // A single sample has no error.
  assert.ok(sizes.length > 8 && sizes.every(([, error]) => /^(±[\d.]+%)?$/.test(error)), `${sizes}`);
  await close();
}

/* The picture: a click zooms, Ctrl-F asks for what to search. */
async function picture(browser) {
  const { tab, close } = await opened(browser, file("app.svg"));
  const visible = (name) => tab.evaluate((name) => {
    const groups = [...document.querySelectorAll("#frames g")];
    const group = groups.find((group) => group.querySelector("title").textContent.startsWith(`${name} (`));
    return group !== undefined && getComputedStyle(group).display !== "none" && group.getBoundingClientRect().width;
  }, name);
  const click = async (name) => {
    const group = tab.locator("#frames g").filter({ hasText: `${name} (` }).first();
    const { x, y, width, height } = await group.locator("rect").boundingBox();
    await tab.mouse.click(x + width / 2, y + height / 2);
  };
  const before = await visible(portion);
  assert.ok(before > 0 && await visible(other) > 0);
  await click(portion);
  assert.ok(await visible(portion) > before * 1.5, "a click zooms");
  assert.ok(!await visible(other), "what is beside is gone");
  await tab.locator("#unzoom").click();
  assert.ok(await visible(other) > 0, "everything is back");

  tab.on("dialog", (dialog) => dialog.accept(portion));
  await tab.keyboard.press("Control+f");
  await tab.waitForFunction(() => /\d%/.test(document.getElementById("matched").textContent));
  const marked = () => tab.evaluate(() => [...document.querySelectorAll("#frames rect")]
    .filter((rect) => rect.getAttribute("fill") === "rgb(230,0,230)")
    .map((rect) => rect.parentNode.querySelector("title").textContent));
  const marks = await marked();
  assert.ok(marks.length > 0 && marks.every((mark) => mark.includes(portion)), `${marks}`);
  await tab.locator("#search").click();
  assert.equal((await marked()).length, 0, "the search ends");
  await close();
}

/* speedscope, from its package: our file is imported; its table lists our functions. */
async function speedscope(browser) {
  const release = path.join(beside, "node_modules/speedscope/dist/release/index.html");
  const { tab, close } = await opened(browser, pathToFileURL(release).href);
  await tab.locator("input[type=file]").first().setInputFiles(path.join(directory, "app.speedscope.json"));
  await tab.getByText("Sandwich").click();
  const rows = tab.locator("tr");
  await rows.filter({ hasText: portion }).first().waitFor({ timeout: 30000 });
  const text = async (name) => await rows.filter({ hasText: name }).first().textContent();
  for (const name of [portion, whole, other]) assert.match(await text(name), /\d%\)?/);
  assert.match(await text(whole), /(KB|KiB|MB|MiB)/, "figures are bytes");
  await rows.filter({ hasText: portion }).first().click();
  await tab.getByText("Callers").waitFor();
  await close();
}

const browser = await chromium.launch({ executablePath, args: ["--disable-gpu", "--disable-dev-shm-usage"], chromiumSandbox: false });
try {
  for (const check of [page, keys, freed, picture, speedscope]) {
    await check(browser);
    console.log(`${check.name}: passed`);
  }
} finally {
  await browser.close();
}
