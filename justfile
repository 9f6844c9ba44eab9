# The recipes of the project: `just` lists them. CONTRIBUTING.md says what they need.

# Python with the packages of tests/golden/requirements.txt; `just python=… <recipe>` takes another.
python := ".venv/bin/python"

# List the recipes
@default:
    just --list --unsorted

# Everything a change must pass
check: format lint docs deny package test platforms

# Is the code formatted?
format:
    cargo fmt --all --check

# No warning from the compiler or clippy
lint:
    cargo clippy --workspace --all-targets --all-features --locked -- --deny warnings

# No warning from the documentation
docs:
    RUSTDOCFLAGS="--deny warnings" cargo doc --workspace --no-deps --locked

# No dependency that deny.toml refuses
deny:
    cargo deny --locked check --hide-inclusion-graph bans licenses sources

# Does every crate have all that it needs to be published? (Without building it: `test` does.)
package:
    cargo package --workspace --no-verify --allow-dirty --locked --quiet

# Does everything compile for Windows and macOS? Takes `rustup target add` of both
platforms:
    cargo check --workspace --all-features --locked --target x86_64-pc-windows-gnu
    cargo check --workspace --all-features --locked --target aarch64-apple-darwin

# Every test, and those of the program with a GPU
test:
    cargo test --release --workspace
    cargo test --release --package n2n-cli --features gpu --test device

# The Python package: its wheel, installed into a new environment without Rust, and tested there
python-test:
    cargo build --release --locked --bin n2n
    rm -rf target/python target/wheels
    python3 -m venv target/python
    target/python/bin/python -m pip install --quiet --disable-pip-version-check \
        --require-hashes --requirement crates/n2n-python/requirements-dev.txt
    target/python/bin/maturin build --release --locked --manifest-path crates/n2n-python/Cargo.toml \
        --interpreter target/python/bin/python --out target/wheels
    target/python/bin/python -m pip install --quiet --disable-pip-version-check --no-deps target/wheels/n2n-*.whl
    cd crates/n2n-python/tests && for what in '--package n2n' typed.py; do \
        ../../../target/python/bin/python -m mypy --config-file ../pyproject.toml $what || exit; \
    done
    cd crates/n2n-python/tests && PATH=/usr/bin:/bin N2N_PROGRAM="$PWD/../../../target/release/n2n" \
        ../../../target/python/bin/python -m pytest --quiet --config-file ../pyproject.toml \
        --ignore-glob '/*/napari/*' . n2n

# The napari plugin, without a screen; after `just python-test`, in the environment it made
napari-test:
    target/python/bin/python -m pip install --quiet --disable-pip-version-check \
        --require-hashes --requirement crates/n2n-python/requirements-napari.txt
    cd crates/n2n-python/tests/napari && QT_QPA_PLATFORM=offscreen \
        ../../../../target/python/bin/python -m pytest --quiet --config-file ../../pyproject.toml -W ignore .

# Pin the newest versions of what the two recipes above take; takes uv
python-lock:
    cd crates/n2n-python && for of in dev napari; do \
        uv pip compile --quiet --generate-hashes --universal --python-version 3.11 --upgrade \
            requirements-$of.in --output-file requirements-$of.txt; \
    done

# The tests of the kernels on 64-bit ARM, emulated
test-aarch64:
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64 -L /usr/aarch64-linux-gnu" \
    cargo test --release --package n2n-kernels --target aarch64-unknown-linux-gnu

# The kernels' own tests in an interpreter that finds undefined behaviour; takes `rustup +nightly component add miri`
miri *arguments:
    # rayon's queues break the rules of stacked borrows, which are stricter than the language, and leak at the end.
    MIRIFLAGS="-Zmiri-tree-borrows -Zmiri-permissive-provenance -Zmiri-ignore-leaks" cargo +nightly miri test --package n2n-kernels --lib {{ arguments }}

# The program to hand out: as fast as the release, without the tables for debuggers
dist *flags:
    cargo build --profile dist --bin n2n --locked {{ flags }}

# The tests of the kernels on WebAssembly, with SIMD128 and relaxed SIMD, in Node
test-wasm:
    CARGO_TARGET_WASM32_WASIP1_RUNNER="node --no-warnings --experimental-wasm-relaxed-simd {{ justfile_directory() }}/tests/wasi.mjs" \
    cargo test --release --package n2n-kernels --features relaxed-simd --target wasm32-wasip1

# Build the page (target/web) and the npm package (target/npm); takes wasm-bindgen as of Cargo.lock
web:
    web/build.sh

# Drive the page in headless Chromium, and the package in Node; after `just web`
test-web *flags:
    cargo build --release --locked --bin n2n
    cd web/test && npm ci --silent --no-audit --no-fund && node --test {{ flags }} .

# From noisy images to denoised pictures in one go: test_tipc/README.md
chain mode="lite_train_lite_infer":
    bash test_tipc/prepare.sh test_tipc/configs/N2N/train_infer_rust.txt {{ mode }}
    bash test_tipc/test_train_inference_rust.sh test_tipc/configs/N2N/train_infer_rust.txt {{ mode }}

# Fuzz what reads files from outside: image, safetensors, pth, pdparams, onnx
fuzz target="image" seconds="600":
    mkdir -p fuzz/corpus/{{ target }}
    cp -n {{ if target == "image" { "tests/golden/images/*.*" } else { "tests/golden/weights/*.*" } }} fuzz/corpus/{{ target }}
    cd fuzz && RUSTC_BOOTSTRAP=1 cargo fuzz run --sanitizer none {{ target }} -- \
        -rss_limit_mb=1024 -timeout=20 -max_total_time={{ seconds }}

# No dependency with a known vulnerability; fetches their database
audit:
    cargo deny --locked check advisories

# Make .venv, the Python of the recipes below
python:
    python3 -m venv .venv
    .venv/bin/python -m pip install --require-hashes --requirement tests/golden/requirements.txt

# Make every golden value and the demonstration's pictures again
golden:
    {{ python }} tests/golden/make_network.py
    {{ python }} tests/golden/make_eval.py
    {{ python }} tests/golden/numpy_eval.py
    {{ python }} tests/golden/weights.py
    {{ python }} tests/golden/images/make.py
    {{ python }} tests/golden/images/make_formats.py
    {{ python }} tests/golden/images/make_tiff.py
    {{ python }} docs/demo/make.py

# Hold `n2n val` against PyTorch; flags for both, as --noisetype gauss25 --sets BSD300 --repeats 1
parity model val_dirs *flags:
    cargo run --release --bin n2n -- val --model-path '{{ model }}' --val-dirs '{{ val_dirs }}' --csv target/parity.csv {{ flags }}
    {{ python }} tests/golden/eval_torch.py --model '{{ model }}' --val-dirs '{{ val_dirs }}' --against target/parity.csv {{ flags }}

# What each part of the fast recipe buys, 15 minutes each; IMAGES: a folder of clean training images
ablation images *flags: release
    {{ python }} bench/train/compare.py recipe '{{ images }}' {{ flags }}

# What noise that is added once costs
frozen images *flags: release
    {{ python }} bench/train/compare.py frozen '{{ images }}' {{ flags }}

# What training on real camera noise gains; FOLDER: *_real* images beside their *_mean*
polyu folder *flags: release
    {{ python }} bench/train/compare.py polyu '{{ folder }}' {{ flags }}

# 50 times SIGKILL at random moments of training
kills images *flags: release
    {{ python }} bench/train/endure.py kills '{{ images }}' {{ flags }}

# The memory of training over 2,000 steps
memory images *flags: release
    {{ python }} bench/train/endure.py memory '{{ images }}' {{ flags }}

[private]
release:
    cargo build --release

# Time every layer by itself, as a table with its share of the peak; arguments as `-- dec_conv1b`
bench-layers *arguments:
    cargo bench --package n2n --bench layers {{ arguments }}

# Time n2n beside other engines: bench/peers/README.md; flags as --quick
peers *flags: peers-python
    bench/peers/.venv/bin/python bench/peers/run.py {{ flags }}

# Make the Python of the other engines, as far as there are packages for this platform
peers-python:
    python3 -m venv bench/peers/.venv
    for engine in torch mnn ncnn onnxruntime openvino; do \
        bench/peers/.venv/bin/python -m pip install --quiet --disable-pip-version-check \
            --require-hashes --requirement bench/peers/requirements/$engine.txt \
            || echo "going on without $engine" >&2; \
    done

# Pin the newest versions of the other engines; takes uv
peers-lock:
    cd bench/peers/requirements && for engine in torch mnn ncnn onnxruntime openvino; do \
        uv pip compile --quiet --generate-hashes --universal --python-version 3.11 --upgrade \
            $(test $engine = torch || echo --constraint torch.txt) $engine.in --output-file $engine.txt; \
    done
