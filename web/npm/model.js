// What the package offers on every platform.

import { Engine, grayCompanion, grayModel } from "./engine.js";

export { Canceled, DenoiseError, detectLevel } from "./engine.js";

/** The names of the models in the package. */
export const MODELS = [
  "gauss5_50",
  "gauss5_50_fast",
  "gauss25",
  "poisson30",
  "poisson5_50",
  "gauss5_50_gray",
  "poisson5_50_gray",
];

/** A network with workers. */
export class Model {
  #engine;
  #model;
  #last = Promise.resolve();

  constructor(engine, model) {
    this.#engine = engine;
    this.#model = model;
  }

  /** The instructions that the workers use: "relaxed-simd" or "simd128". */
  get level() {
    return this.#engine.level;
  }

  /** Denoises 8-bit RGBA pixels: an ImageData, or an object like one. */
  async denoise({ width, height, data }, options) {
    if (data.length !== 4 * width * height) {
      throw new RangeError(`expected 4 x ${width} x ${height} bytes of RGBA, found ${data.length}`);
    }
    // A PAM file is just the pixels after a few lines of text.
    const header = new TextEncoder().encode(
      `P7\nWIDTH ${width}\nHEIGHT ${height}\nDEPTH 4\nMAXVAL 255\nTUPLTYPE RGB_ALPHA\nENDHDR\n`,
    );
    const file = new Uint8Array(header.length + data.length);
    file.set(header);
    file.set(data, header.length);
    const { bytes } = await this.denoiseFile(file, { ...options, name: "the image" });
    const pixels = new Uint8ClampedArray(bytes.slice(bytes.length - data.length).buffer);
    return typeof ImageData === "function" ? new ImageData(pixels, width, height) : { width, height, data: pixels };
  }

  /** Denoises a file of any format, with all its pages and metadata. */
  async denoiseFile(bytes, { name = "the file", ...options } = {}) {
    // One picture after the other: each has all workers.
    const before = this.#last;
    const done = (async () => {
      await before.catch(() => {});
      await this.#engine.open(bytes, name);
      return this.#engine.denoise(this.#model, options);
    })();
    this.#last = done.catch(() => {});
    return done;
  }

  /** Terminates the workers. A Node script does not exit before that. */
  close() {
    this.#engine.close();
  }
}

/** `load` for a platform. */
export const loadOn =
  (platform) =>
  async ({ model = MODELS[0], weights, ...options } = {}) => {
    if (!weights && !MODELS.includes(model)) {
      throw new RangeError(`no model named ${model}; use one of ${MODELS.join(", ")}, or pass weights`);
    }
    const { threads } = options;
    if (threads !== undefined && !(Number.isInteger(threads) && threads >= 1)) {
      throw new RangeError(`threads: expected a whole number of at least 1, found ${threads}`);
    }
    const engine = new Engine(platform, options);
    const own = { name: model, weights: weights ?? (await platform.shippedWeights(model)) };
    const grayName = weights ? grayCompanion(weights) : grayModel(model);
    let gray;
    const weightsFor = async (isGray) => {
      if (!grayName || !isGray) return own;
      return (gray ??= { name: grayName, weights: await platform.shippedWeights(grayName) });
    };
    return new Model(engine, { takesGray: Boolean(grayName), weightsFor });
  };
