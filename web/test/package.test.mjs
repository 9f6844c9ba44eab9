// The npm package in Node, as its README says.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { ROOT, grayPnm, largestDifference, noisyPpm, predicted, samplesOf } from "./fixtures.mjs";

const demo = readFileSync(join(ROOT, "docs/demo/noisy.png"));
let folder, library;

before(async () => {
  folder = mkdtempSync(join(tmpdir(), "n2n-"));
  const place = join(folder, "node_modules/n2n-denoise");
  cpSync(join(ROOT, "target/npm/n2n-denoise"), place, { recursive: true });
  library = await import(join(place, "node.js"));
});

after(() => rmSync(folder, { recursive: true }));

test("the example of the README runs", () => {
  const [, example] = readFileSync(join(ROOT, "web/npm/README.md"), "utf8").match(/In Node:\s+```js\n(.*?)```/s);
  writeFileSync(join(folder, "example.mjs"), example);
  writeFileSync(join(folder, "noisy.png"), demo);
  const output = execFileSync(process.execPath, ["example.mjs"], { cwd: folder }).toString();
  assert.match(output, /100 %/);
  const ppm = (file) => predicted(file, "png", ["--strength", "0", "--format", "pnm"]);
  const found = ppm(readFileSync(join(folder, "clean.png")));
  const expected = ppm(predicted(demo, "png"));
  assert.equal(found.length, expected.length);
  assert(largestDifference(found, expected) <= 1);
});

test("the example of the README and the options have types", () => {
  const [, example] = readFileSync(join(ROOT, "web/npm/README.md"), "utf8").match(/```js\n(.*?)```/s);
  const typed = `
    declare const imageData: ImageData;
    ${example}
    document.querySelector("canvas")!.getContext("2d")!.putImageData(clean, 0, 0);
    const options: import("n2n-denoise").DenoiseOptions = { strength: 0.5, signal: AbortSignal.timeout(1000) };
    const { bytes, notes } = await model.denoiseFile(new Uint8Array(), { ...options, name: "a.png" });
    const text: string = notes.join() + bytes.length;
    // @ts-expect-error
    load({ model: 5 });
  `;
  writeFileSync(join(folder, "example.mts"), typed);
  const compiler = join(import.meta.dirname, "node_modules/.bin/tsc");
  const flags = ["--noEmit", "--strict", "--target", "es2022", "--module", "nodenext", "--lib", "es2022,dom"];
  execFileSync(compiler, [...flags, "--types", "", "example.mts"], { cwd: folder, stdio: "inherit" });
});

test("a file of 16 bits becomes what n2n predict makes of it, with any number of workers", async () => {
  const noisy = noisyPpm(300, 200);
  const expected = samplesOf(predicted(noisy, "ppm"));
  for (const threads of [1, 3]) {
    const model = await library.load({ threads, pixels: 300 * 200 });
    const { bytes } = await model.denoiseFile(noisy);
    model.close();
    assert(largestDifference(samplesOf(Buffer.from(bytes)), expected) <= 1);
  }
});

test("gray pictures get the gray model for the noise of the model", async () => {
  const noisy = grayPnm(60, 50, 1);
  for (const name of ["gauss25", "poisson5_50", "poisson5_50_gray"]) {
    const model = await library.load({ model: name });
    const { bytes } = await model.denoiseFile(noisy);
    model.close();
    const expected = samplesOf(predicted(noisy, "pgm", ["--model-path", name]));
    assert(largestDifference(samplesOf(Buffer.from(bytes)), expected) <= 1);
  }
});

test("pixels in RGBA keep their transparency", async () => {
  const [width, height] = [40, 30];
  const data = Uint8ClampedArray.from({ length: 4 * width * height }, (_, i) => (i * 7919) % 251);
  const model = await library.load();
  const clean = await model.denoise({ width, height, data });
  model.close();
  assert.deepEqual([clean.width, clean.height, clean.data.length], [width, height, data.length]);
  const alpha = (pixels) => pixels.filter((_, i) => i % 4 === 3);
  assert.deepEqual(alpha(clean.data), alpha(data));
  assert.notDeepEqual(clean.data, data);
});

test("a signal stops the work, and the model goes on", async () => {
  const model = await library.load({ threads: 1 });
  const controller = new AbortController();
  const work = model.denoiseFile(noisyPpm(900, 900), {
    signal: controller.signal,
    onProgress: () => setTimeout(() => controller.abort(), 50),
  });
  await assert.rejects(work, library.Canceled);
  await model.denoiseFile(noisyPpm(32, 32));
  model.close();
});

test("what makes no sense is refused in a sentence", async () => {
  await assert.rejects(library.load({ model: "gauss26" }), /no model named gauss26; use one of gauss5_50/);
  for (const threads of [0, -1, 1.5]) {
    await assert.rejects(library.load({ threads }), new RegExp(`threads: expected .* at least 1, found ${threads}`));
  }
  const model = await library.load();
  await assert.rejects(model.denoiseFile(Buffer.from("words"), { name: "notes.txt" }), /^DenoiseError: notes\.txt: not/);
  await assert.rejects(model.denoise({ width: 2, height: 2, data: new Uint8Array(3) }), /expected 4 x 2 x 2 bytes/);
  await assert.rejects(model.denoiseFile(noisyPpm(32, 32), { strength: 2 }), /strength: expected 0 to 1/);
  model.close();
  const own = await library.load({ model: "mine", weights: Buffer.from("words") });
  await assert.rejects(own.denoiseFile(noisyPpm(32, 32)), /mine/);
  own.close();
});
