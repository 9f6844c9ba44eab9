# The project's recipes: `just` lists them. CONTRIBUTING.md says what they need.

# Python with the packages of tests/golden/requirements.txt; `just python=… <recipe>` uses another one.
python := ".venv/bin/python"

# Python that the package is built for and tested with; `just wheel-python=python3.14t python-test` takes another one.
wheel-python := "python3"

# List the recipes
@default:
    just --list --unsorted

# Everything a change must pass
check: format lint docs deny package test platforms

# Check the formatting
format:
    cargo fmt --all --check

# Check that the compiler and clippy give no warnings
lint:
    cargo clippy --workspace --all-targets --all-features --locked -- --deny warnings

# Check that the documentation builds without warnings
docs:
    RUSTDOCFLAGS="--deny warnings" cargo doc --workspace --no-deps --locked

# Check the dependencies against deny.toml
deny:
    cargo deny --locked check --hide-inclusion-graph bans licenses sources

# Check that every crate is ready to publish (without building it, which `test` does), within crates.io's 10 MiB
package:
    rm -rf target/package
    cargo package --workspace --no-verify --allow-dirty --locked --quiet
    test -z "$(find target/package -name '*.crate' -size +10239k -print | tee /dev/stderr)"

# Check that everything compiles for Windows and macOS; needs `rustup target add` for both
platforms:
    cargo check --workspace --all-features --locked --target x86_64-pc-windows-gnu
    cargo check --workspace --all-features --locked --target aarch64-apple-darwin

# Run every test, and the program's device tests with GPU support built in
test:
    cargo test --release --workspace
    cargo test --release --package n2n-cli --features gpu --test device

# Build the Python wheel, install it into a new environment without Rust, and test it there; see wheel-python above
python-test:
    cargo build --release --locked --bin n2n
    rm -rf target/python target/wheels
    {{ wheel-python }} -m venv target/python
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

# Test the napari plugin without a screen, and check its manifest; run `just python-test` first, which makes the environment
napari-test:
    target/python/bin/python -m pip install --quiet --disable-pip-version-check \
        --require-hashes --requirement crates/n2n-python/requirements-napari.txt
    cd crates/n2n-python/tests/napari && QT_QPA_PLATFORM=offscreen \
        ../../../../target/python/bin/python -m pytest --quiet --config-file ../../pyproject.toml -W ignore .
    target/python/bin/npe2 validate n2n

# Check with bioimageio.core that packages from `n2n export` for bioimage.io are accepted as they are
bioimageio-test:
    cargo build --release --locked --bin n2n
    rm -rf target/bioimageio
    python3 -m venv target/bioimageio
    target/bioimageio/bin/python -m pip install --quiet --disable-pip-version-check \
        --require-hashes --requirement tests/bioimageio/requirements.txt
    target/release/n2n export --format bioimageio --range 0,255 --save-dir target/bioimageio
    target/release/n2n export --format bioimageio --model-path gauss5_50_gray --save-dir target/bioimageio
    cd target/bioimageio && for package in *.zip; do \
        bin/bioimageio test "$package" > "$package.log" 2>&1 || { cat "$package.log"; exit 1; }; \
    done

# Run the notebooks of docs/notebooks; run `just python-test` first, which makes the environment
notebooks:
    target/python/bin/python -m pip install --quiet --disable-pip-version-check \
        --require-hashes --requirement crates/n2n-python/requirements-notebooks.txt
    target/python/bin/python -m pytest --quiet --nbmake --nbmake-timeout 120 -p no:cacheprovider docs/notebooks

# Pin the newest versions of what the recipes above need; needs uv
python-lock:
    cd crates/n2n-python && for of in dev napari notebooks; do \
        uv pip compile --quiet --generate-hashes --universal --python-version 3.11 --upgrade \
            requirements-$of.in --output-file requirements-$of.txt; \
    done
    cd tests/bioimageio && uv pip compile --quiet --generate-hashes --universal --python-version 3.11 --upgrade \
        requirements.in --output-file requirements.txt

# Test the kernels on emulated 64-bit ARM
test-aarch64:
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64 -L /usr/aarch64-linux-gnu" \
    cargo test --release --package n2n-kernels --target aarch64-unknown-linux-gnu

# Run the kernels' own tests in Miri, which detects undefined behavior; needs `rustup +nightly component add miri`
miri *arguments:
    # rayon's queues violate stacked borrows, which are stricter than the language, and leak at the end.
    MIRIFLAGS="-Zmiri-tree-borrows -Zmiri-permissive-provenance -Zmiri-ignore-leaks" cargo +nightly miri test --package n2n-kernels --lib {{ arguments }}

# Build the distributable program: as fast as the release build, without debug information
dist *flags:
    cargo build --profile dist --bin n2n --locked {{ flags }}

# Test the kernels on WebAssembly in Node, with SIMD128 and relaxed SIMD
test-wasm:
    CARGO_TARGET_WASM32_WASIP1_RUNNER="node --no-warnings --experimental-wasm-relaxed-simd {{ justfile_directory() }}/tests/wasi.mjs" \
    cargo test --release --package n2n-kernels --features relaxed-simd --target wasm32-wasip1

# Build the page (target/web) and the npm package (target/npm); needs the wasm-bindgen version in Cargo.lock
web:
    web/build.sh

# Test the page in headless Chromium and the package in Node; after `just web`
test-web *flags:
    cargo build --release --locked --bin n2n
    cd web/test && npm ci --silent --no-audit --no-fund && node --test {{ flags }} *.test.mjs

# Run the whole chain from clean images to denoised pictures: test_tipc/README.md
chain mode="lite_train_lite_infer":
    bash test_tipc/prepare.sh test_tipc/configs/N2N/train_infer_rust.txt {{ mode }}
    bash test_tipc/test_train_inference_rust.sh test_tipc/configs/N2N/train_infer_rust.txt {{ mode }}

# Fuzz a file reader: image, safetensors, pth, pdparams, onnx
fuzz target="image" seconds="600":
    mkdir -p fuzz/corpus/{{ target }}
    cp -n {{ if target == "image" { "tests/golden/images/*.*" } else { "tests/golden/weights/*.*" } }} fuzz/corpus/{{ target }}
    cd fuzz && RUSTC_BOOTSTRAP=1 cargo fuzz run --sanitizer none {{ target }} -- \
        -rss_limit_mb=1024 -timeout=20 -max_total_time={{ seconds }}

# Check the dependencies for known vulnerabilities; fetches the database
audit:
    cargo deny --locked check advisories

# Create .venv, the Python environment for the recipes below
python:
    python3 -m venv .venv
    .venv/bin/python -m pip install --require-hashes --requirement tests/golden/requirements.txt

# Regenerate the golden values (except tensorboard/) and the demonstration pictures
golden:
    {{ python }} tests/golden/make_network.py
    {{ python }} tests/golden/make_eval.py
    {{ python }} tests/golden/numpy_eval.py
    {{ python }} tests/golden/weights.py
    {{ python }} tests/golden/images/make.py
    {{ python }} tests/golden/images/make_formats.py
    {{ python }} tests/golden/images/make_jpeg2000.py
    {{ python }} tests/golden/images/make_refused.py
    {{ python }} tests/golden/images/make_tiff.py
    {{ python }} tests/golden/images/make_dng.py
    {{ python }} tests/golden/images/make_mrc.py
    {{ python }} docs/demo/make.py

# Compare `n2n val` with PyTorch; takes flags for both, such as --noisetype gauss25 --sets BSD300 --repeats 1
parity model val_dirs *flags:
    cargo run --release --bin n2n -- val --model-path '{{ model }}' --val-dirs '{{ val_dirs }}' --csv target/parity.csv {{ flags }}
    {{ python }} tests/golden/eval_torch.py --model '{{ model }}' --val-dirs '{{ val_dirs }}' --against target/parity.csv {{ flags }}

# Measure what each part of the fast recipe contributes, 15 minutes each; IMAGES: a folder of clean training images
ablation images *flags: release
    {{ python }} bench/train/compare.py recipe '{{ images }}' {{ flags }}

# Measure the cost of adding noise only once
frozen images *flags: release
    {{ python }} bench/train/compare.py frozen '{{ images }}' {{ flags }}

# Measure the gain from training on real camera noise; FOLDER: *_real* images with their *_mean*
polyu folder *flags: release
    {{ python }} bench/train/compare.py polyu '{{ folder }}' {{ flags }}

# Kill training 50 times with SIGKILL at random moments
kills images *flags: release
    {{ python }} bench/train/endure.py kills '{{ images }}' {{ flags }}

# Watch the memory of training over 2,000 steps
memory images *flags: release
    {{ python }} bench/train/endure.py memory '{{ images }}' {{ flags }}

[private]
release:
    cargo build --release

# Time every layer by itself, with its share of the peak rate; takes arguments such as `-- dec_conv1b`
bench-layers *arguments:
    cargo bench --package n2n --bench layers {{ arguments }}

# Time n2n against other engines: bench/peers/README.md; takes flags such as --quick
peers *flags: peers-python
    bench/peers/.venv/bin/python bench/peers/run.py {{ flags }}

# Create the Python environment for those of the other engines that have packages for this platform
peers-python:
    python3 -m venv bench/peers/.venv
    for engine in torch mnn ncnn onnxruntime openvino; do \
        bench/peers/.venv/bin/python -m pip install --quiet --disable-pip-version-check \
            --require-hashes --requirement bench/peers/requirements/$engine.txt \
            || echo "continuing without $engine" >&2; \
    done
    bench/peers/.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps ./crates/n2n-python

# Compare denoisers by quality and time: bench/quality/README.md; DATA: a folder of clean images; takes --images 2 and the like
peers-quality data *flags:
    python3 -m venv bench/quality/.venv
    bench/quality/.venv/bin/python -m pip install --quiet --disable-pip-version-check \
        --require-hashes --requirement bench/quality/requirements.txt
    bench/quality/.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps ./crates/n2n-python
    bench/quality/.venv/bin/python bench/quality/run.py --data '{{ data }}' {{ flags }}

# Time `n2n predict` as a whole on a large photograph, a folder and a large TIFF; takes flags such as tiff --scale 0.25
whole-program *flags: release
    {{ python }} bench/whole_program.py {{ flags }}

# Pin the newest versions of the other engines; needs uv
peers-lock:
    cd bench/quality && uv pip compile --quiet --generate-hashes --universal --python-version 3.11 --upgrade \
        requirements.in --output-file requirements.txt
    cd bench/peers/requirements && for engine in torch mnn ncnn onnxruntime openvino; do \
        uv pip compile --quiet --generate-hashes --universal --python-version 3.11 --upgrade \
            $(test $engine = torch || echo --constraint torch.txt) $engine.in --output-file $engine.txt; \
    done
