import { loadOn } from "./model.js";
import * as platform from "./platform.node.js";

export * from "./model.js";
export const load = loadOn(platform);
