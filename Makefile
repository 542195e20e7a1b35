# Build, test and install Pith.  'make help' lists the targets.
# SPDX-License-Identifier: Apache-2.0

VERSION = 0.1.0
SOVERSION = 0
PREFIX ?= /usr/local
PYTHON ?= /usr/bin/python3
FUZZ_SECONDS ?= 20
B ?= build

# The one list of Debian packages that building, testing and the demo need.
PACKAGES = gcc make pkg-config libzstd-dev libxxhash-dev libarchive-dev libjansson-dev \
	libcmocka-dev libpcre2-dev libopenblas-dev liblapacke-dev python3 python3-numpy xz-utils zstd
# Those that let 'make test' build for aarch64 and run it, for the NEON kernels: 'make cross-packages'.
CROSS_PACKAGES = gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user \
	libzstd-dev:arm64 libxxhash-dev:arm64 libcmocka-dev:arm64

# The embedded model: made from the checkpoint in the tree (models/README.md says how it was chosen).
DEFAULT_SOURCE = models/books6m
DEFAULT_SCHEME = rtn:bits=6,group=256,act=token,zero=sym
# That of 'pith zip --level fast', of the same scheme.
FAST_SOURCE = models/tiny1m

# ---- sources: every .c of a folder, no lists ----
PITH_DIRS = format loader
RUN_DIRS = runtime runtime/kernels runtime/tokenizer runtime/text runtime/models
DIRS = $(PITH_DIRS) $(RUN_DIRS) convert cli
objects = $(patsubst %.c,$(B)/%.o,$(wildcard $(addsuffix /*.c,$(1))))
PITH_OBJECTS = $(call objects,$(PITH_DIRS))
RUN_OBJECTS = $(call objects,$(RUN_DIRS))
HEADERS = format/pith_status.h loader/pith.h runtime/pithrun.h \
	$(wildcard runtime/tokenizer/tokenizer.h runtime/text/text.h)
TEST_SOURCES = $(shell grep -l '^int main' tests/*.c)
TEST_PROGRAMS = $(TEST_SOURCES:%.c=$(B)/%)
TEST_SCRIPTS = $(wildcard tests/test_*.sh tests/test_*.py)
BENCHES = $(patsubst %.c,$(B)/%,$(wildcard bench/bench_*.c))
FUZZ_SOURCES = $(wildcard tests/fuzz_*.c)
SUPPORT = $(filter-out $(TEST_SOURCES) $(FUZZ_SOURCES),$(wildcard tests/*.c))
STATIC = $(B)/libpithtool.a $(B)/libpithrun.a $(B)/libpith.a

# ---- flags: by folder and by suffix ----
CFLAGS ?= -O2 -g
FLAGS = -std=c11 -D_POSIX_C_SOURCE=200809L -ffp-contract=off -fPIC -pthread \
	-Wall -Wextra -Wpedantic -Wconversion -Wvla $(WERROR) $(addprefix -I,$(DIRS)) -MMD -MP $(SANITIZE)
PITH_LIBS = -lzstd -lxxhash -lm
LIBS = $(PITH_LIBS) -larchive -ljansson -llapacke -lopenblas -pthread
TEST_LIBS = -lcmocka -lpcre2-8
MACHINE := $(shell $(CC) -dumpmachine)
ifneq (,$(findstring x86_64,$(MACHINE)))
ISA_avx2 = -mavx2 -mfma -mf16c -mbmi2 -mpopcnt
ISA_avx512 = $(ISA_avx2) -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni
ISA_gfni = $(ISA_avx512) -mgfni
else ifneq (,$(findstring aarch64,$(MACHINE)))
ISA_neon = -march=armv8.2-a+dotprod
endif
# Sanitizers make -O3 take minutes a file.
OWN_FLAGS = $(if $(SANITIZE),,$(if $(findstring runtime/kernels/,$@)$(findstring runtime/text/,$@),-O3)) $(if $(findstring /tests/,$@)$(findstring /bench/,$@),-Itests) \
	$(foreach isa,avx2 avx512 gfni neon,$(if $(filter %_$(isa).o,$@),$(ISA_$(isa))))
# A version script where the library has one.
map = $(if $(wildcard $(1)),-Wl$(comma)--version-script=$(1))
comma = ,
Q = $(if $(V),,@echo '  $@' &&) # make V=1 shows the commands

.PHONY: all models
all: $(STATIC) $(B)/libpith.so $(B)/libpithrun.so $(B)/pith
models: $(B)/models/default.pith $(B)/models/fast.pith

$(B)/%.o: %.c $(B)/flags
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) $(FLAGS) $(OWN_FLAGS) -c -o $@ $<

$(B)/flags: FORCE # changes when compiler or flags do
	@mkdir -p $(B)
	@echo '$(CC) $(CFLAGS) $(FLAGS)' | cmp -s - $@ || echo '$(CC) $(CFLAGS) $(FLAGS)' > $@

# ---- libraries ----
$(B)/libpith.a: $(PITH_OBJECTS)
$(B)/libpithrun.a: $(RUN_OBJECTS)
$(B)/libpithtool.a: $(call objects,convert)
$(B)/libsupport.a: $(SUPPORT:%.c=$(B)/%.o)
$(B)/%.a:
	$(Q)rm -f $@ && $(AR) rcs $@ $^
$(B)/libpith.so: $(PITH_OBJECTS) $(wildcard loader/libpith.map)
	$(Q)$(CC) $(CFLAGS) $(SANITIZE) -shared -Wl,-soname,libpith.so.$(SOVERSION) \
		$(call map,loader/libpith.map) -o $@.$(SOVERSION) $(PITH_OBJECTS) $(PITH_LIBS)
	@ln -sf libpith.so.$(SOVERSION) $@
$(B)/libpithrun.so: $(RUN_OBJECTS) $(B)/libpith.so $(wildcard runtime/libpithrun.map)
	$(Q)$(CC) $(CFLAGS) $(SANITIZE) -shared -Wl,-soname,libpithrun.so.$(SOVERSION) \
		$(call map,runtime/libpithrun.map) -o $@.$(SOVERSION) $(RUN_OBJECTS) \
		-L$(B) -lpith $(PITH_LIBS) -pthread
	@ln -sf libpithrun.so.$(SOVERSION) $@

# ---- the command: built without models first, which makes the models that are linked in ----
$(B)/stage1/default.pith $(B)/stage1/fast.pith: $(B)/flags
	@mkdir -p $(@D)
	@: > $@
$(B)/models/default.pith: $(wildcard $(DEFAULT_SOURCE)/*)
$(B)/models/fast.pith: $(wildcard $(FAST_SOURCE)/*)
$(B)/models/default.pith: SOURCE = $(DEFAULT_SOURCE)
$(B)/models/fast.pith: SOURCE = $(FAST_SOURCE)
$(B)/models/default.pith $(B)/models/fast.pith: $(B)/stage1/pith
	@mkdir -p $(@D)
	$(B)/stage1/pith convert $(SOURCE) -o $@ --force --scheme '$(DEFAULT_SCHEME)' --kv int8
$(B)/stage1/embed_model.o: $(B)/stage1/default.pith $(B)/stage1/fast.pith
$(B)/models/embed_model.o: $(B)/models/default.pith $(B)/models/fast.pith
$(B)/stage1/embed_model.o $(B)/models/embed_model.o: cli/embed_model.S
	$(Q)$(CC) -c -Wa,-I$(@D) -o $@ $<
$(B)/stage1/pith: $(B)/stage1/embed_model.o
$(B)/pith: $(B)/models/embed_model.o
$(B)/stage1/pith $(B)/pith: $(call objects,cli) $(STATIC)
	$(Q)$(CC) $(CFLAGS) $(SANITIZE) -o $@ $(filter %.o,$^) $(STATIC) $(LIBS)

# ---- tests ----
$(B)/bench/bench_kernels: $(B)/cli/cli_probe.o
$(TEST_PROGRAMS) $(BENCHES): %: %.o $(B)/libsupport.a $(STATIC)
	$(Q)$(CC) $(CFLAGS) $(SANITIZE) -o $@ $(filter %.o,$^) $(B)/libsupport.a $(STATIC) $(TEST_LIBS) $(LIBS)
PARALLEL = $(if $(findstring j,$(MAKEFLAGS)),,-j$(shell nproc))
.PHONY: programs test test-run test-all equality clang cross cross-packages asan fuzz fuzz-run
programs: all $(TEST_PROGRAMS)
test: packages
	+$(MAKE) $(PARALLEL) programs
	+$(MAKE) cross
	+$(MAKE) clang
	+$(MAKE) test-run
test-run: $(B)/models/logits.stamp
	BUILD=$(B) PYTHON='$(PYTHON)' CC='$(CC)' sh tests/run.sh $(TEST_PROGRAMS) $(CROSS_TESTS) $(TEST_SCRIPTS)
$(B)/models/logits.stamp: $(B)/pith tests/logit_hashes.txt
	sh tests/make_logit_models.sh $(B)/pith $(@D)
	@touch $@
test-all: cross-packages test equality asan fuzz
equality:
	+$(MAKE) $(PARALLEL) $(B)/tests/test_equality $(B)/models/logits.stamp
	+$(MAKE) cross
	+$(MAKE) $(PARALLEL) build-clang/tests/test_equality build-clang/models/logits.stamp B=build-clang CC=clang
	BUILD=$(B) CLANG_BUILD=build-clang sh tests/run.sh tests/all_equality.sh
# The command by another compiler, where there is one, for tests/test_zip_builds.sh.
clang:
	+@if command -v clang >/dev/null; then $(MAKE) $(PARALLEL) build-clang/pith B=build-clang CC=clang; fi
# Tests that need no more than libpithrun, for aarch64; tests/run.sh counts them as skipped where they are not.
CROSS_TESTS = $(addprefix $(B)/arm64/tests/,test_kernels test_equality)
cross:
	+@if { command -v qemu-aarch64 && echo 'int main(void) { return 0; }' | \
		aarch64-linux-gnu-gcc -x c - -o /dev/null -lzstd -lxxhash -lcmocka; } >/dev/null 2>&1; then \
	$(MAKE) $(PARALLEL) $(CROSS_TESTS) B=$(B)/arm64 CC=aarch64-linux-gnu-gcc AR=aarch64-linux-gnu-ar \
		STATIC='$(B)/arm64/libpithrun.a $(B)/arm64/libpith.a' LIBS='$(PITH_LIBS) -pthread' TEST_LIBS=-lcmocka; fi
cross-packages:
	-@sh tests/packages.sh $(CROSS_PACKAGES)
asan: packages
	+$(MAKE) $(PARALLEL) programs B=build-asan $(ASAN)
	+PITH_SANITIZED=1 $(MAKE) test-run B=build-asan $(ASAN)
ASAN = CROSS_TESTS= CFLAGS='-O1 -g' SANITIZE='-fsanitize=address,undefined -fno-sanitize-recover=undefined'
fuzz:
	+$(MAKE) fuzz-run B=build-fuzz CC=clang CFLAGS='-O1 -g' \
		SANITIZE='-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined'
fuzz-run: $(FUZZ_SOURCES:%.c=$(B)/%)
	$(PYTHON) tests/make_seeds.py $(B)/seeds
	for t in $^; do mkdir -p $$t.corpus; $$t -max_total_time=$(FUZZ_SECONDS) -verbosity=0 \
		-print_final_stats=1 -artifact_prefix=$$t. $$t.corpus $(B)/seeds || exit 1; done
$(B)/tests/fuzz_%: $(B)/tests/fuzz_%.o $(B)/libsupport.a $(STATIC)
	$(Q)$(CC) $(CFLAGS) $(SANITIZE) -fsanitize=fuzzer -o $@ $< $(B)/libsupport.a $(STATIC) -lcmocka $(LIBS)

# ---- for users ----
.PHONY: demo bench readme-tables method-table install packages clean help FORCE
demo: packages
	+$(MAKE) $(PARALLEL) all
	BUILD=$(B) sh bench/demo.sh
bench: all $(BENCHES)
	BUILD=$(B) PYTHON='$(PYTHON)' sh bench/run.sh $(BENCHES)
readme-tables: all
	BUILD=$(B) $(PYTHON) bench/readme_tables.py README.md
method-table: all
	BUILD=$(B) $(PYTHON) bench/method_table.py README.md
install: all
	DESTDIR='$(DESTDIR)' PREFIX='$(PREFIX)' VERSION=$(VERSION) BUILD=$(B) sh cli/install.sh $(HEADERS)
packages:
	@sh tests/packages.sh $(PACKAGES)
clean:
	rm -rf build build-asan build-clang build-fuzz
help:
	@echo 'all       libraries and the pith command, in $(B)/'
	@echo 'demo      install packages, build, then show the main jobs on real input'
	@echo 'test      install packages, build, run the tests; aarch64 too after cross-packages'
	@echo 'test-all  cross-packages, test, equality of all kernels and compilers, asan, fuzz: an hour'
	@echo 'asan      the tests with address and undefined-behaviour sanitizers'
	@echo 'fuzz      every fuzz target for FUZZ_SECONDS=$(FUZZ_SECONDS) (clang)'
	@echo 'models    the embedded models, from $(DEFAULT_SOURCE) and $(FAST_SOURCE)'
	@echo 'bench     speed, open time, sizes;  readme-tables, method-table: rewrite the tables of README.md'
	@echo 'install   into PREFIX=$(PREFIX) (DESTDIR respected);  clean: remove what was built'

-include $(shell find $(B) -name '*.d' 2>/dev/null)
