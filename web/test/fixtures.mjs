// Pictures for the tests, and what `n2n predict` makes of them. N2N names the program.
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

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

/** The samples of a PPM of 16 bits. */
export function samplesOf(ppm) {
  const [, width, height] = /^P6\n(\d+) (\d+)\n65535\n/.exec(ppm.toString("latin1", 0, 40)).map(Number);
  const first = ppm.length - 6 * width * height;
  return Uint16Array.from({ length: 3 * width * height }, (_, i) => ppm.readUInt16BE(first + 2 * i));
}

export function largestDifference(a, b) {
  if (a.length !== b.length) throw new Error(`${a.length} and ${b.length} samples`);
  return a.reduce((most, value, i) => Math.max(most, Math.abs(value - b[i])), 0);
}

/** What the program makes of a file, with flags as ["--format", "ppm"]. */
export function predicted(bytes, extension, flags = []) {
  const folder = mkdtempSync(join(tmpdir(), "n2n-"));
  try {
    writeFileSync(join(folder, `a.${extension}`), bytes);
    const options = ["predict", join(folder, `a.${extension}`), "--save-dir", folder, ...flags];
    const output = execFileSync(PROGRAM, options, { stdio: ["ignore", "pipe", "pipe"] });
    return readFileSync(output.toString().trim());
  } finally {
    rmSync(folder, { recursive: true });
  }
}
