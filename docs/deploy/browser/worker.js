import * as ort from "./node_modules/onnxruntime-web/dist/ort.wasm.bundle.min.mjs";

// Without tiles, as here, a pixel takes about 2 KB, and WebAssembly has 4 GB.
const MAX_PIXELS = 1 << 20;
const session = ort.InferenceSession.create("model.onnx");

onmessage = async ({ data }) => {
  try {
    postMessage({ image: await denoise(await session, data) });
  } catch (error) {
    postMessage({ error: String(error) });
  }
};

/** The picture that the network makes of an ImageData, as an ImageData. */
async function denoise(session, { width, height, data }) {
  // The network halves its input five times: mirror the picture at the bottom and the right.
  const [w, h] = [width, height].map((side) => Math.ceil(side / 32) * 32);
  if (w * h > MAX_PIXELS) throw new Error(`at most ${MAX_PIXELS} pixels, not ${w * h}`);
  const input = new Float32Array(3 * h * w);
  for (let c = 0, i = 0; c < 3; c++) {
    for (let y = 0; y < h; y++) {
      for (let x = 0; x < w; x++, i++) {
        input[i] = data[(mirror(y, height) * width + mirror(x, width)) * 4 + c] / 255;
      }
    }
  }
  const tensor = new ort.Tensor("float32", input, [1, 3, h, w]);
  const { output } = await session.run({ input: tensor });
  const image = new ImageData(width, height);
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i += 4) {
      for (let c = 0; c < 3; c++) {
        image.data[i + c] = output.data[(c * h + y) * w + x] * 255; // rounds and clips
      }
      image.data[i + 3] = 255;
    }
  }
  return image;
}

function mirror(i, size) {
  const period = Math.max(2 * size - 2, 1);
  return Math.min(i % period, period - (i % period));
}
