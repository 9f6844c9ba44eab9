// Two pictures on top of each other with a divider, to zoom and to move.

const $ = (id) => document.getElementById(id);
const MOST_ZOOM = 16;

export class Viewer {
  #before;
  #after;
  /** Pixels of the picture per pixel of the canvas. */
  #factor = 1;
  #scale = 1;
  #x = 0;
  #y = 0;
  #isFit = true;
  #pointers = new Map();
  #drag;

  constructor() {
    const stage = $("stage");
    $("split").oninput = () => this.#place();
    for (const button of document.querySelectorAll("[data-zoom]")) {
      button.onclick = () => this.#command(button.dataset.zoom);
    }
    stage.onkeydown = (event) => {
      const command = { "+": "in", "=": "in", "-": "out", 0: "fit", 1: "one" }[event.key];
      const step = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
      if (!command && !step) return;
      event.preventDefault();
      if (command) this.#command(command);
      else this.#move(step[0] * 60, step[1] * 60);
    };
    stage.addEventListener(
      "wheel",
      (event) => {
        event.preventDefault();
        this.#zoom(this.#scale * Math.exp(-event.deltaY / 400), this.#at(event));
      },
      { passive: false },
    );
    stage.onpointerdown = (event) => this.#down(event);
    stage.onpointermove = (event) => this.#moved(event);
    stage.onpointerup = stage.onpointercancel = (event) => {
      this.#pointers.delete(event.pointerId);
      this.#drag = undefined;
    };
    new ResizeObserver(() => this.#resize()).observe(stage);
  }

  /** Shows a picture that is not yet denoised; `width` is that of the whole picture. */
  show(preview, width) {
    this.#before = draw(preview);
    this.#after = undefined;
    this.#factor = Math.max(1, Math.round(width / preview.width));
    $("before").replaceChildren(this.#before);
    $("after").replaceChildren();
    this.#fit();
  }

  /** Shows the denoised picture, or none. */
  showAfter(preview) {
    this.#after = preview && draw(preview);
    $("after").replaceChildren(...(this.#after ? [this.#after] : []));
    this.#place();
  }

  clear() {
    this.#before = this.#after = undefined;
    $("before").replaceChildren();
    $("after").replaceChildren();
  }

  #command(command) {
    if (command === "fit") this.#fit();
    else if (command === "one") this.#zoom(this.#factor);
    else this.#zoom(this.#scale * (command === "in" ? 1.5 : 1 / 1.5));
  }

  #size() {
    const { clientWidth: width, clientHeight: height } = $("stage");
    return { width, height };
  }

  #smallest() {
    const { width, height } = this.#size();
    return Math.min(width / this.#before.width, height / this.#before.height);
  }

  #fit() {
    if (!this.#before) return;
    this.#isFit = true;
    this.#scale = Math.min(this.#smallest(), MOST_ZOOM);
    this.#place();
  }

  #resize() {
    if (this.#isFit) this.#fit();
    else this.#place();
  }

  /** Zooms about a point of the stage, by default its middle. */
  #zoom(scale, [x, y] = [this.#size().width / 2, this.#size().height / 2]) {
    if (!this.#before) return;
    const least = Math.min(this.#smallest(), this.#factor);
    const next = Math.min(Math.max(scale, least), MOST_ZOOM * this.#factor);
    this.#x = x - ((x - this.#x) * next) / this.#scale;
    this.#y = y - ((y - this.#y) * next) / this.#scale;
    this.#scale = next;
    this.#isFit = false;
    this.#place();
  }

  #move(dx, dy) {
    this.#x += dx;
    this.#y += dy;
    this.#isFit = false;
    this.#place();
  }

  #place() {
    if (!this.#before) return;
    const { width, height } = this.#size();
    const keep = (offset, length, room) =>
      length <= room ? (room - length) / 2 : Math.min(0, Math.max(room - length, offset));
    this.#x = keep(this.#x, this.#before.width * this.#scale, width);
    this.#y = keep(this.#y, this.#before.height * this.#scale, height);
    for (const canvas of [this.#before, this.#after]) {
      if (!canvas) continue;
      canvas.style.transform = `translate(${this.#x}px, ${this.#y}px) scale(${this.#scale})`;
      canvas.classList.toggle("large", this.#scale >= 3);
    }
    const split = Number($("split").value);
    $("after").style.clipPath = `inset(0 0 0 ${split}%)`;
    $("divider").style.left = `${split}%`;
    for (const id of ["divider", "tag-before", "tag-after"]) $(id).hidden = !this.#after;
    $("split").disabled = !this.#after;
    $("zoom").textContent = `${Math.round((100 * this.#scale) / this.#factor)} %`;
  }

  #at(event) {
    const { left, top } = $("stage").getBoundingClientRect();
    return [event.clientX - left, event.clientY - top];
  }

  #down(event) {
    if (event.button > 0) return;
    $("stage").setPointerCapture(event.pointerId);
    this.#pointers.set(event.pointerId, this.#at(event));
    this.#drag = event.target.closest("#divider") ? "divider" : "picture";
  }

  #moved(event) {
    const from = this.#pointers.get(event.pointerId);
    if (!from) return;
    const to = this.#at(event);
    this.#pointers.set(event.pointerId, to);
    if (this.#pointers.size === 2) {
      const [other] = [...this.#pointers].filter(([id]) => id !== event.pointerId).map(([, at]) => at);
      const distance = (at) => Math.max(Math.hypot(at[0] - other[0], at[1] - other[1]), 1);
      const middle = [(to[0] + other[0]) / 2, (to[1] + other[1]) / 2];
      this.#zoom((this.#scale * distance(to)) / distance(from), middle);
      this.#move((to[0] - from[0]) / 2, (to[1] - from[1]) / 2);
    } else if (this.#drag === "divider") {
      $("split").value = (100 * to[0]) / this.#size().width;
      this.#place();
    } else if (this.#drag === "picture") {
      this.#move(to[0] - from[0], to[1] - from[1]);
    }
  }
}

/** A canvas with the picture turned upright. */
function draw({ width, height, rgba, orientation }) {
  const flat = document.createElement("canvas");
  [flat.width, flat.height] = [width, height];
  const pixels = new Uint8ClampedArray(rgba.buffer, rgba.byteOffset, rgba.length);
  flat.getContext("2d").putImageData(new ImageData(pixels, width, height), 0, 0);
  // Where the axes go, as the orientations of Exif say.
  const turns = {
    2: [-1, 0, 0, 1, width, 0],
    3: [-1, 0, 0, -1, width, height],
    4: [1, 0, 0, -1, 0, height],
    5: [0, 1, 1, 0, 0, 0],
    6: [0, 1, -1, 0, height, 0],
    7: [0, -1, -1, 0, height, width],
    8: [0, -1, 1, 0, 0, width],
  };
  if (!turns[orientation]) return flat;
  const upright = document.createElement("canvas");
  [upright.width, upright.height] = orientation > 4 ? [height, width] : [width, height];
  const context = upright.getContext("2d");
  context.setTransform(...turns[orientation]);
  context.drawImage(flat, 0, 0);
  return upright;
}
