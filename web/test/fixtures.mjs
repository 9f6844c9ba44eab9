// Pictures for the tests, and what `n2n predict` makes of them. N2N names the program.
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { writeFloatTiff } from "./tiff.mjs";

export const ROOT = join(import.meta.dirname, "../..");
const PROGRAM = process.env.N2N ?? join(ROOT, "target/release/n2n");

/** A picture of 16 bits in PPM: a smooth one with noise. */
export function noisyPpm(width, height) {
  const header = Buffer.from(`P6\n${width} ${height}\n65535\n`);
  const samples = Buffer.alloc(6 * width * height);
  let state = 12345;
  const random = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
  for (let i = 0; i < 3 * width * height; i++) {
    const [x, y, c] = [Math.floor(i / 3) % width, Math.floor(i / 3 / width), i % 3];
    const smooth = 0.5 + 0.35 * Math.sin(x / 37 + c) * Math.cos(y / 53);
    const noise = 0.3 * (random() + random() - 1);
    samples.writeUInt16BE(Math.min(65535, Math.max(0, Math.round(65535 * (smooth + noise)))), 2 * i);
  }
  return Buffer.concat([header, samples]);
}

/** A large picture of 8 bits in PPM, made quickly: some noisy rows, repeated. */
export function largePpm(width, height) {
  const rows = samplesOf(noisyPpm(width, 61));
  const band = Buffer.from(rows.map((sample) => sample >> 8));
  const header = Buffer.from(`P6\n${width} ${height}\n255\n`);
  return Buffer.concat([header, Buffer.alloc(3 * width * height, band)]);
}

/** The same picture in gray: PGM, or PPM with three equal channels. */
export function grayPnm(width, height, channels) {
  const header = Buffer.from(`${channels === 1 ? "P5" : "P6"}\n${width} ${height}\n65535\n`);
  const rgb = samplesOf(noisyPpm(width, height));
  const samples = Buffer.alloc(2 * channels * width * height);
  for (let i = 0; i < channels * width * height; i++) {
    samples.writeUInt16BE(rgb[3 * Math.floor(i / channels)], 2 * i);
  }
  return Buffer.concat([header, samples]);
}

/** The samples of a PGM or PPM of 8 or 16 bits. */
export function samplesOf(pnm) {
  const [header, most] = /^P[56]\n\d+ \d+\n(255|65535)\n/.exec(pnm.toString("latin1", 0, 40));
  const body = pnm.subarray(header.length);
  if (most === "255") return Uint8Array.from(body);
  return Uint16Array.from({ length: body.length / 2 }, (_, i) => body.readUInt16BE(2 * i));
}

/** The same picture in TIFF with 32-bit floats, with some values below 0 and above 1. */
export function noisyTiff(width, height, channels, description) {
  const rgb = samplesOf(noisyPpm(width, height));
  const samples = Float32Array.from({ length: channels * width * height }, (_, i) => {
    const at = 3 * Math.floor(i / channels) + (i % channels);
    return (1.1 * rgb[at]) / 65535 - 0.05;
  });
  return writeFloatTiff(samples, width, height, description);
}

/** The weights of a network that has hardly been trained, and is small enough to be fast. */
export function tinyModel(noise = "none") {
  const folder = mkdtempSync(join(tmpdir(), "n2n-"));
  try {
    const [images, runs] = [join(folder, "images"), join(folder, "runs")];
    mkdirSync(images);
    writeFileSync(join(images, "a.ppm"), noisyPpm(96, 96));
    const flags = `--val-dirs none --noisetype ${noise} --n-feature 4 --batchsize 1 --patchsize 64 --n-epoch 1`;
    const options = ["train", "--data-dir", images, "--save-model-path", runs, "--log-name", "tiny"];
    execFileSync(PROGRAM, [...options, ...flags.split(" "), "--steps-per-epoch", "10"], { stdio: "ignore" });
    return readFileSync(join(runs, "tiny/epoch_model_001.safetensors"));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

export function largestDifference(a, b) {
  if (a.length !== b.length) throw new Error(`${a.length} and ${b.length} samples`);
  return a.reduce((most, value, i) => Math.max(most, Math.abs(value - b[i])), 0);
}

/** What the program makes of a file, with flags as ["--format", "ppm"], and with other weights if there are some. */
export function predicted(bytes, extension, flags = [], weights = undefined) {
  const folder = mkdtempSync(join(tmpdir(), "n2n-"));
  try {
    writeFileSync(join(folder, `a.${extension}`), bytes);
    if (weights) {
      const file = join(folder, "model.safetensors");
      writeFileSync(file, weights);
      flags = [...flags, "--model-path", file];
    }
    const options = ["predict", join(folder, `a.${extension}`), "--save-dir", folder, ...flags];
    const output = execFileSync(PROGRAM, options, { stdio: ["ignore", "pipe", "pipe"] });
    return readFileSync(output.toString().trim());
  } finally {
    rmSync(folder, { recursive: true });
  }
}
