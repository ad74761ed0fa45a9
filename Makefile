# SPDX-License-Identifier: LGPL-2.1-or-later
# bootmgr: build, test and install. `make help` lists the targets. V=1 shows the commands.

VERSION := 0.1
PREFIX ?= /usr
SYSCONFDIR ?= /etc
LIBDIR = $(PREFIX)/lib
BUILD ?= build
CC ?= gcc
STRIP ?= strip
CFLAGS ?= -O2 -g
WERROR ?= $(if $(CI),-Werror)

PACKAGES := blkid fdisk smartcols libsystemd libzstd libcrypto libarchive libcurl libcryptsetup jansson libeconf libedit \
	liburing
ifneq ($(filter-out help deps clean check-layers,$(or $(MAKECMDGOALS),all)),)
LIB_CFLAGS := $(shell pkg-config --cflags $(PACKAGES) 2>/dev/null)
LIB_LDLIBS := $(shell pkg-config --libs $(PACKAGES) 2>/dev/null)
CHECK_CFLAGS := $(shell pkg-config --cflags check 2>/dev/null)
CHECK_LDLIBS := $(shell pkg-config --libs check 2>/dev/null)
endif

WARNINGS := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wwrite-strings \
	-Wformat=2 -Wundef -Wno-missing-field-initializers -Wno-unused-parameter
HARDEN := -fstack-protector-strong -D_FORTIFY_SOURCE=2 -fPIE
SANITIZE ?=
ifneq ($(SANITIZE),)
HARDEN := -fPIE -fno-omit-frame-pointer
endif
override CPPFLAGS += -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -DBOOTMGR_VERSION='"$(VERSION)"' -Ibootmgr
COMPILE = $(CC) -std=gnu17 $(WARNINGS) $(WERROR) $(HARDEN) $(CPPFLAGS) $(LIB_CFLAGS) $(CFLAGS) $(SANITIZE) -MMD -MP
LINK = $(CC) $(CFLAGS) $(SANITIZE) -pie -Wl,-z,relro,-z,now -Wl,--as-needed $(LDFLAGS)

Q := $(if $(V),,@)
say = $(if $(V),,@printf '  %-6s %s\n' '$(1)' '$(2)')

# What each program is made of. The library holds every layer up to operation; cli, daemon and recover are tops.
layer = $(wildcard bootmgr/$(1)/*.c)
obj = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))
LIB_SRC := $(foreach l,base slot storage loader snapshot image operation cluster,$(call layer,$(l)))
CLI_SRC := $(call layer,cli)
DAEMON_SRC := $(call layer,daemon)
# The initramfs program links libc and libblkid only: the parts of the layers that need nothing else.
RECOVER_BASE := buf clock crc32c error file io parse version
RECOVER_SRC := $(patsubst %,bootmgr/base/%.c,$(RECOVER_BASE)) bootmgr/slot/slot.c bootmgr/slot/store.c bootmgr/slot/kinds.c bootmgr/slot/verity.c \
	bootmgr/storage/disk.c bootmgr/storage/range.c bootmgr/storage/superblock.c bootmgr/storage/verified.c $(filter-out bootmgr/loader/sdboot_files.c bootmgr/loader/rescue_install.c,$(call layer,loader)) \
	$(patsubst %,bootmgr/operation/%.c,boot boot_arm boot_rebuild boot_try boot_words carry_out) $(call layer,recover)

PROGRAMS := $(BUILD)/bootmgr $(BUILD)/bootmgrd $(BUILD)/bootmgr-recover
UNIT_TESTS := $(patsubst tests/unit/%.c,$(BUILD)/tests/%,$(wildcard tests/unit/test-*.c))

.DEFAULT_GOAL := all
.PHONY: all help deps next check check-asan check-layers coverage lint qemu crash-log soak demo demo-cluster test bench install clean format fuzz fuzz-targets crash crash-quick model bench-install bench-chunking bench-link bench-cluster

## all: build bootmgr, bootmgrd and bootmgr-recover
all: $(PROGRAMS)

## help: this list
help:
	@sed -n 's/^## //p' Makefile | awk -F': ' '{ printf "  %-14s %s\n", $$1, $$2 }'

## deps: install what building and testing need (apt, Debian 12)
deps:
	$(Q)tests/deps

$(BUILD)/libbootmgr.a: $(call obj,$(LIB_SRC))
	$(call say,AR,$@)
	$(Q)rm -f $@ && ar rcs $@ $^

$(BUILD)/bootmgr: $(call obj,$(CLI_SRC)) $(BUILD)/libbootmgr.a
	$(call say,LINK,$@)
	$(Q)$(LINK) -o $@ $^ $(LIB_LDLIBS) -lacl -lpthread

$(BUILD)/bootmgrd: $(call obj,$(DAEMON_SRC)) $(BUILD)/libbootmgr.a
	$(call say,LINK,$@)
	$(Q)$(LINK) -o $@ $^ $(LIB_LDLIBS) -lacl -lpthread

$(BUILD)/bootmgr-recover: $(patsubst %.c,$(BUILD)/obj-recover/%.o,$(RECOVER_SRC))
	$(call say,LINK,$@)
	$(Q)$(LINK) -Wl,--gc-sections -o $@ $^ $(shell pkg-config --libs blkid)

$(BUILD)/obj/%.o: %.c Makefile
	$(call say,CC,$<)
	$(Q)mkdir -p $(@D) && $(COMPILE) -c -o $@ $<

$(BUILD)/obj-recover/%.o: %.c Makefile
	$(call say,CC,$< (recover))
	$(Q)mkdir -p $(@D) && $(COMPILE) -Os -ffunction-sections -fdata-sections -DBOOTMGR_RECOVER -c -o $@ $<

$(BUILD)/obj/tests/%.o: CPPFLAGS += -Itests/unit $(CHECK_CFLAGS)
# Kept, although nothing names them: else make removes them as intermediate files, and compiles them again next time.
.SECONDARY: $(UNIT_TESTS:$(BUILD)/tests/%=$(BUILD)/obj/tests/unit/%.o)
$(BUILD)/tests/%: $(BUILD)/obj/tests/unit/%.o $(BUILD)/libbootmgr.a
	$(call say,LINK,$@)
	$(Q)mkdir -p $(@D) && $(LINK) -o $@ $(filter %.o,$^) $(filter %.a,$^) $(LIB_LDLIBS) $(CHECK_LDLIBS) -lacl -lpthread

# The enumeration of power cuts: the initramfs's program is a function of it; boots get ids of their own.
CRASH_SRC := $(wildcard tests/crash/*.c)
$(BUILD)/obj/tests/crash/recover_%.o: bootmgr/recover/%.c Makefile
	$(call say,CC,$< (crash))
	$(Q)mkdir -p $(@D) && $(COMPILE) -Dmain=recover_main -Wno-missing-prototypes -c -o $@ $<
# Without its log: what it says goes where the other programs' words go.
CRASH_RECOVER := $(patsubst bootmgr/recover/%.c,$(BUILD)/obj/tests/crash/recover_%.o, \
	$(filter-out bootmgr/recover/log.c,$(wildcard bootmgr/recover/*.c)))
$(BUILD)/tests/crash/crash: $(call obj,$(CRASH_SRC)) $(CRASH_RECOVER) $(BUILD)/libbootmgr.a
	$(call say,LINK,$@)
	$(Q)mkdir -p $(@D) && $(LINK) -Wl,--wrap=boot_id,--wrap=consoles_key,--wrap=boot_carry_out,--wrap=close,--wrap=getrandom,--wrap=clock_gettime,--wrap=sched_getaffinity,--wrap=hooks_run -o $@ $^ $(LIB_LDLIBS) -lacl -lpthread

## crash: every power cut and disk error of every operation, and every barrier taken out in turn; SEED=N
crash: all $(BUILD)/tests/crash/crash
	$(Q)tests/crash/run --build $(BUILD) $(if $(SEED),--seed $(SEED))

## crash-quick: the part of it that is in make test
crash-quick: all $(BUILD)/tests/crash/crash
	$(Q)tests/crash/run --build $(BUILD) --quick $(if $(SEED),--seed $(SEED))

## next: bootmgr with another minor of its formats and other steps, for tests/cluster/run
next: all
	$(Q)+tests/cluster/next --build $(BUILD)

# What goes from one build to the next is not run under sanitizers
SANITIZED := $(findstring address,$(SANITIZE))
TOGETHER := $(if $(SANITIZED),,$(if $(TEST),$(findstring $(TEST),93-together.sh),all))
## check: unit and CLI tests (no root, no VM); TEST=name for one
check: all $(UNIT_TESTS) $(if $(TOGETHER),next)
	$(Q)tests/run --build $(BUILD) $(if $(SANITIZED),--sanitized) $(if $(TEST),--only $(TEST)) $(UNIT_TESTS) tests/cli

## check-asan: the same under AddressSanitizer and UndefinedBehaviorSanitizer, but for what says that it gains nothing there
check-asan:
	$(Q)$(MAKE) BUILD=build/asan CFLAGS="-O1 -g" SANITIZE="-fsanitize=address,undefined -fno-sanitize-recover=all" check

## coverage: line coverage of bootmgr/ by unit and CLI tests
coverage:
	$(Q)[ ! -d build/coverage ] || find build/coverage -name '*.gcda' -delete
	$(Q)$(MAKE) BUILD=build/coverage CFLAGS="-O0 -g" SANITIZE="--coverage" check
	$(Q)tests/coverage build/coverage

# Parts of the daemon that can be tested apart from it: they are not in the library.
$(BUILD)/fuzz-api: $(BUILD)/obj/bootmgr/daemon/api_body.o
$(BUILD)/tests/test-batch: $(BUILD)/obj/bootmgr/daemon/cluster_batch.o
$(BUILD)/tests/test-pace: $(BUILD)/obj/bootmgr/daemon/pace.o
$(BUILD)/tests/test-api: $(patsubst %,$(BUILD)/obj/bootmgr/daemon/%.o,api_body http_peer)

# Built by tests/fuzz/run: clang's flags instead of gcc's, in a directory of its own.
FUZZ_TARGETS := $(patsubst tests/fuzz/%.c,$(BUILD)/%,$(wildcard tests/fuzz/fuzz-*.c))
fuzz-targets: $(FUZZ_TARGETS)
.SECONDARY: $(FUZZ_TARGETS:$(BUILD)/%=$(BUILD)/obj/tests/fuzz/%.o)
$(BUILD)/fuzz-%: $(BUILD)/obj/tests/fuzz/fuzz-%.o $(BUILD)/libbootmgr.a
	$(call say,LINK,$@)
	$(Q)$(LINK) -fsanitize=fuzzer -o $@ $(filter %.o,$^) $(filter %.a,$^) $(LIB_LDLIBS) -lacl -lpthread

## fuzz: every parser under libFuzzer, SECONDS=600 for each; FUZZ=name for one
fuzz:
	$(Q)tests/fuzz/run --seconds $(if $(filter command,$(origin SECONDS)),$(SECONDS),600) $(FUZZ)

## model: every state of the cluster's protocol, and of it broken, by SPIN; QUICK=1 for what `make test` runs
model:
	$(Q)tests/model/run $(if $(QUICK),--quick)

## check-layers: a folder includes only folders above it in the design's list
check-layers:
	$(Q)tests/check-layers

## lint: clang-format, gcc -fanalyzer, cppcheck, shellcheck
lint:
	$(Q)tests/lint

## format: let clang-format write the sources
format:
	$(Q)clang-format -i $$(git ls-files '*.c' '*.h')

## qemu: all scenarios on real firmware, bootloader, kernel; SCENARIO=name for one, QUICK=1 for what `make test` runs
qemu: all
	$(Q)qemu/run $(if $(QUICK),--quick) $(if $(SCENARIO),--scenario $(SCENARIO))

## crash-log: every disk that a power cut could leave, from the write log of a real guest: what would be started is whole; some are booted
crash-log: all
	$(Q)qemu/replay

## soak: cut a guest's power N times at random moments of endless upgrades and rollbacks; SEED=, goes on where it was
soak: all
	$(Q)qemu/soak --cuts $(or $(N),100) --seed $(or $(SEED),1)

## demo: build, make images, and show an upgrade, a rollback and the configuration coming back
demo: deps
	$(Q)$(MAKE) --no-print-directory all
	$(Q)qemu/demo

## demo-cluster: the same with a controller and three engines, one of which joins after the upgrade, and one is off meanwhile
demo-cluster: deps
	$(Q)$(MAKE) --no-print-directory all
	$(Q)qemu/demo-cluster

## test: everything that must pass before a change lands
test: deps
	$(Q)tests/all

## bench: the figures of the README, side by side with what they are held against
bench: all
	$(Q)tests/bench/run

## bench-install: installing and updating against dd, SWUpdate, RAUC, bmaptool, and what it must reach; RUNS=5, CPUS=all, STAGES=1 (root, loop devices)
bench-install: all $(BUILD)/bench/launch $(BUILD)/bench/large $(BUILD)/bench/chunks
	$(Q)BOOTMGR_BUILD=$(BUILD) tests/bench/install $(if $(RUNS),--runs $(RUNS)) $(if $(CPUS),--cpus $(CPUS)) $(if $(STAGES),--stages)

$(BUILD)/bench/launch $(BUILD)/bench/large: $(BUILD)/bench/%: $(BUILD)/obj/tests/bench/%.o
	$(call say,LINK,$@)
	$(Q)mkdir -p $(@D) && $(LINK) -o $@ $^

$(BUILD)/bench/chunks: $(BUILD)/obj/tests/bench/chunks.o $(BUILD)/libbootmgr.a
	$(call say,LINK,$@)
	$(Q)mkdir -p $(@D) && $(LINK) -o $@ $^ $(LIB_LDLIBS) -lpthread

## bench-chunking: what each way of chunking fetches after real security updates, beside RAUC, casync and zchunk
bench-chunking: all $(BUILD)/bench/chunks
	$(Q)tests/bench/chunking

## bench-link: how full a slow and a lossy link is kept (root; network namespaces)
bench-link: all $(BUILD)/bench/launch
	$(Q)tests/bench/link

SIMULATOR_SRC := $(wildcard tests/cluster/*.c)
$(BUILD)/tests/cluster/simulator: $(call obj,$(SIMULATOR_SRC)) $(BUILD)/libbootmgr.a
	$(call say,LINK,$@)
	$(Q)mkdir -p $(@D) && $(LINK) -o $@ $^ $(LIB_LDLIBS) -lssl -lm -lacl -lpthread

## bench-cluster: what 100, 1,000 and 5,000 simulated engines cost a real controller, and how well they switch together; ENGINES=N
bench-cluster: all $(BUILD)/tests/cluster/simulator
	$(Q)BUILD=$(BUILD) tests/bench/cluster $(if $(ENGINES),--engines $(ENGINES)) $(if $(SEED),--seed $(SEED))

## install: into DESTDIR; STRIP= names another strip, or none
install: all
	$(Q)BUILD='$(BUILD)' DESTDIR='$(DESTDIR)' PREFIX='$(PREFIX)' SYSCONFDIR='$(SYSCONFDIR)' STRIP='$(STRIP)' units/install

## clean: remove what was built (the guest images too)
clean:
	$(Q)rm -rf build

-include $(shell find $(BUILD)/obj $(BUILD)/obj-recover -name '*.d' 2>/dev/null)
