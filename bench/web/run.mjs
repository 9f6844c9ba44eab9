// Times n2n-denoise against onnxruntime-web in headless Chromium: the same network, picture and number of threads, one
// run each in turn. See README.md.
import { execFileSync } from "node:child_process";
import { mkdtempSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { extname, join } from "node:path";
import { parseArgs } from "node:util";
import { chromium } from "playwright-core";

const ROOT = join(import.meta.dirname, "../..");
const { values: options } = parseArgs({
  options: {
    size: { type: "string", default: "512x512" },
    threads: { type: "string", default: "1,2" },
    rounds: { type: "string", default: "7" },
  },
});
const [width, height] = options.size.split("x").map(Number);
const rounds = Number(options.rounds);

const models = mkdtempSync(join(tmpdir(), "n2n-"));
const program = process.env.N2N ?? join(ROOT, "target/release/n2n");
const weights = join(ROOT, "target/npm/n2n-denoise/models/gauss5_50.safetensors");
execFileSync(program, ["export", "--model-path", weights, "--save-dir", models], { stdio: "ignore" });

const PLACES = [
  ["/n2n/", join(ROOT, "target/npm/n2n-denoise")],
  ["/ort/", join(import.meta.dirname, "node_modules/onnxruntime-web/dist")],
  ["/model.onnx", join(models, "model.onnx")],
  ["/", import.meta.dirname],
];
const TYPES = {
  ".html": "text/html",
  ".js": "text/javascript",
  ".mjs": "text/javascript",
  ".wasm": "application/wasm",
};
const server = createServer(async (request, response) => {
  const path = new URL(request.url, "http://localhost").pathname;
  const [prefix, place] = PLACES.find(([prefix]) => path.startsWith(prefix));
  const file = join(place, path.slice(prefix.length));
  try {
    const body = await readFile(file);
    response
      .writeHead(200, {
        "content-type": TYPES[extname(file)] ?? "application/octet-stream",
        // onnxruntime-web needs these two for its threads.
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-embedder-policy": "require-corp",
      })
      .end(body);
  } catch {
    response.writeHead(404).end();
  }
});
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});
try {
  const runs = [];
  for (const threads of options.threads.split(",")) {
    for (const [name, query] of [
      ["n2n-denoise, relaxed SIMD", "engine=n2n&level=relaxed-simd"],
      ["n2n-denoise, SIMD128", "engine=n2n&level=simd128"],
      ["onnxruntime-web", "engine=onnxruntime-web"],
    ]) {
      const page = await browser.newPage();
      page.on("pageerror", (error) => console.error(`${name}: ${error}`));
      await page.goto(`http://127.0.0.1:${server.address().port}/bench.html?${query}&threads=${threads}`);
      await page.waitForFunction(() => window.start);
      await page.evaluate(([w, h]) => window.start(w, h), [width, height]);
      // The first run compiles and allocates.
      await page.evaluate(() => window.denoise());
      runs.push({ name, threads, page, times: [] });
    }
  }
  for (let round = 0; round < rounds; round++) {
    for (const run of runs) run.times.push(await run.page.evaluate(() => window.denoise()));
  }
  const results = await Promise.all(runs.map(({ page }) => page.evaluate(() => window.sample())));
  const median = (times) => times.toSorted((a, b) => a - b)[Math.floor(times.length / 2)];
  console.log(`${width} x ${height}, ${rounds} rounds in turn, Chromium ${browser.version()}\n`);
  console.log("| engine | threads | median, ms | fastest, ms | largest difference (on a scale of 255) |");
  console.log("|---|--:|--:|--:|--:|");
  runs.forEach(({ name, threads, times }, i) => {
    const difference = Math.max(...results[i].map((value, at) => Math.abs(value - results[2][at])));
    const [middle, fastest] = [median(times), Math.min(...times)].map(Math.round);
    console.log(`| ${name} | ${threads} | ${middle} | ${fastest} | ${difference} |`);
  });
} finally {
  await browser.close();
  server.close();
}
