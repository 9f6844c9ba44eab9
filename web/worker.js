// One instance of the program, in a worker of a page or of Node. It answers calls: {id, call, args} becomes
// {id, value}, or {id, error} with a sentence, after any number of {id, event}. What ends the instance, such as
// too little memory, is {id, fatal}.

const node = typeof process === "object" && process.versions?.node;
const port = node ? (await import("node:worker_threads")).parentPort : globalThis;

let program;
let picture;
let denoiser;

const calls = {
  async start({ module, level }) {
    program = await import(`./pkg/${level}/n2n_web.js`);
    program.initSync({ module });
  },

  load({ weights, name }) {
    const next = new program.Denoiser(weights, name);
    denoiser?.free();
    denoiser = next;
    return { channels: denoiser.channels, range: denoiser.range() };
  },

  denoise({ header, samples, strength }) {
    const tile = new program.Tile(header, samples);
    try {
      return denoiser.denoise(tile, strength);
    } finally {
      tile.free();
    }
  },

  open({ bytes, name }) {
    calls.close();
    picture = new program.Picture(bytes, name);
    const [width, height, channels, bits, orientation] = picture.info();
    const { format } = picture;
    return { width, height, channels, bits, orientation, format, isGray: picture.is_gray() };
  },

  checkRange({ range }) {
    picture.check_range(range);
  },

  nextPage({ workers, pixels, takesGray }) {
    const parts = picture.next_page(workers, pixels, takesGray);
    return parts && { parts, isGray: picture.is_page_gray };
  },

  cut({ at }) {
    const tile = picture.cut(at);
    const cut = { header: tile.header, samples: tile.samples };
    tile.free();
    return cut;
  },

  put({ at, samples }) {
    picture.put(at, samples);
  },

  preview({ bytes, name, pixels, bounds }) {
    const preview = new program.Preview(bytes, name, pixels, bounds);
    const { width, height, orientation, rgba } = preview;
    const shown = { width, height, orientation, rgba, bounds: preview.bounds };
    preview.free();
    return shown;
  },

  encode() {
    return { bytes: picture.encode(), notes: picture.notes };
  },

  adapt({ models, bytes, name, seconds }, onEvent) {
    const adaptation = new program.Adaptation();
    for (const model of models) adaptation.add_model(model.weights, model.name);
    const adapted = adaptation.run(bytes, name, seconds, (passed, loss) => onEvent({ passed, loss }));
    return { bytes: adapted.weights(), summary: adapted.summary, isNew: adapted.is_new };
  },

  close() {
    picture?.free();
    picture = undefined;
  },
};

port.onmessage = async ({ data: { id, call, args } }) => {
  try {
    const value = await calls[call](args, (event) => port.postMessage({ id, event }));
    const buffers = [value, value?.samples, value?.rgba, value?.bytes]
      .filter((part) => ArrayBuffer.isView(part))
      .map((part) => part.buffer);
    port.postMessage({ id, value }, buffers);
  } catch (error) {
    // An error of the program is a sentence; a trap leaves an instance that cannot be used again.
    const kind = error instanceof WebAssembly.RuntimeError || error instanceof RangeError ? "fatal" : "error";
    port.postMessage({ id, [kind]: error?.message ?? String(error) });
  }
};
port.postMessage({ ready: true });
