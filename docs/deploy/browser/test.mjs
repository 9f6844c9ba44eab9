// Opens the page in headless Chromium and compares what it shows with EXPECTED, a picture of what
// noisy.png should become: node test.mjs EXPECTED.png [SCREENSHOT.png]
//
// Expects model.onnx and noisy.png beside the page. CHROMIUM names the browser.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join } from "node:path";
import { chromium } from "playwright-core";

const [expected, screenshot] = process.argv.slice(2);
const TYPES = {
  ".html": "text/html",
  ".js": "text/javascript",
  ".mjs": "text/javascript",
  ".wasm": "application/wasm",
};

const server = createServer(async (request, response) => {
  const path = new URL(request.url, "http://localhost").pathname.replace(/\/$/, "/index.html");
  const file = path === "/expected.png" ? expected : join(import.meta.dirname, path);
  try {
    const body = await readFile(file);
    const type = TYPES[extname(file)] ?? "application/octet-stream";
    response.writeHead(200, { "content-type": type }).end(body);
  } catch {
    response.writeHead(404).end();
  }
});
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));

const browser = await chromium.launch({
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
try {
  const page = await browser.newPage({ viewport: { width: 640, height: 400 } });
  page.on("console", (message) => console.log(`page: ${message.text()}`));
  page.on("pageerror", (error) => console.log(`page: ${error}`));
  await page.goto(`http://127.0.0.1:${server.address().port}/`);
  const status = page.locator("#status");
  const done = () => !["", "Denoising …"].includes(document.getElementById("status").value);
  await page.waitForFunction(done, null, { timeout: 300_000 });
  console.log(await status.evaluate((output) => output.value));
  if (screenshot) await page.screenshot({ path: screenshot });
  const largest = await page.evaluate(async () => {
    const bitmap = await createImageBitmap(await (await fetch("expected.png")).blob());
    const { width, height } = bitmap;
    const context = new OffscreenCanvas(width, height).getContext("2d");
    context.drawImage(bitmap, 0, 0);
    const expected = context.getImageData(0, 0, width, height).data;
    const canvas = document.getElementById("denoised");
    const shown = canvas.getContext("2d").getImageData(0, 0, width, height).data;
    return expected.reduce((most, value, i) => Math.max(most, Math.abs(value - shown[i])), 0);
  });
  console.log(`largest difference: ${largest} of 255`);
  assert(largest <= 1);
} finally {
  await browser.close();
  server.close();
}
