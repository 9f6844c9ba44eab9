// TIFFs of 32-bit floats, uncompressed and little-endian, as a caller would write and read them.
import assert from "node:assert/strict";

const [WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, DESCRIPTION] = [256, 257, 258, 259, 262, 270];
const [STRIPS, CHANNELS, ROWS, STRIP_BYTES, FORMAT] = [273, 277, 278, 279, 339];
const FLOAT = 3;
// The types of values (text, 16 and 32 bits) by their size in bytes.
const TYPES = { 1: 2, 2: 3, 4: 4 };

/** A TIFF of one strip. `samples` is a Float32Array of gray or interleaved RGB. */
export function writeFloatTiff(samples, width, height, description) {
  const channels = samples.length / (width * height);
  const each = (value) => Uint16Array.from({ length: channels }, () => value);
  const tags = [
    [WIDTH, Uint32Array.of(width)],
    [HEIGHT, Uint32Array.of(height)],
    [BITS, each(32)],
    [COMPRESSION, Uint16Array.of(1)],
    [PHOTOMETRIC, Uint16Array.of(channels === 3 ? 2 : 1)],
    [DESCRIPTION, Buffer.from(`${description}\0`)],
    [STRIPS, Uint32Array.of(8)],
    [CHANNELS, Uint16Array.of(channels)],
    [ROWS, Uint32Array.of(height)],
    [STRIP_BYTES, Uint32Array.of(samples.byteLength)],
    [FORMAT, each(FLOAT)],
  ];
  const header = Buffer.from("II*\0\0\0\0\0");
  header.writeUInt32LE(8 + samples.byteLength, 4);
  const directory = Buffer.alloc(2 + 12 * tags.length + 4);
  directory.writeUInt16LE(tags.length);
  const outside = [];
  let end = 8 + samples.byteLength + directory.length;
  for (const [i, [tag, values]] of tags.entries()) {
    const at = 2 + 12 * i;
    directory.writeUInt16LE(tag, at);
    directory.writeUInt16LE(TYPES[values.BYTES_PER_ELEMENT], at + 2);
    directory.writeUInt32LE(values.length, at + 4);
    const bytes = Buffer.from(values.buffer, values.byteOffset, values.byteLength);
    if (bytes.length <= 4) {
      bytes.copy(directory, at + 8);
    } else {
      directory.writeUInt32LE(end, at + 8);
      outside.push(bytes, Buffer.alloc(bytes.length % 2));
      end += bytes.length + (bytes.length % 2);
    }
  }
  return Buffer.concat([header, Buffer.from(samples.buffer, samples.byteOffset, samples.byteLength), directory, ...outside]);
}

/** Size, description and samples of a TIFF. Fails unless it has one page of uncompressed 32-bit floats. */
export function readFloatTiff(file) {
  const bytes = Buffer.from(file);
  assert.equal(bytes.toString("latin1", 0, 4), "II*\0");
  const directory = bytes.readUInt32LE(4);
  const count = bytes.readUInt16LE(directory);
  const tags = new Map();
  for (let at = directory + 2; at < directory + 2 + 12 * count; at += 12) {
    const [tag, type, length] = [bytes.readUInt16LE(at), bytes.readUInt16LE(at + 2), bytes.readUInt32LE(at + 4)];
    const size = { 2: 1, 3: 2, 4: 4 }[type];
    if (!size) continue;
    const from = length * size <= 4 ? at + 8 : bytes.readUInt32LE(at + 8);
    tags.set(tag, Array.from({ length }, (_, i) => bytes.readUIntLE(from + i * size, size)));
  }
  assert.equal(bytes.readUInt32LE(directory + 2 + 12 * count), 0, "one page");
  const value = (tag) => tags.get(tag)[0];
  const channels = value(CHANNELS);
  assert.equal(value(COMPRESSION), 1);
  assert.deepEqual(tags.get(BITS), Array(channels).fill(32));
  assert.deepEqual(tags.get(FORMAT), Array(channels).fill(FLOAT));
  const strips = tags.get(STRIPS).map((from, i) => bytes.subarray(from, from + tags.get(STRIP_BYTES)[i]));
  const body = Buffer.concat(strips);
  return {
    width: value(WIDTH),
    height: value(HEIGHT),
    channels,
    description: Buffer.from(tags.get(DESCRIPTION)).toString().replace(/\0$/, ""),
    samples: Float32Array.from({ length: body.length / 4 }, (_, i) => body.readFloatLE(4 * i)),
  };
}
