// Keeps the page for use without a network. build.sh fills in the version, a hash of all files.
const VERSION = "@VERSION@";
const SHELL = [
  "./",
  "app.js",
  "engine.js",
  "fit.js",
  "icon.svg",
  "manifest.webmanifest",
  "platform.js",
  "style.css",
  "viewer.js",
  "worker.js",
];

addEventListener("install", (event) => {
  event.waitUntil(caches.open(VERSION).then((cache) => cache.addAll(SHELL)));
  skipWaiting();
});

addEventListener("activate", (event) => {
  const old = async () => {
    for (const name of await caches.keys()) if (name !== VERSION) await caches.delete(name);
    await clients.claim();
  };
  event.waitUntil(old());
});

// The program and the models are kept once they have been asked for.
addEventListener("fetch", (event) => {
  const { request } = event;
  if (request.method !== "GET" || new URL(request.url).origin !== location.origin) return;
  const answer = async () => {
    const cache = await caches.open(VERSION);
    const kept = await cache.match(request, { ignoreSearch: true });
    if (kept) return kept;
    const response = await fetch(request);
    if (response.ok) await cache.put(request, response.clone());
    return response;
  };
  event.respondWith(answer());
});
