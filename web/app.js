// The page: a queue of pictures, the settings, and what is shown.

import { Canceled, Engine, grayCompanion, grayModel } from "./engine.js";
import { Fit } from "./fit.js";
import * as platform from "./platform.js";
import { Viewer } from "./viewer.js";

const $ = (id) => document.getElementById(id);
const TYPES = {
  png: "image/png",
  jpg: "image/jpeg",
  jpeg: "image/jpeg",
  webp: "image/webp",
  tif: "image/tiff",
  tiff: "image/tiff",
  bmp: "image/bmp",
};
const READS = "Choose a picture in PNG, JPEG, WebP, TIFF, BMP, PNM or OpenEXR.";
const SMALLER = "Choose a smaller picture, or use the program, n2n predict, which takes larger ones.";
const DAMAGED = "If the file is incomplete or damaged, download or copy it again.";
const MODEL = "Choose a model that n2n trained or exported, or another kind of noise.";

// Models for any level of noise, RGB and gray. If one is chosen, fitting tries the other as a starting point, too.
const GENERAL = [
  ["gauss5_50", "poisson5_50"],
  ["gauss5_50_gray", "poisson5_50_gray"],
];

const viewer = new Viewer();
const items = [];
const models = new Map();
const fitted = new Map();
let engine;
// Previews have an instance of their own, so that looking at one picture does not wait for another.
let looker;
let ownModel;
let shown;
let isRunning = false;

try {
  engine = new Engine(platform);
  looker = new Engine(platform, { threads: 0 });
  const cores = platform.cores();
  $("about").textContent = `Runs on ${cores === 1 ? "one core" : `${cores} cores`} with ${engine.level}.`;
} catch (error) {
  alertUser(error.message);
  $("files").disabled = true;
}

function alertUser(message) {
  $("alert").textContent = message;
  $("alert").hidden = !message;
}

// Settings

$("strength").oninput = () => {
  $("strength-value").textContent = `${$("strength").value} %`;
};

$("model").onchange = () => {
  const isOwn = $("model").value === "file";
  $("weights").hidden = !isOwn;
  if (isOwn && !ownModel) $("weights").click();
};

$("weights").onchange = async () => {
  const [file] = $("weights").files;
  ownModel = file && { name: file.name, weights: new Uint8Array(await file.arrayBuffer()) };
};

/** The model to denoise with, as the engine takes it. */
function chosenModel() {
  const name = $("model").value;
  if (name === "file" && !ownModel) {
    throw new Error("Choose the weight file of your model first, or another kind of noise.");
  }
  const own = name === "file" ? ownModel : fitted.get(name);
  const gray = own ? grayCompanion(own.weights) : grayModel(name);
  return {
    takesGray: Boolean(gray),
    weightsFor: async (isGray) => (gray && isGray ? shipped(gray) : (own ?? shipped(name))),
  };
}

async function shipped(name) {
  if (!models.has(name)) {
    try {
      models.set(name, { name, weights: await platform.shippedWeights(name) });
    } catch (error) {
      throw new Error(`The model could not be loaded; check the connection and try again. (${error.message})`);
    }
  }
  return models.get(name);
}

// Fitting

new Fit(async (options) => {
  const item = shown;
  const bytes = await readFile(item.file);
  const chosen = await chosenModel().weightsFor(item.info?.isGray);
  const others = (GENERAL.find((names) => names.includes(chosen.name)) ?? []).filter((name) => name !== chosen.name);
  const starts = [chosen, ...(await Promise.all(others.map(shipped)))];
  const result = await engine.adapt(starts, bytes, item.file.name, options);
  if (result.isNew) {
    result.name = `${stemOf(item.file.name)}_model.safetensors`;
    offer(`Fitted to ${item.file.name}`, { name: result.name, weights: result.bytes });
    if (items.includes(item)) again(item);
  }
  return result;
});

/** Adds a fitted model to the choices, and chooses it. */
function offer(label, model) {
  const value = `fitted-${fitted.size}`;
  fitted.set(value, model);
  $("model").insertBefore(new Option(label, value), $("model").lastElementChild);
  $("model").value = value;
  $("model").onchange();
}

// The queue

function add(files) {
  for (const file of files) {
    const element = $("item").content.firstElementChild.cloneNode(true);
    const item = { file, element, state: "waiting" };
    const find = (name) => element.querySelector(`.${name}`);
    find("name").textContent = file.name;
    find("show").onclick = () => show(item);
    find("cancel").onclick = () => cancel(item);
    find("remove").onclick = () => remove(item);
    items.push(item);
    $("queue").append(element);
    update(item);
  }
  run();
}

async function run() {
  if (isRunning || !engine) return;
  isRunning = true;
  for (let item; (item = items.find(({ state }) => state === "waiting")); ) {
    item.state = "running";
    item.controller = new AbortController();
    item.progress = undefined;
    update(item);
    const tick = setInterval(() => update(item), 250);
    const began = performance.now();
    try {
      await denoise(item);
      item.seconds = (performance.now() - began) / 1000;
      item.state = "done";
      say(`${item.file.name} has been denoised.`);
    } catch (error) {
      item.state = error instanceof Canceled ? "canceled" : "failed";
      item.error = error.isAboutData ? advised(error.message, item.file.name) : error.message;
      say(`${item.file.name}: ${item.error}`);
    } finally {
      clearInterval(tick);
    }
    update(item);
    if (shown === item && item.state === "done") showResult(item).catch(cannotShow(item));
  }
  isRunning = false;
}

async function denoise(item) {
  const { file, controller } = item;
  const signal = controller.signal;
  const bytes = await readFile(file);
  item.info = await engine.open(bytes, file.name, true);
  if (signal.aborted) throw new Canceled();
  update(item);
  if (!shown || shown.state !== "running") show(item);
  const model = chosenModel();
  const strength = Number($("strength").value) / 100;
  const onProgress = (progress) => {
    item.progress = { ...progress, at: performance.now() };
    update(item);
  };
  const result = await engine.denoise(model, { strength, signal, onProgress });
  item.notes = result.notes;
  item.result = new Blob([result.bytes], { type: TYPES[item.info.format] ?? "application/octet-stream" });
  if (item.url) URL.revokeObjectURL(item.url);
  item.url = URL.createObjectURL(item.result);
}

/** An error about a file, with what to do. */
function advised(message, name) {
  if (ownModel && message.includes(ownModel.name)) return `${message}. ${MODEL}`;
  const reason = message.replace(name, "");
  // A raw photograph.
  if (reason.includes("n2n predict")) return `${message}.`;
  if (reason.includes("limit")) return `${message}. ${SMALLER}`;
  return `${message}. ${/it is not a|support/.test(reason) ? READS : DAMAGED}`;
}

async function readFile(file) {
  try {
    return new Uint8Array(await file.arrayBuffer());
  } catch {
    // Browsers refuse files of about two gigabytes or more, with the same error as for a file that is gone.
    const advice = file.size > 1e9 ? SMALLER : "Check that the file is still there, and choose it again.";
    throw new Error(`${file.name} (${size(file.size)}) cannot be read. ${advice}`);
  }
}

function cancel(item) {
  if (item.state === "waiting") item.state = "canceled";
  item.controller?.abort();
  update(item);
}

function remove(item) {
  cancel(item);
  items.splice(items.indexOf(item), 1);
  item.element.remove();
  if (item.url) URL.revokeObjectURL(item.url);
  if (shown === item) {
    shown = undefined;
    $("viewer").hidden = true;
    $("fit").hidden = true;
    viewer.clear();
  }
  updateActions();
}

function stemOf(name) {
  return name.replace(/(?<=.)\.[^.]*$/, "");
}

/** `photo.jpg` becomes `photo_denoise.jpg`, as the program names it. */
function resultName({ file, info }) {
  const [, stem, extension] = /^(.*?)(?:\.([^.]*))?$/.exec(file.name);
  return `${stem}_denoise.${extension || info.format}`;
}

function update(item) {
  const { element, state, info, progress } = item;
  const find = (name) => element.querySelector(`.${name}`);
  element.className = [state, item === shown ? "shown" : ""].join(" ");
  find("what").textContent = info ? describe(info) : size(item.file.size);
  const bar = element.querySelector("progress");
  bar.hidden = state !== "running" && state !== "done";
  bar.setAttribute("aria-label", `Progress of ${item.file.name}`);
  let text = { waiting: "Waiting", canceled: "Canceled", failed: item.error }[state] ?? "";
  if (state === "running") {
    const elapsed = progress ? (performance.now() - progress.at) / 1000 : 0;
    if (progress?.secondsLeft) {
      const left = Math.max(progress.secondsLeft - elapsed, 0);
      const share = Math.min(elapsed / progress.secondsLeft, 0.95);
      bar.value = progress.fraction + (1 - progress.fraction) * share;
      text = `${Math.floor(100 * bar.value)} %, ${duration(left)} left`;
    } else if (progress?.fraction === 1) {
      bar.value = 1;
      text = "Writing the file …";
    } else {
      bar.removeAttribute("value");
      text = info ? "Denoising …" : "Reading …";
    }
    if (progress?.page > 1) text += `, page ${progress.page}`;
  } else if (state === "done") {
    bar.value = 1;
    const notes = (item.notes ?? []).map((note) => note[0].toUpperCase() + note.slice(1));
    text = [`Done in ${duration(item.seconds)}`, ...notes].join(". ");
  }
  if (find("state").textContent !== text) find("state").textContent = text;
  find("cancel").hidden = state !== "running" && state !== "waiting";
  find("remove").hidden = state === "running";
  const download = find("download");
  download.hidden = state !== "done";
  if (state === "done") {
    download.href = item.url;
    download.download = resultName(item);
    download.setAttribute("aria-label", `Download ${resultName(item)}`);
  }
  updateActions();
}

function updateActions() {
  const done = items.filter(({ state }) => state === "done");
  $("actions").hidden = items.length < 2;
  $("download-all").disabled = done.length === 0;
  $("again").disabled = !shown || shown.state === "running" || shown.state === "waiting";
}

function describe({ width, height, channels, bits, format }) {
  const kind = { 1: "gray", 2: "gray, transparent", 3: "RGB", 4: "RGB, transparent" }[channels] ?? `${channels} channels`;
  const depth = bits < 0 ? `${-bits}-bit float` : `${bits}-bit`;
  return `${width} × ${height}, ${depth} ${kind} ${format.toUpperCase()}`;
}

function size(bytes) {
  if (bytes < 1e6) return `${Math.ceil(bytes / 1e3)} kB`;
  return bytes < 1e9 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(1)} GB`;
}

function duration(seconds) {
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  return seconds < 100 ? `${Math.round(seconds)} s` : `${Math.round(seconds / 60)} min`;
}

function say(message) {
  $("status").textContent = message;
}

// What is shown

// Two canvases of four bytes a pixel; phones have little room for them.
const SHOWN_PIXELS = (navigator.deviceMemory ?? 8) < 4 || matchMedia("(pointer: coarse)").matches ? 1 << 22 : 1 << 24;

const cannotShow = (item) => (error) => {
  if (shown === item && !(error instanceof Canceled)) alertUser(`${item.file.name} cannot be shown. ${error.message}`);
};

async function show(item) {
  const before = shown;
  shown = item;
  if (before && items.includes(before)) update(before);
  update(item);
  if (item.state === "failed") return;
  alertUser("");
  try {
    item.preview ??= await looker.preview(await readFile(item.file), item.file.name, SHOWN_PIXELS);
    if (shown !== item) return;
    $("viewer").hidden = false;
    $("fit").hidden = !engine;
    $("title").textContent = item.file.name;
    viewer.show(item.preview, item.info?.width ?? item.preview.width);
    await showResult(item);
  } catch (error) {
    cannotShow(item)(error);
  } finally {
    // One picture's pixels are enough in memory.
    if (shown !== item) item.preview = undefined;
  }
}

async function showResult(item) {
  if (!item.result || !item.preview) return;
  const bytes = new Uint8Array(await item.result.arrayBuffer());
  const after = await looker.preview(bytes, item.file.name, SHOWN_PIXELS, item.preview.bounds);
  if (shown === item) viewer.showAfter(after);
}

// Choosing

$("files").onchange = () => {
  if (engine) add($("files").files);
  $("files").value = "";
};

for (const name of ["dragenter", "dragover"]) {
  addEventListener(name, (event) => {
    event.preventDefault();
    $("drop").classList.add("over");
  });
}
addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) $("drop").classList.remove("over");
});
addEventListener("drop", (event) => {
  event.preventDefault();
  $("drop").classList.remove("over");
  if (engine) add(event.dataTransfer.files);
});
addEventListener("paste", (event) => {
  if (engine && event.clipboardData?.files.length) add(event.clipboardData.files);
});

function again(item) {
  if (item.state === "running" || item.state === "waiting") return;
  item.state = "waiting";
  if (item === shown) viewer.showAfter(undefined);
  update(item);
  run();
}

$("again").onclick = () => again(shown);
$("download-all").onclick = () => {
  for (const link of document.querySelectorAll("#queue .done .download")) link.click();
};
$("clear").onclick = () => [...items].forEach(remove);

// Offline: only from a server, and only where that is allowed.
if (navigator.serviceWorker && location.protocol.startsWith("http")) {
  navigator.serviceWorker.register("sw.js").catch(() => {});
}
