# The two commands: `make demo` and `make test`. Everything they need is set up by them (tools/setup.sh).
BUILD ?= build
JOBS  ?= $(shell nproc)

.PHONY: help setup configure build test demo fetch-models docs boards bench sanitize fuzz format lint install clean

help:
	@echo "make demo       set up, build, train the demo on this machine, evaluate, generate, write the report"
	@echo "make test       set up, build, run every test"
	@echo "make build      the program: $(BUILD)/switchyard"
	@echo "make docs       docs/gates.md: every published gate, from what sources and recipes say of themselves"
	@echo "make boards     the leaderboards of docs/gates.md: every gate trained alike, three seeds (an hour); then make docs"
	@echo "make fetch-models   small pretrained models into runs/models [FETCH=\"stories15M tinyllama\"]"
	@echo "make bench      benchmarks, each with its own correctness check"
	@echo "make sanitize   tests under address and undefined behaviour sanitizers, short fuzzing [SANITIZE=quick|library|all]"
	@echo "make format | lint | install [PREFIX=/usr/local] | clean"

setup:
	@tools/setup.sh

configure: setup
	@test -f $(BUILD)/build.ninja || cmake -S . -B $(BUILD) -G Ninja -DCMAKE_BUILD_TYPE=Release

build: configure
	@cmake --build $(BUILD) -j $(JOBS) --target switchyard_program

test: configure
	@cmake --build $(BUILD) -j $(JOBS)
	@ctest --test-dir $(BUILD) --output-on-failure -j $(JOBS)

demo: build
	@tools/demo.sh $(BUILD)/switchyard

FETCH ?= stories15M
fetch-models: build
	@tools/fetch_models.sh $(BUILD)/switchyard $(FETCH)

docs: build
	@$(BUILD)/switchyard explain --markdown gates --boards docs/boards > docs/gates.md

boards: build
	@tools/gate_boards.sh $(BUILD)/switchyard

bench: configure
	@cmake -S . -B $(BUILD) -DSWITCHYARD_BENCH=ON >/dev/null
	@cmake --build $(BUILD) -j $(JOBS) --target benchmarks
	@tools/bench.sh $(BUILD)

sanitize: setup
	@tools/sanitize.sh

fuzz: setup
	@tools/fuzz.sh

format: setup
	@git ls-files '*.cpp' '*.h' '*.inl' | xargs clang-format -i

lint: setup
	@tools/lint.sh

PREFIX ?= /usr/local
install: build
	@cmake --install $(BUILD) --prefix $(PREFIX)

clean:
	rm -rf build build-*
