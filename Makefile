# Build, test and install Pith.  'make help' lists the targets.
# SPDX-License-Identifier: Apache-2.0

VERSION = 0.1.0
PREFIX ?= /usr/local
PYTHON ?= /usr/bin/python3
FUZZ_SECONDS ?= 20
B ?= build

# The one list of Debian packages that building, testing and the demo need.
PACKAGES = gcc make pkg-config libzstd-dev libxxhash-dev libarchive-dev libjansson-dev \
	libcmocka-dev libpcre2-dev python3 python3-numpy xz-utils zstd

# ---- sources: every .c of a folder, no lists ----
PITH_DIRS = format loader
RUN_DIRS = runtime runtime/kernels runtime/tokenizer runtime/text runtime/models
DIRS = $(PITH_DIRS) $(RUN_DIRS) convert cli
objects = $(patsubst %,$(B)/%.o,$(basename $(wildcard $(addsuffix /*.c,$(1)))))

# ---- flags: by folder and by suffix ----
CFLAGS ?= -O2 -g
WARNINGS = -Wall -Wextra -Wpedantic -Wconversion -Wvla $(WERROR)
FLAGS = -std=c11 -D_POSIX_C_SOURCE=200809L -ffp-contract=off -fPIC -pthread $(WARNINGS) \
	$(addprefix -I,$(DIRS)) -Itests -MMD -MP $(SANITIZE)
LIBS = -lzstd -lxxhash -larchive -ljansson -lm -pthread
$(B)/runtime/kernels/%.o: FLAGS += -O3
$(B)/runtime/kernels/%_avx2.o: FLAGS += -mavx2 -mfma -mf16c
$(B)/runtime/kernels/%_avx512.o: FLAGS += -mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512vl \
	-mavx512dq -mavx512vnni

.PHONY: all
all: $(B)/libpith.a $(B)/libpithrun.a $(B)/libpithtool.a $(B)/pith

$(B)/%.o: %.c $(B)/flags
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(FLAGS) -c -o $@ $<

# Rebuild when compiler or flags change.
$(B)/flags: FORCE
	@mkdir -p $(B)
	@echo '$(CC) $(CFLAGS) $(FLAGS)' | cmp -s - $@ || echo '$(CC) $(CFLAGS) $(FLAGS)' > $@
.PHONY: FORCE
FORCE:

$(B)/libpith.a: $(call objects,$(PITH_DIRS))
$(B)/libpithrun.a: $(call objects,$(RUN_DIRS))
$(B)/libpithtool.a: $(call objects,convert)
$(B)/%.a:
	rm -f $@
	$(AR) rcs $@ $^

$(B)/pith: $(call objects,cli) $(B)/libpithtool.a $(B)/libpithrun.a $(B)/libpith.a
	$(CC) $(CFLAGS) $(SANITIZE) -o $@ $^ $(LIBS)

.PHONY: clean
clean:
	rm -rf build build-asan build-fuzz

-include $(shell find $(B) -name '*.d' 2>/dev/null)
