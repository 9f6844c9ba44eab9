// The page in headless Chromium, as a visitor uses it. CHROMIUM names the browser; SCREENSHOTS a folder for
// pictures of the page.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join } from "node:path";
import { after, afterEach, before, beforeEach, test } from "node:test";
import { chromium } from "playwright-core";

import { ROOT, largestDifference, noisyPpm, predicted, samplesOf } from "./fixtures.mjs";

const PAGE = process.env.PAGE ?? join(ROOT, "target/web");
const TYPES = {
  ".css": "text/css",
  ".html": "text/html",
  ".js": "text/javascript",
  ".svg": "image/svg+xml",
  ".wasm": "application/wasm",
};
const PATIENCE = 120_000;

let server, browser, context, page, origin, requests, faults;

before(async () => {
  server = createServer(async (request, response) => {
    const path = new URL(request.url, "http://localhost").pathname.replace(/\/$/, "/index.html");
    try {
      const body = await readFile(join(PAGE, path));
      const type = TYPES[extname(path)] ?? "application/octet-stream";
      response.writeHead(200, { "content-type": type }).end(body);
    } catch {
      response.writeHead(404).end();
    }
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  origin = `http://127.0.0.1:${server.address().port}`;
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    // In a container there is no sandbox to be had; the rest keeps it from calling home.
    args: [
      "--no-sandbox",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      "--no-first-run",
    ],
  });
});

after(async () => {
  await browser?.close();
  server?.close();
});

async function visit(options = {}) {
  context = await browser.newContext({ viewport: { width: 1100, height: 900 }, ...options });
  page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  requests = [];
  faults = [];
  page.on("request", (request) => requests.push(request.url()));
  page.on("pageerror", (error) => faults.push(String(error)));
  await page.goto(`${origin}/`);
}

beforeEach(() => visit());

afterEach(async () => {
  assert.deepEqual(faults, []);
  const foreign = requests.filter((url) => !url.startsWith(origin) && !url.startsWith("blob:"));
  assert.deepEqual(foreign, [], "nothing leaves for another place");
  await context.close();
});

const item = (at = 0) => page.locator("#queue li").nth(at);

/** Waits for a state; if it ends in another, fails with what the page says. */
async function hasState(at, state) {
  await item(at).and(page.locator(".done, .failed, .cancelled")).waitFor();
  assert.match(await item(at).getAttribute("class"), new RegExp(state), await item(at).innerText());
}

function choose(...files) {
  return page.setInputFiles(
    "#files",
    files.map(([name, buffer]) => ({ name, mimeType: "", buffer })),
  );
}

async function drop(name, buffer) {
  const transfer = await page.evaluateHandle(
    ([name, base64]) => {
      const transfer = new DataTransfer();
      transfer.items.add(new File([Uint8Array.from(atob(base64), (c) => c.charCodeAt(0))], name));
      return transfer;
    },
    [name, buffer.toString("base64")],
  );
  await page.dispatchEvent("body", "drop", { dataTransfer: transfer });
}

async function download(at = 0) {
  const started = page.waitForEvent("download");
  await item(at).locator(".download").click();
  const file = await started;
  return { name: file.suggestedFilename(), bytes: await readFile(await file.path()) };
}

async function screenshot(name) {
  const { SCREENSHOTS } = process.env;
  if (SCREENSHOTS) await page.screenshot({ path: join(SCREENSHOTS, `${name}.jpg`), quality: 85 });
}

const demo = readFileSync(join(ROOT, "docs/demo/noisy.png"));

test("a picture that is dropped becomes what n2n predict makes of it", async () => {
  const noisy = noisyPpm(420, 330);
  await drop("noisy.ppm", noisy);
  await hasState(0, "done");
  const { name, bytes } = await download();
  assert.equal(name, "noisy_denoise.ppm");
  const found = samplesOf(bytes);
  const change = largestDifference(found, samplesOf(noisy));
  assert(change > 5000, `it changes: ${change}`);
  const difference = largestDifference(found, samplesOf(predicted(noisy, "ppm")));
  assert(difference <= 1, `${difference} of 65535`);
});

test("before and after are compared with the keyboard and the mouse", async () => {
  await choose(["chelsea.png", demo]);
  await hasState(0, "done");
  await page.locator("#after canvas").waitFor();
  const clip = () => page.locator("#after").evaluate((element) => element.style.clipPath);
  assert.match(await clip(), /50%/);
  await screenshot("desktop");
  await page.locator("#split").focus();
  await page.keyboard.press("ArrowRight");
  assert.match(await clip(), /51%/);
  const stage = await page.locator("#stage").boundingBox();
  const middle = stage.y + stage.height / 2;
  await page.mouse.move(stage.x + 0.51 * stage.width, middle);
  await page.mouse.down();
  await page.mouse.move(stage.x + 0.2 * stage.width, middle, { steps: 4 });
  await page.mouse.up();
  assert.match(await clip(), /20%/);

  const zoom = () => page.locator("#zoom").evaluate((output) => parseInt(output.value));
  const fit = await zoom();
  await page.locator("#stage").focus();
  await page.keyboard.press("+");
  assert(Math.abs((await zoom()) - 1.5 * fit) <= 2);
  await page.keyboard.press("1");
  assert.equal(await zoom(), 100);
  await page.keyboard.press("0");
  assert.equal(await zoom(), fit);

  // The two sides are the noisy picture and the denoised one.
  const pixels = (side) =>
    page.locator(`#${side} canvas`).evaluate((canvas) => {
      const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
      return Array.from(data.slice(0, 4000));
    });
  const [noisy, clean] = [await pixels("before"), await pixels("after")];
  const rough = (data) => data.reduce((sum, value, i) => sum + Math.abs(value - (data[i - 4] ?? value)), 0);
  assert(rough(clean) < rough(noisy) / 2, `${rough(clean)}, ${rough(noisy)}`);
});

test("cancelling stops at once, and the next picture is denoised", async () => {
  await choose(["large.ppm", noisyPpm(2000, 1500)]);
  await page.locator("#queue .state", { hasText: "Denoising" }).waitFor();
  const began = Date.now();
  await item().getByRole("button", { name: "Cancel" }).click();
  await hasState(0, "cancelled");
  assert(Date.now() - began < 10_000);
  await choose(["small.ppm", noisyPpm(96, 64)]);
  await hasState(1, "done");
});

test("files that are no pictures, or broken ones, get a sentence, and the others are denoised", async () => {
  await choose(
    ["notes.txt", Buffer.from("no picture")],
    ["half.png", demo.subarray(0, demo.length / 2)],
    ["small.ppm", noisyPpm(64, 96)],
  );
  await hasState(2, "done");
  const said = (at) => item(at).locator(".state").textContent();
  assert.match(await said(0), /notes\.txt: not a readable image: .* Choose a picture in PNG/);
  assert.match(await said(1), /half\.png: not a readable image/);
  await screenshot("broken");
});

test("a JPEG keeps its metadata", async () => {
  await choose(["exif.jpg", await readFile(join(ROOT, "tests/golden/images/exif.jpg"))]);
  await hasState(0, "done");
  const { name, bytes } = await download();
  assert.equal(name, "exif_denoise.jpg");
  assert(bytes.includes("Exif\0\0"), "the Exif block");
});

test("the strength is that of the setting", async () => {
  const noisy = noisyPpm(64, 64);
  await page.locator("#strength").fill("30");
  await choose(["noisy.ppm", noisy]);
  await hasState(0, "done");
  const expected = predicted(noisy, "ppm", ["--strength", "0.3"]);
  const { bytes } = await download();
  assert(largestDifference(samplesOf(bytes), samplesOf(expected)) <= 1);
});

test("a phone has everything within its width, in the dark too", async () => {
  await context.close();
  await visit({ viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true, colorScheme: "dark" });
  await choose(["chelsea.png", demo]);
  await hasState(0, "done");
  await page.locator("#after canvas").waitFor();
  const { scroll, width } = await page.evaluate(() => ({
    scroll: document.documentElement.scrollWidth,
    width: innerWidth,
  }));
  assert(scroll <= width, `${scroll} of ${width}`);
  await screenshot("phone");
});

test("what has been loaded works without a network", async () => {
  await page.evaluate(() => navigator.serviceWorker.ready);
  await page.reload();
  await choose(["first.ppm", noisyPpm(32, 32)]);
  await hasState(0, "done");
  await context.setOffline(true);
  await page.reload();
  await choose(["second.ppm", noisyPpm(32, 32)]);
  await hasState(0, "done");
});

test("the first load is below 5 MB", async () => {
  const sizes = new Map();
  page.on("response", async (response) => {
    const body = await response.body().catch(() => Buffer.alloc(0));
    sizes.set(response.url(), body.length);
  });
  await page.reload();
  await choose(["small.ppm", noisyPpm(32, 32)]);
  await hasState(0, "done");
  const total = [...sizes.values()].reduce((sum, size) => sum + size, 0);
  console.log(`first load: ${total} bytes`);
  assert(total < 5_000_000);
});
