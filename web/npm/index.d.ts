/** The name of a shipped model, after the noise that it was trained on. */
export type ModelName =
  | "gauss5_50"
  | "gauss5_50_fast"
  | "gauss25"
  | "poisson30"
  | "poisson5_50"
  | "gauss5_50_gray"
  | "poisson5_50_gray";

export const MODELS: readonly ModelName[];

/** The WebAssembly instructions that the network uses. */
export type Level = "simd128" | "relaxed-simd";

export interface LoadOptions {
  /** A shipped model, "gauss5_50" by default. If `weights` are given, the name for them in error messages. */
  model?: ModelName | (string & {});
  /** Weights of your own: safetensors or ONNX as n2n writes them, `.pth` or `.pdparams`. */
  weights?: Uint8Array;
  /** Number of workers; by default one per core, at most 8. */
  threads?: number;
  /** Maximum number of pixels that a worker computes at once, 589,824 by default; fewer take less memory. */
  pixels?: number;
  /** The instructions to use; by default, the fastest that the engine supports. */
  level?: Level;
}

export interface Progress {
  /** The fraction of the page that is done, 0 to 1. */
  fraction: number;
  /** The page, counted from 1. */
  page: number;
  /** Estimated seconds left for the page, once known. */
  secondsLeft?: number;
}

export interface DenoiseOptions {
  /** The fraction of the network's change that is applied: 0 for nothing, 1 (the default) for all of it. */
  strength?: number;
  onProgress?: (progress: Progress) => void;
  /** Cancels the call, which then rejects with {@link Canceled}. */
  signal?: AbortSignal;
}

/** 8-bit RGBA pixels, such as an `ImageData`. */
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
  /** Notes on anything in the file that the result could not keep, and warnings; one line each. */
  notes: string[];
}

/** A network and its workers. Calls are queued; each uses all workers. */
export class Model {
  private constructor();
  readonly level: Level;
  denoise<P extends Pixels>(pixels: P, options?: DenoiseOptions): Promise<Denoised<P>>;
  /** PNG, JPEG, WebP, TIFF, BMP, PNM or OpenEXR; `name` identifies it in error messages. */
  denoiseFile(bytes: Uint8Array, options?: DenoiseOptions & { name?: string }): Promise<DenoisedFile>;
  /** Terminates the workers. A Node script does not exit before that. */
  close(): void;
}

/** Loads a model. Workers start with the first call. */
export function load(options?: LoadOptions): Promise<Model>;

/** The fastest level that this engine runs. */
export function detectLevel(): Level;

/** An error whose message says what happened and what to do. */
export class DenoiseError extends Error {}

/** The work was canceled through its `signal`. */
export class Canceled extends DenoiseError {}
