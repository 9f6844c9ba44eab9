// Denoises files with several workers: one decodes, cuts and encodes the picture, the others have the network.
// The same in a page and in Node, which differ in their platform: how workers start and where files are.

/** An error whose message is a sentence for the user. */
export class DenoiseError extends Error {
  name = "DenoiseError";
}

/** The work was cancelled. */
export class Cancelled extends DenoiseError {
  name = "AbortError";
  message = "Cancelled.";
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
    "This browser has no SIMD in WebAssembly. Please update it: Chrome and Edge run it from version 91, " +
      "Firefox from 113, Safari from 16.4.",
  );
}

/** A worker with an instance of the program. */
class Instance {
  #worker;
  #calls = new Map();
  #next = 0;
  #ready;
  /** Why it cannot be used again. */
  dead;
  /** The weights that it has. */
  model;

  constructor(platform) {
    let ready;
    this.#ready = new Promise((resolve) => (ready = resolve));
    this.#worker = platform.startWorker(
      (message) => {
        if (message.ready) return ready();
        const call = this.#calls.get(message.id);
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

  async call(name, args, transfer = []) {
    await this.#ready;
    if (this.dead) throw this.dead;
    return new Promise((resolve, reject) => {
      const id = this.#next++;
      this.#calls.set(id, { resolve, reject });
      this.#worker.post({ id, call: name, args }, transfer);
    });
  }

  /** Ends it at once, in the middle of whatever it does. */
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
      "A worker of this page ended unexpectedly, most likely for want of memory. Close other tabs, or try a " +
        `smaller picture. (${reason})`,
    );
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

  /** Seconds that a worker takes for a pixel, once that is known. */
  #rate;

  /**
   * @param {object} platform platform.js or node.js
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
      await network.call("load", { weights: model.weights, name: model.name });
      network.model = model;
    }
    return network;
  }

  /**
   * Opens a picture and says what it is.
   *
   * @param {Uint8Array} bytes the file
   * @param {string} name what errors call it
   * @param {boolean} [isGiven] whether the bytes may be taken away instead of copied
   */
  async open(bytes, name, isGiven) {
    this.#codec = await this.#instance(this.#codec);
    return this.#codec.call("open", { bytes, name }, isGiven ? [bytes.buffer] : []);
  }

  /**
   * The first page of a picture in RGBA, smaller by a whole factor if it has more than so many pixels, and not
   * turned upright. The bytes are taken away.
   *
   * @param {Float32Array} [bounds] which values are black and white; those of another preview
   */
  async preview(bytes, name, pixels, bounds) {
    this.#codec = await this.#instance(this.#codec);
    return this.#codec.call("preview", { bytes, name, pixels, bounds }, [bytes.buffer]);
  }

  /**
   * Denoises the open picture.
   *
   * @param {{name: string, weights: Uint8Array}} model
   * @param {object} options
   * @param {number} [options.strength] share of the noise that is removed, 0 to 1
   * @param {(progress: {fraction: number, page: number, secondsLeft?: number}) => void} [options.onProgress]
   * @param {AbortSignal} [options.signal]
   * @returns {Promise<{bytes: Uint8Array, notes: string[]}>} the file in its own format and depth
   */
  async denoise(model, { strength = 1, onProgress = () => {}, signal } = {}) {
    const codec = this.#codec;
    const cancel = () => {
      codec.end(new Cancelled());
      for (const network of this.#networks) {
        if (network?.isBusy) network.end(new Cancelled());
      }
    };
    if (signal?.aborted) throw new Cancelled();
    signal?.addEventListener("abort", cancel);
    try {
      for (let page = 1; ; page++) {
        const parts = await codec.call("nextPage", { workers: this.#threads, pixels: this.#pixels });
        if (!parts) break;
        await this.#page(codec, model, parts, strength, signal, (progress) => onProgress({ ...progress, page }));
      }
      return await codec.call("encode");
    } finally {
      signal?.removeEventListener("abort", cancel);
    }
  }

  async #page(codec, model, parts, strength, signal, onProgress) {
    const total = parts.reduce((sum, pixels) => sum + pixels, 0);
    const threads = Math.min(this.#threads, parts.length);
    const began = performance.now();
    let next = 0;
    let done = 0;
    onProgress({ fraction: 0, secondsLeft: this.#rate && (this.#rate * total) / threads });
    const run = async (lane) => {
      while (next < parts.length) {
        const at = next++;
        const tile = await codec.call("cut", { at });
        let samples;
        for (let attempt = 1; !samples; attempt++) {
          if (signal?.aborted) throw new Cancelled();
          try {
            const network = await this.#network(lane, model);
            // One that started only now was not there to be ended.
            if (signal?.aborted) throw new Cancelled();
            samples = await network.call("denoise", { ...tile, strength });
          } catch (error) {
            // A new worker, once: the old one may have had the bad luck of others' memory.
            if (!(error instanceof WorkerDied) || attempt > 1) throw error;
          }
        }
        await codec.call("put", { at, samples }, [samples.buffer]);
        done += parts[at];
        const seconds = (performance.now() - began) / 1000;
        this.#rate = (seconds * threads) / done;
        onProgress({ fraction: done / total, secondsLeft: (seconds * (total - done)) / done });
      }
    };
    const lanes = Array.from({ length: threads }, (_, lane) => run(lane));
    // All of them, so that none still works when the next picture comes.
    const ended = await Promise.allSettled(lanes);
    const failed = ended.find(({ status }) => status === "rejected");
    if (failed) throw failed.reason;
  }

  /** Ends all workers. */
  close() {
    for (const instance of [this.#codec, ...this.#networks]) instance?.end(new Cancelled());
    this.#codec = undefined;
    this.#networks = [];
  }
}
