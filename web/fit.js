// Fitting a model to the picture that is shown: the controls, and the learning curve.

import { Canceled } from "./engine.js";

const $ = (id) => document.getElementById(id);

export class Fit {
  #train;
  #controller;
  #url;

  /**
   * @param {(options: {seconds: number, signal: AbortSignal, onEvent: Function}) => Promise<{bytes: Uint8Array,
   *   summary: string, isNew: boolean, name?: string}>} train fits the model
   */
  constructor(train) {
    this.#train = train;
    $("fit-start").onclick = () => this.#run();
    $("fit-cancel").onclick = () => this.#controller.abort();
  }

  async #run() {
    const seconds = Number($("fit-time").value);
    const points = [];
    this.#controller = new AbortController();
    this.#show(true);
    $("fit-progress").removeAttribute("value");
    draw(points, seconds);
    say("Reading the picture and comparing models …");
    const onEvent = ({ passed, loss }) => {
      $("fit-progress").value = passed;
      if (loss === undefined) return;
      points.push([passed, loss]);
      draw(points, seconds);
      say(passed < 1 ? "Training …" : "Comparing the fitted model with the original …");
    };
    try {
      const fitted = await this.#train({ seconds, signal: this.#controller.signal, onEvent });
      $("fit-progress").value = 1;
      if (fitted.isNew) {
        this.#offer(fitted);
        say(`Done: ${fitted.summary}. The picture is now being denoised again with the fitted model.`);
      } else {
        say(`Done: ${fitted.summary}.`);
      }
    } catch (error) {
      say(error instanceof Canceled ? "Canceled. The model is unchanged." : error.message);
    } finally {
      this.#show(false);
      $("fit-progress").hidden = true;
    }
  }

  #show(isRunning) {
    $("fit-start").hidden = $("fit-time").disabled = isRunning;
    $("fit-cancel").hidden = !isRunning;
    $("fit-progress").hidden = false;
    $("fit-run").hidden = false;
    // The focus stays where the other button was.
    $(isRunning ? "fit-cancel" : "fit-start").focus();
    if (isRunning) $("fit-download").hidden = true;
  }

  #offer({ bytes, name }) {
    if (this.#url) URL.revokeObjectURL(this.#url);
    this.#url = URL.createObjectURL(new Blob([bytes], { type: "application/octet-stream" }));
    $("fit-download").href = this.#url;
    $("fit-download").download = name;
    $("fit-download").hidden = false;
  }
}

function say(message) {
  if ($("fit-said").textContent !== message) $("fit-said").textContent = message;
}

/** Draws the losses, relative to the first one, over the time. */
function draw(points, seconds) {
  const [left, right, top, bottom] = [68, 632, 12, 172];
  const losses = points.map(([, loss]) => (100 * loss) / points[0][1]);
  const high = Math.max(101, ...losses);
  const low = Math.min(99, ...losses);
  const place = (loss, i) => {
    const x = left + (right - left) * points[i][0];
    const y = bottom - ((bottom - top) * (loss - low)) / (high - low);
    return `${x.toFixed(1)},${y.toFixed(1)}`;
  };
  $("fit-line").setAttribute("points", losses.map(place).join(" "));
  $("fit-top").textContent = `${high.toFixed(1)} %`;
  $("fit-bottom").textContent = `${low.toFixed(1)} %`;
  $("fit-end").textContent = `${seconds} s`;
  const said = losses.length
    ? `Learning curve: the held-out loss is ${losses.at(-1).toFixed(1)} % of the loss at the start.`
    : "Learning curve: not measured yet.";
  $("fit-curve").setAttribute("aria-label", said);
}
