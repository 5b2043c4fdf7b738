# make demo and make test install what they need; see README.md.
SHELL := /bin/bash
PROGRAMS := hanaper hanaperd hanaper-station hanaper-repo hanaper-sign hanaper-gateway hanaper-kms
# A tag is named by whoever may push one, and its name goes into a shell: what could be more than a version there is none.
VERSION ?= $(or $(shell git describe --tags --always --dirty 2>/dev/null | grep -xE "[0-9A-Za-z._+-]+"),devel)
LDFLAGS := -s -w -bindnow -X github.com/hanaper/hanaper/internal/shell.Version=$(VERSION)
# Pure Go resolver and user look-up everywhere: fewer system calls at the air gap, and one compilation serves all programs.
# hanaper-kms knows YubiKeys where libpcsclite-dev is there.
comma := ,
TAGS := netgo,osusergo$(if $(shell pkg-config --exists libpcsclite 2>/dev/null && echo yes),,$(comma)noyubikey)
# The gateway names the types of what it asks PostgreSQL by itself: the driver's own table of Go types is a megabyte.
SMALL := nopgxregisterdefaulttypes
GOFLAGS_BUILD := -trimpath -tags $(TAGS) -buildvcs=false -ldflags "$(LDFLAGS)"
FUZZTIME ?= 20s
export CGO_ENABLED := 1

.PHONY: all tags build packages packages-test release demo board image image-lock image-sources image-sources-lock image-test image-compare test matrix cover lint vuln fuzz mutants bench soak docs man install clean

all: build

## build: the programs, in bin/: position-independent, with all that the loader fills in made read-only; the gateway, which has no loader, is static
build:
	$(if $(filter-out hanaper-gateway,$(PROGRAMS)),go build -buildmode=pie $(GOFLAGS_BUILD) -o bin/ $(patsubst %,./cmd/%,$(filter-out hanaper-gateway,$(PROGRAMS))))
	CGO_ENABLED=0 go build $(subst -tags ,-tags $(SMALL)$(comma),$(GOFLAGS_BUILD)) -o bin/ ./cmd/hanaper-gateway

# For scripts/test.
tags:
	@echo $(TAGS)

## demo: the main job on throw-away tokens, on loopback, in the folder demo/
demo:
	scripts/install-peers demo
	$(MAKE) -s build PROGRAMS="$(filter-out hanaper-kms,$(PROGRAMS)) hanaper-demo"
	bin/hanaper-demo run --bin bin --dir demo

## board: simulated boards, one with a SoftHSM token, one a virtual machine with a TPM, provisioned and updated; KEEP=--keep goes on, DIR=FOLDER works there
board:
	scripts/install-peers board
	scripts/kernel bin/kernel
	$(MAKE) -s build PROGRAMS="$(filter-out hanaper-kms,$(PROGRAMS)) hanaper-demo"
	go build -buildmode=pie $(GOFLAGS_BUILD) -o bin/board/hanaper-board ./softhsm/boardtest
	CGO_ENABLED=0 go build $(GOFLAGS_BUILD) -o bin/board/hanaper-board-guest ./softhsm/boardtest
	bin/hanaper-demo board --bin bin --boards bin/board --kernel bin/kernel --dir $(or $(DIR),board) $(KEEP)

## image: the ceremony image, in image/out/, from the packages in image/packages.lock
image:
	scripts/install-peers image
	image/make

## image-test: the image made, and started in a virtual machine: a ceremony by its menu, a plug pulled, an auditor; MADE=1 takes the one in image/out
image-test:
	scripts/install-peers test
	$(if $(MADE),,HANAPER_IMAGE_ANEW=1 $(MAKE) -s image)
	HANAPER_IMAGE=$(CURDIR)/image/out go test -count 1 -timeout 30m -v -run 'TestImage$$|TestImagePage$$|TestSecretsAreFound$$' ./image/imagetest

## image-lock: image/packages.lock written anew, with what Debian's archive has today
image-lock:
	go run ./image/build lock

## image-sources: the source packages of everything in the image, in image/sources/, as image/sources.lock has them; goes on where it stopped. ONLY=NAME fetches one
image-sources:
	go run ./image/build sources $(if $(ONLY),--only $(ONLY))

## image-sources-lock: image/sources.lock written anew, for image/packages.lock
image-sources-lock:
	scripts/install-peers image
	go run ./image/build fetch
	go run ./image/build sources-lock

## image-compare: the image made twice, in two folders, and compared
image-compare:
	scripts/install-peers image
	image/twice
	HANAPER_IMAGE=$(CURDIR)/image/out go test -count 1 -run '^TestMade$$' ./image/build

## test: all tests, against real peers; most with the race detector
test:
	scripts/install-peers test
	scripts/test

## matrix: docs/pkcs11.md's table, written anew from a run on every PKCS#11 token that runs here
matrix:
	scripts/install-peers test
	go test -count=1 -run '^TestMatrix$$' ./hsm/pkcs11 -update

## cover: statement coverage of each package
cover:
	scripts/install-peers test
	go test -cover ./...

## lint: formatting, vet, and the shell scripts
lint:
	scripts/install-peers lint
	scripts/lint

## vuln: known vulnerabilities in what is linked
vuln:
	go run golang.org/x/vuln/cmd/govulncheck@v1.1.4 ./...

## fuzz: every fuzz target for FUZZTIME (20s)
fuzz:
	scripts/install-peers test
	FUZZTIME=$(FUZZTIME) scripts/fuzz

## mutants: the program changed in one place at a time; fails where no test notices. RUN=REGEXP changes some
mutants:
	scripts/install-peers test
	scripts/mutants -run "$(RUN)"

## bench: ours beside its peers, in one run; BENCH=NAME runs one
bench:
	scripts/install-peers test
	scripts/bench $(BENCH)

## soak: the crash and outage tests, for longer, and every fuzz target for 5 minutes
soak:
	scripts/install-peers test
	scripts/soak

## docs: a site of all pages, in site/, to be read and searched without a network
docs:
	scripts/install-peers test
	$(MAKE) -s build PROGRAMS="$(filter-out hanaper-kms,$(PROGRAMS)) hanaper-demo"
	scripts/docs site

## man: manual pages, in bin/man/
man: build
	mkdir -p bin/man
	for p in $(PROGRAMS); do bin/$$p man > bin/man/$$p.1 || exit 1; done

## install: the programs, manual pages and completions, under PREFIX (/usr/local)
PREFIX ?= /usr/local
install: man
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/share/man/man1 $(DESTDIR)$(PREFIX)/share/bash-completion/completions
	for p in $(PROGRAMS); do \
	  install -m 0755 bin/$$p $(DESTDIR)$(PREFIX)/bin/ && \
	  install -m 0644 bin/man/$$p.1 $(DESTDIR)$(PREFIX)/share/man/man1/ && \
	  bin/$$p completion bash > $(DESTDIR)$(PREFIX)/share/bash-completion/completions/$$p || exit 1; done

## packages: Debian packages of all programs, in bin/packages/
packages:
	scripts/install-peers packaging
	$(MAKE) -s build
	packaging/build

## packages-test: the packages in a clean Debian root, booted: installed, the chain run by the units, upgraded, lost and restored, removed; RELEASES=names
packages-test: packages
	$(MAKE) -s build PROGRAMS=hanaper-demo
	packaging/test $(or $(RELEASES),bookworm)

## release: a release in bin/release/, to be signed in a ceremony: programs, packages, SBOMs, the ceremony image, manifest and digests, of the commit at hand, which has a tag
release:
	packaging/release

clean:
	rm -rf bin demo board site
