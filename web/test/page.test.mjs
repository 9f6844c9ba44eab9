// The page in headless Chromium, as a visitor uses it. CHROMIUM names the browser; SCREENSHOTS a folder for
// pictures of the page.
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, readdirSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { extname, join } from "node:path";
import { after, afterEach, before, beforeEach, test } from "node:test";
import { chromium } from "playwright-core";

import {
  ROOT,
  grayPnm,
  largePpm,
  largestDifference,
  noisyPpm,
  noisyTiff,
  predicted,
  samplesOf,
  tinyModel,
} from "./fixtures.mjs";
import { readFloatTiff } from "./tiff.mjs";

const PAGE = process.env.PAGE ?? join(ROOT, "target/web");
const PACKAGE = join(ROOT, "target/npm/n2n-denoise");
// The first example of the package's README, as it is there.
const [, example] = readFileSync(join(ROOT, "web/npm/README.md"), "utf8").match(/```js\n(.*?)```/s);
const EXAMPLE = `<!doctype html>
<script type="importmap">{ "imports": { "n2n-denoise": "/npm/browser.js" } }</script>
<script>
  const imageData = new ImageData(64, 48);
  imageData.data.fill(255).forEach((_, i, data) => i % 4 < 3 && (data[i] = (i * 7919) % 251));
</script>
<script type="module">
${example}
window.clean = clean;
model.close();
</script>`;
const TYPES = {
  ".css": "text/css",
  ".html": "text/html",
  ".js": "text/javascript",
  ".svg": "image/svg+xml",
  ".wasm": "application/wasm",
};
const PATIENCE = 120_000;

let server, browser, context, page, origin, requests, faults, deaths;

before(async () => {
  server = createServer(async (request, response) => {
    const path = new URL(request.url, "http://localhost").pathname.replace(/\/$/, "/index.html");
    if (path === "/dies") {
      let call = "";
      for await (const part of request) call += part;
      const dies = deaths.call === call && deaths.left-- > 0;
      response.end(dies ? "yes" : "no");
      return;
    }
    if (path === "/example.html") {
      response.writeHead(200, { "content-type": "text/html" }).end(EXAMPLE);
      return;
    }
    try {
      let body = await readFile(path.startsWith("/npm/") ? join(PACKAGE, path.slice(5)) : join(PAGE, path));
      if (deaths && path === "/worker.js") body = body + MORTAL;
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

async function visit(options = {}, script = () => {}) {
  context = await browser.newContext({ viewport: { width: 1100, height: 900 }, ...options });
  await context.addInitScript(script);
  page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  requests = [];
  faults = [];
  page.on("request", (request) => requests.push(request.url()));
  page.on("pageerror", (error) => faults.push(String(error)));
  await page.goto(`${origin}/`);
}

beforeEach(() => {
  deaths = undefined;
  return visit();
});

afterEach(async () => {
  assert.deepEqual(faults, []);
  const foreign = requests.filter((url) => !url.startsWith(origin) && !url.startsWith("blob:"));
  assert.deepEqual(foreign, [], "nothing leaves for another place");
  await context.close();
});

const item = (at = 0) => page.locator("#queue li").nth(at);

/** Waits for a state; if it ends in another, fails with what the page says. */
async function hasState(at, state) {
  await item(at).and(page.locator(".done, .failed, .canceled")).waitFor();
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

const download = (at = 0) => downloaded(item(at).locator(".download"));

async function downloaded(link) {
  const started = page.waitForEvent("download");
  await link.click();
  const file = await started;
  return { name: file.suggestedFilename(), bytes: await readFile(await file.path()) };
}

async function screenshot(name) {
  const { SCREENSHOTS } = process.env;
  if (SCREENSHOTS) await page.screenshot({ path: join(SCREENSHOTS, `${name}.png`) });
}

/** Chooses a network of the visitor's own. */
async function chooseModel(weights) {
  const chooser = page.waitForEvent("filechooser");
  await page.locator("#model").selectOption("file");
  await (await chooser).setFiles({ name: "own.safetensors", mimeType: "", buffer: weights });
}

/** Opens the page as on a machine with one core, so that a large picture takes long on any. */
async function visitOneCore() {
  await context.close();
  await visit({}, () => Object.defineProperty(navigator, "hardwareConcurrency", { value: 1 }));
}

/** Opens the page with workers that end when `deaths` says so, as if their memory had run out. */
async function visitMortal() {
  await context.close();
  deaths = { call: "none", left: 0 };
  // A service worker would keep the script of the other tests.
  await visit({ serviceWorkers: "block" }, () => Object.defineProperty(navigator, "hardwareConcurrency", { value: 2 }));
}

// Appended to the script of the workers.
const MORTAL = `
const handle = self.onmessage;
self.onmessage = (event) => {
  const question = new XMLHttpRequest();
  question.open("POST", "/dies", false);
  question.send(event.data.call);
  if (question.responseText === "yes") throw new Error("out of memory");
  return handle(event);
};
`;

const axe = readFileSync(join(import.meta.dirname, "node_modules/axe-core/axe.min.js"), "utf8");

/** What axe finds wrong with the page as it is, in light and in dark. */
async function isAccessible(state) {
  for (const colorScheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme });
    // By the debugger, which the page's security policy does not hold back.
    await page.evaluate(axe);
    const { violations } = await page.evaluate(() => window.axe.run());
    const said = violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(", ")}`);
    assert.deepEqual(said, [], `${state}, ${colorScheme}`);
    await screenshot(`${state}-${colorScheme}`);
  }
  await page.emulateMedia({ colorScheme: null });
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

for (const level of ["simd128", "relaxed-simd"]) {
  test(`a TIFF of floats becomes what n2n predict makes of it, with ${level}`, async () => {
    if (level === "simd128") {
      await context.close();
      // As in a browser that refuses the relaxed instruction, whose code is 0xfd 0x85 0x02.
      await visit({ serviceWorkers: "block" }, () => {
        const { validate } = WebAssembly;
        WebAssembly.validate = (bytes) => !String(bytes).includes("253,133,2") && validate(bytes);
      });
    }
    const noisy = noisyTiff(300, 220, 3, "A float picture");
    await drop("noisy.tif", noisy);
    await hasState(0, "done");
    assert.match(await item().locator(".what").textContent(), /300 × 220, 32-bit float RGB TIF/);
    assert.match(await page.locator("#about").textContent(), new RegExp(`with ${level}\\.`));
    const modules = new Set(requests.filter((url) => url.endsWith(".wasm.gz")));
    assert.deepEqual([...modules], [`${origin}/pkg/${level}/n2n_web_bg.wasm.gz`]);
    const { name, bytes } = await download();
    assert.equal(name, "noisy_denoise.tif");
    const [{ samples, ...kept }, expected] = [readFloatTiff(bytes), readFloatTiff(predicted(noisy, "tif"))];
    assert.deepEqual(kept, { width: 300, height: 220, channels: 3, description: "A float picture" });
    assert(largestDifference(samples, readFloatTiff(noisy).samples) > 0.1);
    const difference = largestDifference(samples, expected.samples);
    assert(difference <= 1e-5, `${difference}`);
  });
}

test("files keep their format and depth, and become what n2n predict makes of them", async () => {
  const kinds = [
    ["png", "8", /^\x89PNG/],
    ["png", "16", /^\x89PNG/],
    ["tiff", "8", /^II\*\0/],
    ["tiff", "16", /^II\*\0/],
    ["webp", "8", /^RIFF....WEBP/s],
    ["jpeg", "8", /^\xff\xd8\xff/],
  ];
  const files = kinds.map(([format, depth]) => {
    const flags = ["--strength", "0", "--format", format, "--depth", depth];
    return [`noisy${depth}.${format}`, predicted(noisyPpm(96, 80), "ppm", flags)];
  });
  await choose(...files);
  for (const [at, [format, depth, signature]] of kinds.entries()) {
    await hasState(at, "done");
    assert.match(await item(at).locator(".what").textContent(), new RegExp(`96 × 80, ${depth}-bit RGB`));
    const { name, bytes } = await download(at);
    assert.equal(name, `noisy${depth}_denoise.${format}`);
    assert.match(bytes.toString("latin1", 0, 12), signature);
    const decoded = (file) => samplesOf(predicted(file, format, ["--strength", "0", "--format", "pnm"]));
    const [found, expected] = [decoded(bytes), decoded(predicted(files[at][1], format))];
    assert.equal(found.BYTES_PER_ELEMENT, depth / 8);
    // A coefficient of a JPEG that lies between two steps may go to the other one.
    const most = format === "jpeg" ? 4 : 1;
    assert(largestDifference(found, expected) <= most, `${name}: ${largestDifference(found, expected)}`);
  }
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

test("canceling takes effect at once, and the next picture is denoised", async () => {
  await visitOneCore();
  await choose(["large.ppm", noisyPpm(2000, 1500)]);
  await page.locator("#queue .state", { hasText: /Denoising|left/ }).waitFor();
  const began = Date.now();
  await item().getByRole("button", { name: "Cancel" }).click();
  await hasState(0, "canceled");
  assert(Date.now() - began < 10_000);
  await choose(["small.ppm", noisyPpm(96, 64)]);
  await hasState(1, "done");
});

/** The largest peak RSS of the browser's processes, in MB; what the page and its workers take is in one of them. */
function peakMemory() {
  const status = (pid) => {
    try {
      return readFileSync(`/proc/${pid}/status`, "utf8");
    } catch {
      return "";
    }
  };
  const value = (text, key) => Number(new RegExp(`^${key}:\\s*(\\d+)`, "m").exec(text)?.[1] ?? 0);
  const all = readdirSync("/proc").filter((name) => /^\d+$/.test(name));
  const parents = new Map(all.map((pid) => [Number(pid), value(status(pid), "PPid")]));
  const isOurs = (pid) => pid === process.pid || (parents.has(pid) && isOurs(parents.get(pid)));
  const ours = [...parents.keys()].filter((pid) => pid !== process.pid && isOurs(pid));
  return Math.max(...ours.map((pid) => value(status(pid), "VmHWM"))) / 1024;
}

const isLarge = process.env.LARGE ? {} : { skip: "it takes minutes: LARGE=1 runs it" };

test("a picture of 50 megapixels is denoised, in bounded memory, and the page answers meanwhile", isLarge, async () => {
  const folder = mkdtempSync(join(tmpdir(), "n2n-"));
  try {
    const path = join(folder, "large.ppm");
    const [width, height] = [8192, 6144];
    writeFileSync(path, largePpm(width, height));
    await chooseModel(tinyModel("gauss25"));
    await page.setInputFiles("#files", path);
    await page.locator("#queue .state", { hasText: "left" }).waitFor();
    let slowest = 0;
    while ((await page.locator("#queue .done, #queue .failed").count()) === 0) {
      const began = Date.now();
      await page.evaluate(() => new Promise((resolve) => requestAnimationFrame(resolve)));
      slowest = Math.max(slowest, Date.now() - began);
      await page.waitForTimeout(100);
    }
    await hasState(0, "done");
    await page.locator("#after canvas").waitFor({ timeout: 10 * PATIENCE });
    await screenshot("50-megapixels");
    const { bytes } = await download();
    assert.equal(bytes.subarray(0, 17).toString(), `P6\n${width} ${height}\n255\n`);
    assert.equal(bytes.length, 17 + 3 * width * height);
    const memory = process.platform === "linux" ? peakMemory() : 0;
    console.log(`50 megapixels: ${memory.toFixed()} MB, longest wait for a frame ${slowest} ms`);
    // As much as one module can address, which is what a tab has to get by with.
    assert(memory < 4096, `${memory} MB`);
    assert(slowest < 5000, `${slowest} ms`);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("files that are no pictures, broken or too large get a sentence, and the others are denoised", async () => {
  const golden = (name) => readFileSync(join(ROOT, "tests/golden/images", name));
  await choose(
    ["notes.txt", Buffer.from("no picture")],
    ["half.png", demo.subarray(0, demo.length / 2)],
    ["bomb.png", golden("bomb.png")],
    ["mosaic.dng", golden("mosaic.dng")],
    ["small.ppm", noisyPpm(64, 96)],
  );
  await hasState(4, "done");
  const said = (at) => item(at).locator(".state").textContent();
  assert.match(await said(0), /notes\.txt: not a readable image: .* Choose a picture in PNG/);
  assert.match(await said(1), /half\.png: not a readable image: .* If the file is incomplete or damaged, download or copy it again/);
  assert.match(await said(2), /100000x100000 pixels, more than the limit of 134217728\. Choose a smaller picture/);
  assert.match(await said(3), /mosaic\.dng: a raw photograph, which only the program `n2n predict` denoises\.$/);
  await screenshot("broken");

  // More than a browser puts into one buffer; a hole takes no space on the disk.
  const folder = mkdtempSync(join(tmpdir(), "n2n-"));
  try {
    const path = join(folder, "large.tif");
    writeFileSync(path, "II*");
    truncateSync(path, 2 ** 32);
    await page.setInputFiles("#files", path);
    await hasState(5, "failed");
    assert.match(await said(5), /^large\.tif \(4\.3 GB\) cannot be read\. Choose a smaller picture/);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("all results of a queue are downloaded with one click, and the queue is cleared", async () => {
  await choose(["a.ppm", noisyPpm(64, 64)], ["b.ppm", noisyPpm(64, 80)]);
  await hasState(1, "done");
  const names = [];
  page.on("download", (file) => names.push(file.suggestedFilename()));
  const second = page.waitForEvent("download", () => names.length === 2);
  await page.locator("#download-all").click();
  await second;
  assert.deepEqual(names.sort(), ["a_denoise.ppm", "b_denoise.ppm"]);
  await page.locator("#clear").click();
  assert.equal(await item().count(), 0);
  assert(await page.locator("#viewer").isHidden());
});

test("a JPEG keeps its metadata", async () => {
  await choose(["exif.jpg", await readFile(join(ROOT, "tests/golden/images/exif.jpg"))]);
  await hasState(0, "done");
  const { name, bytes } = await download();
  assert.equal(name, "exif_denoise.jpg");
  assert(bytes.includes("Exif\0\0"), "the Exif block");
});

test("if a weight file is not one, the page says that the model is at fault", async () => {
  await chooseModel(Buffer.from("no weights"));
  await choose(["small.ppm", noisyPpm(64, 96)]);
  await hasState(0, "failed");
  const said = await item(0).locator(".state").textContent();
  assert.match(said, /own\.safetensors: .* Choose a model that n2n trained or exported/);
});

test("the noise and the strength are those of the settings, and a model is loaded when it is asked for", async () => {
  const noisy = noisyPpm(64, 64);
  await page.locator("#strength").fill("30");
  const models = await page.locator("#model option:not([value=file])").evaluateAll((all) => all.map(({ value }) => value));
  assert(models.length >= 5, `${models}`);
  const results = [];
  for (const [at, model] of models.entries()) {
    await page.locator("#model").selectOption(model);
    assert(!requests.includes(`${origin}/models/${model}.safetensors`));
    await choose([`${model}.ppm`, noisy]);
    await hasState(at, "done");
    assert(requests.includes(`${origin}/models/${model}.safetensors`));
    const expected = predicted(noisy, "ppm", ["--model-path", model, "--strength", "0.3"]);
    const found = samplesOf((await download(at)).bytes);
    assert(largestDifference(found, samplesOf(expected)) <= 1, model);
    results.push(found);
  }
  assert(results.slice(1).every((other, i) => largestDifference(other, results[i]) > 1));
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

test("gray pictures get the gray model for the chosen noise, as in n2n predict", async () => {
  for (const [at, [channels, model]] of [
    [1, "gauss5_50"],
    [3, "poisson30"],
  ].entries()) {
    const noisy = grayPnm(200, 150, channels);
    await page.locator("#model").selectOption(model);
    await choose([`gray${channels}.pnm`, noisy]);
    await hasState(at, "done");
    const { bytes } = await download(at);
    const expected = samplesOf(predicted(noisy, "pnm", ["--model-path", model]));
    assert(largestDifference(samplesOf(bytes), expected) <= 1);
  }
  const loaded = requests.filter((url) => url.endsWith(".safetensors"));
  assert.match(loaded.join(), /^[^,]*gauss5_50_gray\.safetensors,[^,]*poisson5_50_gray\.safetensors$/);
  // An RGB model of the visitor's own has no such companion.
  await chooseModel(tinyModel());
  await choose(["own.pgm", grayPnm(64, 64, 1)]);
  await hasState(2, "done");
  assert.match(await item(2).locator(".state").textContent(), /for RGB pictures and removes little noise/);
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

test("a model is fitted to the picture, used on it, and n2n predict takes it", async () => {
  const noisy = noisyPpm(420, 330);
  await chooseModel(tinyModel());
  await choose(["noisy.ppm", noisy]);
  await hasState(0, "done");
  await page.locator("#fit-time option").first().evaluate((option) => (option.value = "8"));
  await page.locator("#fit-start").click();
  const said = page.locator("#fit-said");
  await said.filter({ hasText: "Training" }).waitFor();
  // The page answers meanwhile.
  await page.evaluate(() => new Promise((resolve) => requestAnimationFrame(resolve)));
  assert.match(await said.textContent(), /Training/);
  await said.filter({ hasText: "Done" }).waitFor();
  assert.match(await said.textContent(), /^Done: .*held-out loss from 0\.\d+ to 0\.\d+ \(-/);
  const line = await page.locator("#fit-line").getAttribute("points");
  assert(line.split(" ").length >= 2, line);
  assert.match(await page.locator("#fit-curve").getAttribute("aria-label"), /the held-out loss is \d\d?\.\d %/);
  await screenshot("fitted");

  const { name, bytes: weights } = await downloaded(page.locator("#fit-download"));
  assert.equal(name, "noisy_model.safetensors");
  await hasState(0, "done");
  const { bytes } = await download();
  const difference = (a, b) => largestDifference(samplesOf(a), samplesOf(b));
  assert(difference(bytes, predicted(noisy, "ppm", [], weights)) <= 1);

  // On a picture with other values it is not to be trusted, and the page says so.
  await choose(["bytes.png", demo]);
  await hasState(1, "done");
  assert.match(await item(1).locator(".state").textContent(), /Do not trust the result: .*uint8/);
});

test("fitting can be canceled, and says what it cannot learn from", async () => {
  await choose(["noisy.ppm", noisyPpm(420, 330)]);
  await hasState(0, "done");
  await page.locator("#fit-start").click();
  await page.locator("#fit-said", { hasText: "comparing" }).waitFor();
  await page.keyboard.press("Enter");
  await page.locator("#fit-said", { hasText: "Canceled" }).waitFor();
  assert(await page.locator("#fit-start").isVisible());
  assert(await page.locator("#fit-download").isHidden());
  // Too small to hold a part of it out.
  await choose(["dot.ppm", noisyPpm(1, 1)]);
  await hasState(1, "done");
  await item(1).locator(".show").click();
  await page.locator("#fit-start").click();
  await page.locator("#fit-said", { hasText: "Done: nothing could be learned" }).waitFor();
});

test("a worker that dies is replaced; if it dies again, the others finish", async () => {
  await visitMortal();
  const noisy = noisyPpm(700, 500);
  const expected = samplesOf(predicted(noisy, "ppm"));
  for (const [at, left, note] of [
    [0, 1, /^Done in [\d.]+ s$/],
    // Of two workers and their two replacements.
    [1, 3, /Finished with one worker, because others ended/],
  ]) {
    deaths = { call: "denoise", left };
    await choose([`${at}.ppm`, noisy]);
    await hasState(at, "done");
    assert.match(await item(at).locator(".state").textContent(), note);
    assert(deaths.left <= 0);
    assert(largestDifference(samplesOf((await download(at)).bytes), expected) <= 1);
  }
});

test("if all workers die, the page says what to do, and the next picture is denoised", async () => {
  await visitMortal();
  let at = 0;
  for (const call of ["open", "denoise", "cut", "encode"]) {
    deaths = { call, left: 100 };
    await choose([`${call}.ppm`, noisyPpm(96, 96)]);
    await hasState(at, "failed");
    assert.match(await item(at).locator(".state").textContent(), /worker ended unexpectedly.*Close other tabs/);
    deaths = { call, left: 0 };
    await choose([`after-${call}.ppm`, noisyPpm(96, 96)]);
    await hasState(at + 1, "done");
    at += 2;
  }
  deaths = { call: "adapt", left: 1 };
  await page.locator("#fit-start").click();
  await page.locator("#fit-said", { hasText: "worker ended unexpectedly" }).waitFor();
});

test("the example of the package's README runs in a page", async () => {
  await context.close();
  await visit({ serviceWorkers: "block" });
  await page.goto(`${origin}/example.html`);
  await page.waitForFunction(() => window.clean);
  const { isImage, size, change } = await page.evaluate(() => ({
    isImage: window.clean instanceof ImageData,
    size: [window.clean.width, window.clean.height],
    change: window.clean.data.filter((value, i) => value !== imageData.data[i]).length,
  }));
  assert.deepEqual([isImage, ...size], [true, 64, 48]);
  assert(change > 5000, `${change} values`);
});

test("axe finds nothing wrong in any state of the page", async () => {
  await visitOneCore();
  await isAccessible("empty");
  await choose(["large.ppm", noisyPpm(2000, 1500)]);
  await page.locator("#queue .state", { hasText: /Denoising|left/ }).waitFor();
  await isAccessible("running");
  await item().getByRole("button", { name: "Cancel" }).click();
  await hasState(0, "canceled");
  await choose(["notes.txt", Buffer.from("no picture")], ["chelsea.png", demo]);
  await hasState(1, "failed");
  await hasState(2, "done");
  await item(2).locator(".show").click();
  await page.locator("#after canvas").waitFor();
  await isAccessible("done");
  await page.locator("#fit-start").click();
  await page.locator("#fit-said", { hasText: "Training" }).waitFor();
  await isAccessible("training");
  await page.locator("#fit-cancel").click();
  await page.locator("#fit-said", { hasText: "Canceled" }).waitFor();
  await page.setViewportSize({ width: 390, height: 844 });
  await isAccessible("narrow");
});

test("a browser without SIMD gets a sentence that says what to do", async () => {
  await context.close();
  await visit({ serviceWorkers: "block" }, () => (WebAssembly.validate = () => false));
  await page.getByText("This browser has no SIMD in WebAssembly. Please update it").waitFor();
  await choose(["small.ppm", noisyPpm(32, 32)]);
  assert.equal(await item().count(), 0);
});

test("everything is reached with the keyboard, in the order of the page", async () => {
  await choose(["small.ppm", noisyPpm(64, 64)]);
  await hasState(0, "done");
  await page.locator("#after canvas").waitFor();
  const reached = [];
  await page.evaluate(() => document.activeElement?.blur());
  for (let i = 0; i < 30; i++) {
    await page.keyboard.press("Tab");
    const place = await page.evaluate(() => {
      const { id, className, textContent } = document.activeElement;
      return id || className || textContent;
    });
    if (reached.includes(place)) break;
    reached.push(place);
  }
  const places = ["files", "model", "strength", "again", "show", "remove", "stage", "split", "fit-time", "fit-start"];
  const order = places.map((place) => reached.indexOf(place));
  assert(order.every((at, i) => at > (order[i - 1] ?? -1)), `${reached}`);
});
