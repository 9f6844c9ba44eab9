// One engine in a page: `start` loads it, `denoise` runs it once and returns the time in milliseconds, and `sample`
// returns some values of the last result.

const query = new URLSearchParams(location.search);
const [engine, threads] = [query.get("engine"), Number(query.get("threads"))];

/** A photograph-like picture with noise, the same for all engines, in RGBA. */
function picture(width, height) {
  const data = new Uint8ClampedArray(4 * width * height);
  let state = 12345;
  const random = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
  for (let i = 0; i < width * height; i++) {
    const [x, y] = [i % width, Math.floor(i / width)];
    for (let c = 0; c < 3; c++) {
      const smooth = 0.5 + 0.35 * Math.sin(x / 37 + c) * Math.cos(y / 53);
      data[4 * i + c] = 255 * (smooth + 0.3 * (random() + random() - 1));
    }
    data[4 * i + 3] = 255;
  }
  return { width, height, data };
}

const engines = {
  async n2n() {
    const { load } = await import("/n2n/browser.js");
    const model = await load({ threads, level: query.get("level") ?? undefined });
    return async (image) => {
      const began = performance.now();
      const { data } = await model.denoise(image);
      return { milliseconds: performance.now() - began, data };
    };
  },

  async "onnxruntime-web"() {
    const ort = await import("/ort/ort.wasm.bundle.min.mjs");
    ort.env.wasm.wasmPaths = "/ort/";
    ort.env.wasm.numThreads = threads;
    const session = await ort.InferenceSession.create("/model.onnx", { executionProviders: ["wasm"] });
    return async ({ width, height, data }) => {
      const pixels = width * height;
      const input = new Float32Array(3 * pixels);
      for (let i = 0; i < pixels; i++) for (let c = 0; c < 3; c++) input[c * pixels + i] = data[4 * i + c] / 255;
      // Only the network is timed: converting the pixels is not the engine's work.
      const tensor = new ort.Tensor("float32", input, [1, 3, height, width]);
      const began = performance.now();
      const { output } = await session.run({ input: tensor });
      const milliseconds = performance.now() - began;
      const result = new Uint8ClampedArray(4 * pixels);
      for (let i = 0; i < pixels; i++) {
        for (let c = 0; c < 3; c++) result[4 * i + c] = 255 * output.data[c * pixels + i];
        result[4 * i + 3] = 255;
      }
      return { milliseconds, data: result };
    };
  },
};

let denoise, image, last;

window.start = async (width, height) => {
  image = picture(width, height);
  denoise = await engines[engine]();
};

window.denoise = async () => {
  const { milliseconds, data } = await denoise(image);
  last = data;
  return milliseconds;
};

/** Every 101st value of the last run's result, to compare engines. */
window.sample = () => Array.from(last).filter((_, i) => i % 101 === 0);
