// What a page and Node do differently: this is the page's part. platform.node.js is Node's, in the package.

/** Workers with a network: one per core, as far as memory allows. */
export function cores() {
  const most = (navigator.deviceMemory ?? 8) < 4 ? 2 : 8;
  return Math.max(1, Math.min(navigator.hardwareConcurrency ?? 2, most));
}

/** The program for a level. It is stored compressed, since not every file server compresses. */
export async function compile(level) {
  const bytes = await load(`./pkg/${level}/n2n_web_bg.wasm.gz`);
  const isCompressed = bytes[0] === 0x1f;
  // Some servers say that the file is compressed, and the browser has then undone that.
  if (!isCompressed) return WebAssembly.compile(bytes);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return WebAssembly.compile(await new Response(stream).arrayBuffer());
}

async function load(path) {
  const url = new URL(path, import.meta.url);
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url.pathname}: status ${response.status}`);
  return new Uint8Array(await response.arrayBuffer());
}

/** A worker that reports its messages, and why it ended. */
export function startWorker(onMessage, onEnd) {
  const worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
  worker.onmessage = ({ data }) => onMessage(data);
  worker.onerror = (event) => {
    event.preventDefault();
    onEnd(event.message ?? "no reason given");
  };
  return {
    post: (message, transfer) => worker.postMessage(message, transfer),
    terminate: () => worker.terminate(),
  };
}

/** The weights of a shipped model. */
export function shippedWeights(name) {
  return load(`./models/${name}.safetensors`);
}
