package piv

/*
#cgo LDFLAGS: -ldl
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

// The part of PC/SC that is used here, with the types of pcsc-lite on Linux: LONG, DWORD and handles are machine words. The library is
// loaded when it is wanted, so that the program runs where there is none.
typedef struct { unsigned long protocol, length; } hanaper_pci;
typedef struct {
	long (*establish)(unsigned long, const void *, const void *, long *);
	long (*release)(long);
	long (*list)(long, const char *, char *, unsigned long *);
	long (*connect)(long, const char *, unsigned long, unsigned long, long *, unsigned long *);
	long (*disconnect)(long, unsigned long);
	long (*begin)(long);
	long (*end)(long, unsigned long);
	long (*transmit)(long, const hanaper_pci *, const unsigned char *, unsigned long, hanaper_pci *, unsigned char *, unsigned long *);
} hanaper_pcsc;

static int hanaper_load(hanaper_pcsc *f) {
	void *l = dlopen("libpcsclite.so.1", RTLD_NOW);
	if (l == NULL)
		return 0;
	f->establish = dlsym(l, "SCardEstablishContext");
	f->release = dlsym(l, "SCardReleaseContext");
	f->list = dlsym(l, "SCardListReaders");
	f->connect = dlsym(l, "SCardConnect");
	f->disconnect = dlsym(l, "SCardDisconnect");
	f->begin = dlsym(l, "SCardBeginTransaction");
	f->end = dlsym(l, "SCardEndTransaction");
	f->transmit = dlsym(l, "SCardTransmit");
	return f->establish && f->release && f->list && f->connect && f->disconnect && f->begin && f->end && f->transmit;
}

static long hanaper_establish(hanaper_pcsc *f, long *context) { return f->establish(2, NULL, NULL, context); }
static long hanaper_release(hanaper_pcsc *f, long context) { return f->release(context); }
static long hanaper_list(hanaper_pcsc *f, long context, char *names, unsigned long *size) { return f->list(context, NULL, names, size); }
static long hanaper_connect(hanaper_pcsc *f, long context, const char *reader, long *card, unsigned long *protocol) {
	return f->connect(context, reader, 2, 3, card, protocol); // shared; T=0 or T=1
}
static long hanaper_disconnect(hanaper_pcsc *f, long card) { return f->disconnect(card, 0); }
static long hanaper_begin(hanaper_pcsc *f, long card) { return f->begin(card); }
static long hanaper_end(hanaper_pcsc *f, long card) { return f->end(card, 0); }
static long hanaper_transmit(hanaper_pcsc *f, long card, unsigned long protocol, const unsigned char *send, unsigned long n, unsigned char *answer, unsigned long *size) {
	hanaper_pci pci = { protocol, sizeof pci };
	return f->transmit(card, &pci, send, n, NULL, answer, size);
}
*/
import "C"

import (
	"fmt"
	"strings"
	"sync"
	"time"
	"unsafe"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
)

// library loads libpcsclite once a process. It is never unloaded.
var library = sync.OnceValues(func() (*C.hanaper_pcsc, error) {
	f := (*C.hanaper_pcsc)(C.calloc(1, C.sizeof_hanaper_pcsc))
	if C.hanaper_load(f) == 0 {
		return nil, advice.New(advice.Failed, "install it; Debian: apt install libpcsclite1 pcscd", "libpcsclite.so.1 cannot be loaded, so card readers cannot be used directly")
	}
	return f, nil
})

// saying is what the codes of PC/SC mean that people meet.
var saying = map[uint32][2]string{
	0x80100009: {"no such reader", "`pcsc_scan` and `hanaper token list` show the readers"},
	0x8010000b: {"another program uses the card alone", "end that program"},
	0x8010000c: {"no card is in the reader", "put the card in"},
	0x8010000f: {"no protocol is agreed with the card", "put it in again"},
	0x8010001d: {"no PC/SC service runs", "start pcscd"},
	0x8010001e: {"the PC/SC service stopped", "start pcscd"},
	0x8010002e: {"there is no reader", "connect a card reader, and look whether pcscd runs"},
	0x80100066: {"the card does not answer", "put it in again, the right way up"},
	0x80100067: {"the card has no power", "put it in again"},
	0x80100068: {"the card was reset by another program", "try again"},
	0x80100069: {"the card was pulled", "put it in again"},
	0x8010006a: {"the card refuses access", "see pcscd's own log"},
}

func pcsc(rv C.long, what string) error {
	code := uint32(rv)
	if code == 0 {
		return nil
	}
	switch code {
	case 0x8010000c:
		return advice.New(advice.Failed, saying[code][1], "%s: %w (PC/SC 0x%08x)", what, ErrNoCard, code)
	case 0x8010000f, 0x80100066, 0x80100067, 0x80100068:
		return advice.New(advice.Failed, saying[code][1], "%s: %s: %w (PC/SC 0x%08x)", what, saying[code][0], errReset, code)
	}
	if s, known := saying[code]; known {
		return advice.New(advice.Failed, s[1], "%s: %s (PC/SC 0x%08x)", what, s[0], code)
	}
	return advice.New(advice.Failed, "see pcscd's own log", "%s: PC/SC answered 0x%08x", what, code)
}

// Readers lists the readers, with and without a card.
func Readers() ([]string, error) {
	f, err := library()
	if err != nil {
		return nil, err
	}
	var context C.long
	if err := pcsc(C.hanaper_establish(f, &context), "PC/SC"); err != nil {
		return nil, err
	}
	defer C.hanaper_release(f, context)
	names := make([]byte, 1<<14)
	size := C.ulong(len(names))
	rv := C.hanaper_list(f, context, (*C.char)(unsafe.Pointer(&names[0])), &size)
	if uint32(rv) == 0x8010002e {
		return nil, nil
	}
	if err := pcsc(rv, "PC/SC: list readers"); err != nil {
		return nil, err
	}
	var list []string
	for name := range strings.SplitSeq(string(names[:min(int(size), len(names))]), "\x00") {
		if name != "" {
			list = append(list, name)
		}
	}
	return list, nil
}

// connection is a card in a reader, which nobody else uses until it is closed.
type connection struct {
	f             *C.hanaper_pcsc
	context, card C.long
	protocol      C.ulong
	reader        string
}

// connect waits for a card that another program holds, and not for ever: libpcsclite has no end for that.
func connect(reader string) (*connection, error) {
	type answer struct {
		c   *connection
		err error
	}
	answers := make(chan answer)
	late := time.NewTimer(patience)
	defer late.Stop()
	gone := make(chan struct{})
	go func() {
		c, err := begin(reader)
		select {
		case answers <- answer{c, err}:
		case <-gone:
			if err == nil {
				c.close()
			}
		}
	}()
	select {
	case a := <-answers:
		return a.c, a.err
	case <-late.C:
		close(gone)
		return nil, advice.New(advice.Failed, "end that program", "reader %s: %w for %v", show.Text(reader), ErrHeld, patience)
	}
}

// patience is how long a card may be held by another program.
const patience = 10 * time.Second

func begin(reader string) (*connection, error) {
	f, err := library()
	if err != nil {
		return nil, err
	}
	c := &connection{f: f, reader: reader}
	if err := pcsc(C.hanaper_establish(f, &c.context), "PC/SC"); err != nil {
		return nil, err
	}
	name := C.CString(reader)
	defer C.free(unsafe.Pointer(name))
	what := fmt.Sprintf("reader %s", show.Text(reader))
	if err := pcsc(C.hanaper_connect(f, c.context, name, &c.card, &c.protocol), what); err != nil {
		C.hanaper_release(f, c.context)
		return nil, err
	}
	if err := pcsc(C.hanaper_begin(f, c.card), what); err != nil {
		C.hanaper_disconnect(f, c.card)
		C.hanaper_release(f, c.context)
		return nil, err
	}
	return c, nil
}

func (c *connection) close() {
	C.hanaper_end(c.f, c.card)
	C.hanaper_disconnect(c.f, c.card)
	C.hanaper_release(c.f, c.context)
}

func (c *connection) transmit(command []byte) ([]byte, error) {
	answer := make([]byte, 1<<16)
	size := C.ulong(len(answer))
	rv := C.hanaper_transmit(c.f, c.card, c.protocol, (*C.uchar)(unsafe.Pointer(&command[0])), C.ulong(len(command)), (*C.uchar)(unsafe.Pointer(&answer[0])), &size)
	if err := pcsc(rv, fmt.Sprintf("reader %s", show.Text(c.reader))); err != nil {
		return nil, err
	}
	return answer[:min(int(size), len(answer))], nil
}
