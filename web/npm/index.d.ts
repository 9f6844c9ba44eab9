/** A model in the package: the kind of noise that it was trained on. */
export type ModelName = "gauss5_50" | "gauss5_50_fast" | "gauss25" | "poisson30" | "poisson5_50" | "gauss5_50_gray";

export const MODELS: readonly ModelName[];

/** The instructions that the network runs on. */
export type Level = "simd128" | "relaxed-simd";

export interface LoadOptions {
  /** A model of the package, "gauss5_50" by default; with `weights`, what errors call them. */
  model?: ModelName | (string & {});
  /** Weights of your own: safetensors or ONNX as n2n writes them, `.pth` or `.pdparams`. */
  weights?: Uint8Array;
  /** Workers; by default as many as there are cores, at most 8. */
  threads?: number;
  /** The most pixels that a worker computes at once, 589,824 by default; fewer take less memory. */
  pixels?: number;
  /** By default the fastest that there is. */
  level?: Level;
}

export interface Progress {
  /** The share of the page that is done, 0 to 1. */
  fraction: number;
  /** The page, counted from 1. */
  page: number;
  /** Seconds that are left for the page, once that is known. */
  secondsLeft?: number;
}

export interface DenoiseOptions {
  /** The share of what the network removes that is removed: 0 nothing, 1 (the default) all. */
  strength?: number;
  onProgress?: (progress: Progress) => void;
  /** Stops the work, which then fails with {@link Cancelled}. */
  signal?: AbortSignal;
}

/** Pixels in RGBA, of 8 bits: an `ImageData` is one. */
export interface Pixels {
  width: number;
  height: number;
  data: Uint8Array | Uint8ClampedArray;
}

/** An `ImageData` if an `ImageData` was given. */
export type Denoised<P extends Pixels> = P extends { colorSpace: unknown }
  ? P
  : { width: number; height: number; data: Uint8ClampedArray };

export interface DenoisedFile {
  /** The file, in its format and depth, with its metadata. */
  bytes: Uint8Array;
  /** What the file held that the result does not, and warnings, a sentence each. */
  notes: string[];
}

/** A network with workers. Calls wait for each other; each uses all workers. */
export class Model {
  private constructor();
  readonly level: Level;
  denoise<P extends Pixels>(pixels: P, options?: DenoiseOptions): Promise<Denoised<P>>;
  /** PNG, JPEG, WebP, TIFF, BMP, PNM or OpenEXR; `name` is what errors call it. */
  denoiseFile(bytes: Uint8Array, options?: DenoiseOptions & { name?: string }): Promise<DenoisedFile>;
  /** Ends the workers; a script in Node ends only when they have. */
  close(): void;
}

/** Loads a model. Workers start when there is something to do. */
export function load(options?: LoadOptions): Promise<Model>;

/** The fastest level that this engine runs. */
export function detectLevel(): Level;

/** An error whose message says what happened and what to do. */
export class DenoiseError extends Error {}

/** The work was cancelled through its `signal`. */
export class Cancelled extends DenoiseError {}
