// The package on floats, whose differences from `n2n predict` no rounding to integers hides, with SIMD128 and with
// relaxed SIMD.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { before, test } from "node:test";
import { setFlagsFromString } from "node:v8";
import { gunzipSync } from "node:zlib";

import { ROOT, largestDifference, noisyTiff, predicted } from "./fixtures.mjs";
import { readFloatTiff } from "./tiff.mjs";

const PACKAGE = join(ROOT, "target/npm/n2n-denoise");
const LEVELS = ["simd128", "relaxed-simd"];

let library;

before(async () => {
  library = await import(join(PACKAGE, "node.js"));
  // Node 20 has relaxed SIMD, but keeps it off.
  if (library.detectLevel() !== "relaxed-simd") setFlagsFromString("--experimental-wasm-relaxed-simd");
  assert.equal(library.detectLevel(), "relaxed-simd");
});

for (const level of LEVELS) {
  test(`the module for ${level} uses it`, async () => {
    const program = await import(join(PACKAGE, "pkg", level, "n2n_web.js"));
    program.initSync({ module: gunzipSync(readFileSync(join(PACKAGE, "pkg", level, "n2n_web_bg.wasm.gz"))) });
    assert.equal(program.level(), level);
  });
}

test("floats become what n2n predict makes of them, within 1e-5", async () => {
  for (const channels of [1, 3]) {
    const noisy = noisyTiff(200, 150, channels, "A float picture");
    const expected = readFloatTiff(predicted(noisy, "tif")).samples;
    assert(largestDifference(expected, readFloatTiff(noisy).samples) > 0.1);
    for (const level of LEVELS) {
      const model = await library.load({ level, threads: 2 });
      assert.equal(model.level, level);
      const { bytes } = await model.denoiseFile(noisy, { name: "noisy.tif" });
      model.close();
      const { samples, ...kept } = readFloatTiff(bytes);
      assert.deepEqual(kept, { width: 200, height: 150, channels, description: "A float picture" });
      const difference = largestDifference(samples, expected);
      console.log(`${channels} channels, ${level}: differs by at most ${difference.toExponential(1)}`);
      assert(difference <= 1e-5, `${level}: ${difference}`);
    }
  }
});
