// Runs a program compiled for wasm32-wasip1, as cargo's runner: node wasi.mjs PROGRAM.wasm [ARGUMENT…]
import { writeSync } from "node:fs";
import { readFile } from "node:fs/promises";
import process from "node:process";
import { WASI } from "node:wasi";

const [program, ...options] = process.argv.slice(2);
const wasi = new WASI({ version: "preview1", args: [program, ...options], env: process.env });
const imports = wasi.getImportObject();
// Node's own can crash, in versions 20 and 22 at least: it collects garbage in a call that must not.
imports.wasi_snapshot_preview1.fd_write = (fd, vectors, count, written) => {
  const { buffer } = instance.exports.memory;
  const view = new DataView(buffer);
  let total = 0;
  for (let at = vectors; at < vectors + 8 * count; at += 8) {
    const part = new Uint8Array(buffer, view.getUint32(at, true), view.getUint32(at + 4, true));
    for (let done = 0; done < part.length; ) done += writeSync(fd, part, done);
    total += part.length;
  }
  view.setUint32(written, total, true);
  return 0;
};
const module = await WebAssembly.compile(await readFile(program));
const instance = await WebAssembly.instantiate(module, imports);
process.exitCode = wasi.start(instance);
