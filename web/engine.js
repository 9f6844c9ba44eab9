// Denoises files with several workers: one decodes, cuts and encodes the picture, the others have the network.
// The same in a page and in Node, which differ in their platform: how workers start and where files are.

/** An error whose message is a sentence for the user. */
export class DenoiseError extends Error {
  name = "DenoiseError";
}

/** The work was canceled. */
export class Canceled extends DenoiseError {
  name = "AbortError";
  message = "Canceled.";
}

// A function that multiplies and adds in one relaxed instruction; an engine without it refuses the module.
const RELAXED = Uint8Array.of(
  0, 97, 115, 109, 1, 0, 0, 0, 1, 8, 1, 96, 3, 123, 123, 123, 1, 123, 3, 2, 1, 0, 10, 13, 1, 11, 0, 32, 0, 32, 1,
  32, 2, 253, 133, 2, 11,
);
// The same with an instruction of SIMD128.
const SIMD = Uint8Array.of(
  0, 97, 115, 109, 1, 0, 0, 0, 1, 7, 1, 96, 2, 123, 123, 1, 123, 3, 2, 1, 0, 10, 11, 1, 9, 0, 32, 0, 32, 1, 253,
  228, 1, 11,
);

/** The fastest level that this engine runs: "relaxed-simd" or "simd128". */
export function detectLevel() {
  if (WebAssembly.validate(RELAXED)) return "relaxed-simd";
  if (WebAssembly.validate(SIMD)) return "simd128";
  throw new DenoiseError(
    "This browser has no SIMD in WebAssembly. Please update it: Chrome and Edge work from version 91, " +
      "Firefox from 114, Safari from 16.4.",
  );
}

/** A worker with an instance of the program. */
class Instance {
  #worker;
  #calls = new Map();
  #next = 0;
  #ready;
  /** The reason why it cannot be used again. */
  dead;
  /** Its weights, their number of channels, and their range of values if they state one. */
  model;
  channels;
  range;

  constructor(platform) {
    let ready;
    this.#ready = new Promise((resolve) => (ready = resolve));
    this.#worker = platform.startWorker(
      (message) => {
        if (message.ready) return ready();
        const call = this.#calls.get(message.id);
        if ("event" in message) return call?.onEvent(message.event);
        this.#calls.delete(message.id);
        if ("fatal" in message) {
          call?.reject(new WorkerDied(message.fatal));
          this.end(new WorkerDied(message.fatal));
        } else if ("error" in message) {
          const error = new DenoiseError(message.error);
          // Of the file or the options, not of the page.
          error.isAboutData = true;
          call?.reject(error);
        } else {
          call?.resolve(message.value);
        }
      },
      (reason) => {
        this.end(new WorkerDied(reason));
        ready();
      },
    );
  }

  async call(name, args, transfer = [], onEvent = () => {}) {
    await this.#ready;
    if (this.dead) throw this.dead;
    return new Promise((resolve, reject) => {
      const id = this.#next++;
      this.#calls.set(id, { resolve, reject, onEvent });
      this.#worker.post({ id, call: name, args }, transfer);
    });
  }

  /** Terminates it at once, whatever it is doing. */
  end(reason) {
    if (this.dead) return;
    this.dead = reason;
    this.#worker.terminate();
    for (const call of this.#calls.values()) call.reject(reason);
    this.#calls.clear();
  }

  get isBusy() {
    return this.#calls.size > 0;
  }
}

class WorkerDied extends DenoiseError {
  constructor(reason) {
    super(
      "A worker ended unexpectedly, most likely because memory ran out. Close other tabs or programs and try again, " +
        `or use a smaller picture. (${reason})`,
    );
  }
}

/**
 * Weights to denoise with.
 *
 * @typedef {object} Model
 * @property {boolean} takesGray whether there are weights for gray pictures
 * @property {(isGray: boolean) => Promise<{name: string, weights: Uint8Array}>} weightsFor the weights for a page that
 *   is gray or not; the same object each time
 */

const GRAY_AS_RGB = "The model is for RGB pictures and removes little noise from a gray one like this";

const GRAY_MODELS = ["gauss5_50_gray", "poisson5_50_gray"];

/** The name of the gray model for the same kind of noise as a shipped RGB model; undefined if it is one itself. */
export function grayModel(name) {
  if (GRAY_MODELS.includes(name)) return undefined;
  return GRAY_MODELS.find((gray) => gray.startsWith("poisson") === name.startsWith("poisson"));
}

/** The name of the gray model that the weights of an RGB model state for gray pictures, if it is one that is shipped. */
export function grayCompanion(weights) {
  try {
    // The header of a safetensors file.
    const length = Number(new DataView(weights.buffer, weights.byteOffset).getBigUint64(0, true));
    const header = JSON.parse(new TextDecoder().decode(weights.subarray(8, 8 + length)));
    return GRAY_MODELS.find((gray) => gray === header.__metadata__?.gray_model);
  } catch {
    return undefined;
  }
}

/** Several workers that denoise one picture at a time. */
export class Engine {
  #platform;
  #level;
  #module;
  #codec;
  #networks = [];
  #threads;
  #pixels;

  /** Seconds that a worker takes per pixel, once known. */
  #rate;

  /**
   * @param {object} platform platform.js or platform.node.js
   * @param {object} [options]
   * @param {number} [options.threads] workers with a network; as many as there are cores, at most 8
   * @param {number} [options.pixels] most pixels that a worker computes at once
   * @param {string} [options.level] "relaxed-simd" or "simd128"
   */
  constructor(platform, { threads = platform.cores(), pixels = 768 * 768, level } = {}) {
    this.#platform = platform;
    this.#threads = threads;
    this.#pixels = pixels;
    this.#level = level ?? detectLevel();
  }

  get level() {
    return this.#level;
  }

  async #instance(old) {
    if (old && !old.dead) return old;
    this.#module ??= this.#platform.compile(this.#level).catch((error) => {
      this.#module = undefined;
      throw new DenoiseError(`The program could not be loaded; check the connection and try again. (${error.message})`);
    });
    const instance = new Instance(this.#platform);
    await instance.call("start", { module: await this.#module, level: this.#level });
    return instance;
  }

  async #network(at, model) {
    const network = (this.#networks[at] = await this.#instance(this.#networks[at]));
    if (network.model !== model) {
      const facts = await network.call("load", { weights: model.weights, name: model.name });
      Object.assign(network, facts, { model });
    }
    return network;
  }

  /**
   * Opens a picture and says what it is.
   *
   * @param {Uint8Array} bytes the file
   * @param {string} name what errors call it
   * @param {boolean} [isGiven] whether the buffer of the bytes may be transferred instead of copied
   */
  async open(bytes, name, isGiven) {
    this.#codec = await this.#instance(this.#codec);
    return this.#codec.call("open", { bytes, name }, isGiven ? [bytes.buffer] : []);
  }

  /**
   * The first page of a picture in RGBA, reduced by an integer factor if it has more than `pixels` pixels, and not
   * rotated upright. The buffer of the bytes is transferred.
   *
   * @param {Float32Array} [bounds] the values to show as black and white; those of another preview
   */
  async preview(bytes, name, pixels, bounds) {
    this.#codec = await this.#instance(this.#codec);
    return this.#codec.call("preview", { bytes, name, pixels, bounds }, [bytes.buffer]);
  }

  /**
   * Denoises the open picture.
   *
   * @param {Model} model
   * @param {object} options
   * @param {number} [options.strength] the fraction of the network's change that is applied, 0 to 1
   * @param {(progress: {fraction: number, page: number, secondsLeft?: number}) => void} [options.onProgress]
   * @param {AbortSignal} [options.signal]
   * @returns {Promise<{bytes: Uint8Array, notes: string[]}>} the file in its own format and depth
   */
  async denoise(model, { strength = 1, onProgress = () => {}, signal } = {}) {
    const codec = this.#codec;
    const cancel = () => {
      codec.end(new Canceled());
      for (const network of this.#networks) {
        if (network?.isBusy) network.end(new Canceled());
      }
    };
    if (signal?.aborted) throw new Canceled();
    signal?.addEventListener("abort", cancel);
    const notes = [];
    try {
      for (let page = 1; ; page++) {
        const { takesGray } = model;
        const next = await codec.call("nextPage", { workers: this.#threads, pixels: this.#pixels, takesGray });
        if (!next) break;
        const weights = await model.weightsFor(next.isGray);
        if (signal?.aborted) throw new Canceled();
        await this.#page(codec, weights, next.parts, strength, signal, notes, (progress) =>
          onProgress({ ...progress, page }),
        );
        const { channels, range } = this.#networks.find((network) => network?.model === weights) ?? {};
        if (page === 1 && range?.length) await codec.call("checkRange", { range });
        if (next.isGray && channels === 3 && !notes.includes(GRAY_AS_RGB)) notes.push(GRAY_AS_RGB);
      }
      const result = await codec.call("encode");
      return { ...result, notes: [...notes, ...result.notes] };
    } finally {
      signal?.removeEventListener("abort", cancel);
    }
  }

  /**
   * Fits a copy of one of the models to the noise of a picture, in a worker of its own. The buffer of the bytes is
   * transferred.
   *
   * @param {{name: string, weights: Uint8Array}[]} models the one to improve on, then others to start from
   * @param {Uint8Array} bytes the file
   * @param {string} name what errors call it
   * @param {object} options
   * @param {number} options.seconds how long to train
   * @param {(event: {passed: number, loss?: number}) => void} [options.onEvent] the fraction of the time that has
   *   passed, and from time to time the held-out loss
   * @param {AbortSignal} [options.signal]
   * @returns {Promise<{bytes: Uint8Array, summary: string, isNew: boolean}>} the weights as safetensors, what was
   *   chosen, and whether anything lowered the loss
   */
  async adapt(models, bytes, name, { seconds, onEvent, signal }) {
    if (signal?.aborted) throw new Canceled();
    const instance = await this.#instance();
    const cancel = () => instance.end(new Canceled());
    signal?.addEventListener("abort", cancel);
    if (signal?.aborted) cancel();
    try {
      return await instance.call("adapt", { models, bytes, name, seconds }, [bytes.buffer], onEvent);
    } finally {
      signal?.removeEventListener("abort", cancel);
      // Its memory is of no further use.
      cancel();
    }
  }

  /** Denoises the tiles of a page, with fewer workers if some run out of memory. */
  async #page(codec, model, parts, strength, signal, notes, onProgress) {
    const total = parts.reduce((sum, pixels) => sum + pixels, 0);
    const began = performance.now();
    let threads = Math.min(this.#threads, parts.length);
    let next = 0;
    let done = 0;
    // Tiles whose worker ended.
    const returned = [];
    const cut = async () => {
      if (returned.length) return returned.pop();
      if (next === parts.length) return undefined;
      const at = next++;
      return { at, tile: await codec.call("cut", { at }) };
    };
    const denoised = async (lane, tile) => {
      for (let attempt = 1; ; attempt++) {
        if (signal?.aborted) throw new Canceled();
        try {
          const network = await this.#network(lane, model);
          // A worker that has only just started was not there to be ended.
          if (signal?.aborted) throw new Canceled();
          return await network.call("denoise", { ...tile, strength });
        } catch (error) {
          if (!(error instanceof WorkerDied)) throw error;
          // A new worker, once: others may have taken the memory for a moment.
          if (attempt > 1) return error;
        }
      }
    };
    /** Denoises tiles until there are none left or its worker fails; then it returns the reason. */
    const run = async (lane) => {
      for (let part; (part = await cut()); ) {
        const samples = await denoised(lane, part.tile);
        if (samples instanceof WorkerDied) {
          returned.push(part);
          return samples;
        }
        const { at } = part;
        await codec.call("put", { at, samples }, [samples.buffer]);
        done += parts[at];
        const seconds = (performance.now() - began) / 1000;
        this.#rate = (seconds * threads) / done;
        onProgress({ fraction: done / total, secondsLeft: (seconds * (total - done)) / done });
      }
    };
    onProgress({ fraction: 0, secondsLeft: this.#rate && (this.#rate * total) / threads });
    while (done < total) {
      const lanes = Array.from({ length: threads }, (_, lane) => run(lane));
      // All of them, so that none still works when the next picture comes.
      const ended = await Promise.allSettled(lanes);
      const failed = ended.find(({ status }) => status === "rejected");
      if (failed) throw failed.reason;
      const died = ended.map(({ value }) => value).filter(Boolean);
      if (died.length === 0) break;
      if (threads === 1) throw died[0];
      threads = Math.max(1, threads - died.length);
      this.#threads = threads;
      this.#networks = this.#networks.filter((network) => network && !network.dead);
      const workers = threads === 1 ? "one worker" : `${threads} workers`;
      notes.push(`Finished with ${workers}, because others ended, most likely because memory ran out`);
    }
  }

  /** Ends all workers. */
  close() {
    for (const instance of [this.#codec, ...this.#networks]) instance?.end(new Canceled());
    this.#codec = undefined;
    this.#networks = [];
  }
}
