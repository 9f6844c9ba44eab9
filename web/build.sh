#!/usr/bin/env bash
# Builds the page (target/web, for any static server) and the package (target/npm/n2n-denoise).
# Needs wasm-bindgen, of the version in Cargo.lock.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

page=target/web package=target/npm/n2n-denoise
rm -rf "$page" "$package"
mkdir -p "$page/pkg" "$page/models" "$package"

for level in ${LEVELS:-simd128 relaxed-simd}; do
    features=()
    if test "$level" = relaxed-simd; then
        features=(--features relaxed-simd)
    fi
    cargo build --release --locked --package n2n-web --target wasm32-unknown-unknown "${features[@]}"
    wasm-bindgen --target web --remove-name-section --out-dir "$page/pkg/$level" \
        target/wasm32-unknown-unknown/release/n2n_web.wasm
    gzip -9 --no-name "$page/pkg/$level/n2n_web_bg.wasm"
done
cp models/*.safetensors "$page/models"
cp web/*.js web/*.html web/*.css web/*.svg web/*.webmanifest "$page"
version=$(cd "$page" && find . -type f | sort | xargs cat | sha256sum | cut -c1-16)
sed -i "s/@VERSION@/$version/" "$page/sw.js"

cp -r "$page"/{engine,platform,worker}.js "$page/pkg" "$page/models" "$package"
rm -f "$package"/pkg/*/*.d.ts
cp web/npm/* LICENSE-* "$package"
du -ah --apparent-size "$page" | sort -k2
