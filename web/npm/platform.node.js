// Node's part of what a page and Node do differently: see platform.js.

import { readFile } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { Worker } from "node:worker_threads";
import { gunzipSync } from "node:zlib";

export function cores() {
  return Math.min(availableParallelism(), 8);
}

export async function compile(level) {
  const file = await readFile(new URL(`./pkg/${level}/n2n_web_bg.wasm.gz`, import.meta.url));
  return WebAssembly.compile(gunzipSync(file));
}

export function startWorker(onMessage, onEnd) {
  const worker = new Worker(new URL("./worker.js", import.meta.url));
  worker.on("message", onMessage);
  worker.on("error", (error) => onEnd(error.message));
  return {
    post: (message, transfer) => worker.postMessage(message, transfer),
    terminate: () => worker.terminate(),
  };
}

export async function shippedWeights(name) {
  return new Uint8Array(await readFile(new URL(`./models/${name}.safetensors`, import.meta.url)));
}
