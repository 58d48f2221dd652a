# make train   train the article's tensor network on Fashion-MNIST (on the GPU, or the CPU without one)
# make test    every test, on the CPU and, where there is a Vulkan adapter, on the GPU
# make lint    formatting, clippy, documentation
# make bench   developers' benchmarks of the layer (TNET_BENCH_DEVICE=cpu|vulkan|...)
# make setup   install what is missing: a Vulkan loader and driver, the data set

.PHONY: train test lint bench setup
CARGO ?= cargo
DATA_PACKAGE = /usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz

# One profile for everything, so that nothing is built twice.
train: setup
	$(CARGO) run --release --locked -- train $(ARGS)

test: setup
	$(CARGO) test --release --locked

lint:
	$(CARGO) fmt --check
	$(CARGO) clippy --release --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --release --locked --no-deps

bench: setup
	$(CARGO) bench --locked

# Only Linux lacks a graphics API until a package brings it. Without root, or away from Debian, a
# line says what to install; the program then uses the CPU and downloads the data set.
setup:
	@command -v $(CARGO) >/dev/null || { echo "cargo was not found: install Rust 1.95 or newer from https://rustup.rs"; exit 1; }
	@[ "$$(uname)" = Linux ] || exit 0; missing=; \
	ldconfig -p | grep -q 'libvulkan\.so\.1' || missing=libvulkan1; \
	ls /usr/share/vulkan/icd.d/*.json /etc/vulkan/icd.d/*.json >/dev/null 2>&1 || missing="$$missing mesa-vulkan-drivers"; \
	[ -n "$$TNET_DATA" ] || [ -e $(DATA_PACKAGE) ] || missing="$$missing dataset-fashion-mnist"; \
	[ -n "$$missing" ] || exit 0; \
	if ! command -v apt-get >/dev/null; then \
		echo "missing: what Debian calls $$missing; install it to use the GPU, or go on with the CPU and a download"; \
	elif [ "$$(id -u)" = 0 ]; then \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $$missing || \
			echo "apt-get could not install $$missing"; \
	elif sudo -n true 2>/dev/null; then \
		sudo apt-get update -qq && sudo DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $$missing || \
			echo "apt-get could not install $$missing"; \
	else \
		echo "missing: run 'sudo apt-get install $$missing'; going on without"; \
	fi
